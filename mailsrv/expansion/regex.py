"""Regular expressions of the configuration: PCRE's syntax, run by ``re`` on octets.

What differs in syntax alone is translated (``\\z``, ``[[:alpha:]]``, named
groups, ``\\h``, ``\\Q…\\E``, options in the middle).  What ``re`` does not have
is an error that names the expression.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mailsrv.expansion.errors import ExpansionError

_POSIX = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z",
    "space": r"\s", "blank": r" \t", "punct": r"!-/:-@\[-`{-~", "xdigit": "0-9A-Fa-f",
    "word": r"\w", "cntrl": r"\x00-\x1f\x7f", "print": " -~", "graph": "!-~",
}  # fmt: skip
_TOKEN = re.compile(
    r"\\Q(?P<quoted>.*?)(?:\\E|\Z)|\\(?P<escape>.)|\[:(?P<posix>\^?[a-z]+):\]"
    r"|\((?P<option>\?[a-zA-Z]+)\)|\(\?<(?P<named>[A-Za-z_])|(?P<bracket>[][])",
    re.DOTALL,
)
_ESCAPES = {"z": r"\Z", "Z": r"(?=\n?\Z)", "h": r"[ \t]", "R": r"(?:\r\n|\n|\r)", "A": r"\A"}


class _Translation:
    """Rewrites one expression, knowing whether it is inside a character class."""

    def __init__(self) -> None:
        self.in_class = False
        self.flags = ""

    def __call__(self, match: re.Match[str]) -> str:
        if match["quoted"] is not None:
            return re.escape(match["quoted"])
        if match["escape"] is not None:
            return self._escape(match)
        if match["posix"] is not None:
            return self._posix(match)
        if match["bracket"]:
            return self._bracket(match)
        if self.in_class:
            return match[0]
        if match["option"] is not None:
            return self._option(match)
        return f"(?P<{match['named']}"

    def _escape(self, match: re.Match[str]) -> str:
        if self.in_class:
            return r" \t" if match["escape"] == "h" else match[0]
        letter = match["escape"]
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        # "\<letter>" without a meaning is the letter itself to PCRE, an error to re
        if letter.isalpha() and letter not in "bBdDsSwWnrtfvxaA":
            return letter
        return match[0]

    def _posix(self, match: re.Match[str]) -> str:
        name = match["posix"]
        if not self.in_class or name not in _POSIX:
            return match[0]
        return _POSIX[name]

    def _bracket(self, match: re.Match[str]) -> str:
        if match[0] == "]":
            self.in_class = False
            return match[0]
        if self.in_class:
            return r"\["
        self.in_class = True
        return match[0]

    def _option(self, match: re.Match[str]) -> str:
        self.flags += match["option"][1:]
        return ""


def _leading_bracket(pattern: str) -> str:
    """Escape a "]" that stands first in a class, where it is literal."""
    return re.sub(r"(?<!\\)\[(\^?)\]", r"[\1\\]", pattern)


@lru_cache(maxsize=2000)
def compile_regex(pattern: str, *, caseless: bool = False) -> re.Pattern[str]:
    """Compile an expression.

    :raises ExpansionError: as Exim: "regular expression error in …".
    """
    translation = _Translation()
    text = _TOKEN.sub(translation, _leading_bracket(pattern))
    flags = re.ASCII | (re.IGNORECASE if caseless else 0)
    for letter in translation.flags:
        flags |= {"i": re.I, "s": re.S, "m": re.M, "x": re.X}.get(letter, re.RegexFlag(0))
    try:
        return re.compile(text, flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise ExpansionError(f'regular expression error in "{pattern}": {error}') from None


def groups(match: re.Match[str]) -> tuple[str, ...]:
    """The values of ``$0``, ``$1`` … after a match."""
    return (match[0], *(group or "" for group in match.groups()))

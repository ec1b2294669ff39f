"""Regular expressions of the configuration, run by PCRE2 on octets (specification 8).

:raises ExpansionError: an expression that is none, and a search that takes too long.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from mailsrv.expansion import pcre2
from mailsrv.expansion.errors import ExpansionError

_UNSET = (1 << (8 * 8)) - 1  # PCRE2_UNSET, a size_t


class Match:
    """What matched: the whole, and groups by number."""

    __slots__ = ("_offsets", "_subject", "captures")

    def __init__(self, subject: str, offsets: list[int], captures: int) -> None:
        self._subject = subject
        self._offsets = offsets
        self.captures = captures

    def __getitem__(self, number: int) -> str:
        """The text of a group, "" if it took no part."""
        if 2 * number >= len(self._offsets) or self._offsets[2 * number] == _UNSET:
            return ""
        return self._subject[self._offsets[2 * number] : self._offsets[2 * number + 1]]

    def start(self) -> int:
        """Where the match starts."""
        return self._offsets[0]

    def end(self) -> int:
        """Where it ends."""
        return self._offsets[1]

    def groups(self) -> tuple[str, ...]:
        """The texts of the groups from 1 to the last that took part."""
        return tuple(self[number] for number in range(1, len(self._offsets) // 2))


class Pattern:
    """A compiled expression."""

    __slots__ = ("_code", "pattern")

    def __init__(self, pattern: str, code: pcre2.Code) -> None:
        self.pattern = pattern
        self._code = code

    def _search(self, subject: bytes, start: int, retry: bool) -> list[int] | None:
        try:
            return self._code.search(subject, start, retry=retry)
        except pcre2.LimitError as error:
            raise ExpansionError(f'regular expression "{self.pattern}": {error}') from None

    def search(self, subject: str) -> Match | None:
        """The first match.

        :raises ExpansionError: it takes too long.
        """
        offsets = self._search(subject.encode("latin-1"), 0, False)
        return Match(subject, offsets, self._code.captures) if offsets else None

    def finditer(self, subject: str) -> Iterator[Match]:
        """All matches, each after the one before; after an empty one a longer one in its place."""
        raw = subject.encode("latin-1")
        start, empty = 0, False
        while start <= len(raw):
            offsets = self._search(raw, start, empty)
            if offsets is None:
                if not empty:
                    return
                start, empty = start + 1, False
                continue
            yield Match(subject, offsets, self._code.captures)
            start = offsets[1]
            empty = offsets[0] == offsets[1]
            if empty and start == len(raw):
                return


@lru_cache(maxsize=2000)
def compile_regex(pattern: str, *, caseless: bool = False) -> Pattern:
    """Compile an expression.

    :raises ExpansionError: as Exim: "regular expression error in …".
    """
    try:
        code = pcre2.Code(pattern.encode("latin-1"), pcre2.CASELESS if caseless else 0)
    except (pcre2.PatternError, OSError) as error:
        raise ExpansionError(f'regular expression error in "{pattern}": {error}') from None
    return Pattern(pattern, code)


def groups(match: Match) -> tuple[str, ...]:
    """The values of ``$0``, ``$1`` … after a match."""
    return (match[0], *match.groups())

"""The rewrite section of the configuration (chapter 31).

Rules are read, so that their faults are named; a rule that is read is refused,
because addresses are not rewritten: it would be ignored without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from mailsrv.errors import ConfigError, Position

FLAGS = "EFTbcfhrstSQqRw"


class ILine(Protocol):
    """A line of the configuration: its text and place."""

    @property
    def text(self) -> str:
        """The line, without surrounding white space."""

    @property
    def where(self) -> Position:
        """Its place in the file."""


@dataclass(frozen=True, slots=True)
class RewriteRule:
    """A rule: which addresses, what they become, and where it applies (31.4)."""

    pattern: str
    replacement: str
    flags: str
    where: Position


@dataclass(frozen=True, slots=True)
class RewriteRules:
    """The rules of a configuration, in order."""

    rules: tuple[RewriteRule, ...] = ()


_FIELD = re.compile(r'[ \t]*(?:"((?:[^"\\]|\\.)*)"(?=[ \t]|\Z)|([^ \t"][^ \t]*))')


def parse_section(lines: Iterable[ILine]) -> tuple[RewriteRules, list[ConfigError]]:
    """Read the section's lines; each rule is also an error, see above."""
    rules: list[RewriteRule] = []
    errors: list[ConfigError] = []
    for line in lines:
        try:
            rules.append(parse_rule(line.text, line.where))
        except ConfigError as error:
            errors.append(error)
        else:
            problem = "rewriting of addresses is known to Exim, not to mailsrv"
            errors.append(ConfigError(problem, line.where))
    return RewriteRules(tuple(rules)), errors


def parse_rule(text: str, where: Position) -> RewriteRule:
    """Read one rule.

    :raises ConfigError: it is malformed.
    """
    pattern, rest = _field(text, where)
    replacement, rest = _field(rest, where)
    flags = re.sub(r"[ \t]", "", rest)
    unknown = [flag for flag in flags if flag not in FLAGS]
    if unknown:
        raise ConfigError(f"unknown rewrite flag character '{unknown[0]}'", where)
    if "S" in flags and not pattern.startswith("^"):
        raise ConfigError("rewrite rule has the S flag but is not a regular expression", where)
    return RewriteRule(pattern, replacement, flags, where)


def _field(text: str, where: Position) -> tuple[str, str]:
    found = _FIELD.match(text)
    if found is None:
        raise ConfigError("missing or malformed rewrite pattern or replacement", where)
    quoted = found[1]
    value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else found[2]
    return value, text[found.end() :]

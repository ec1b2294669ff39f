"""The ``retry`` section: which rule applies to a failure (specification chapter 32).

A rule is ``pattern error [senders=list] parameters``.  Patterns are single
items of an address list; the usual ones are matched here, all others (named
lists, lookups, expansions) through the matcher that the builder hands in.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mailsrv.config.types import parse_time, show_time
from mailsrv.errors import ConfigError, Position
from mailsrv.mail.case import lower

Matcher = Callable[[str, str], Awaitable[bool]]  # (address list, address)

ERRORS = frozenset(
    {
        "*", "auth_failed", "lost_connection", "lookup", "refused_MX", "refused_A", "refused",
        "timeout_connect_MX", "timeout_connect_A", "timeout_connect", "timeout_MX", "timeout_A",
        "timeout", "tls_required", "quota",
    }
)  # fmt: skip
_BY_LOWER = {name.lower(): name for name in ERRORS} | {
    "timeout_dns": "timeout"  # Exim: "it has never worked - treated as timeout"
}
_SMTP_ERROR = re.compile(r"(mail|rcpt|data)_(4(?:xx|[0-9]x|[0-9][0-9]))", re.ASCII)
_WORD = re.compile(r'\s*((?:[^\s"]|"(?:[^"\\]|\\.)*")+)')
_SENDERS = re.compile(r"\A[ \t]+senders[ \t]*=[ \t]*")
_SIMPLE = re.compile(r"(?:[^@:!+$;^*/\\]+@|\*@)?\*?[A-Za-z0-9._-]*", re.ASCII)


class SectionLine(Protocol):
    """A line of a section, as ``config.lines`` gives it: macros replaced, continuations joined."""

    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def where(self) -> Position: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Parameters:
    """One ``letter,cutoff,arguments``; times in seconds, the factor as written."""

    letter: str  # F, G or H
    cutoff: float
    interval: float
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Rule:
    """One retry rule; ``senders`` is None if it is for any sender.  No parameters: no retry."""

    pattern: str
    error: str
    senders: str | None
    parameters: tuple[Parameters, ...]
    where: Position | None = None

    @property
    def cutoff(self) -> float:
        """Seconds of failing after which it is given up."""
        return self.parameters[-1].cutoff if self.parameters else 0.0


class RetryRules:
    """The rules in order; ``match`` decides on patterns that are not simple."""

    def __init__(self, rules: Sequence[Rule] = (), match: Matcher | None = None) -> None:
        self.rules = tuple(rules)
        self._match = match

    def matching(self, match: Matcher) -> RetryRules:
        """Return these rules with what decides on patterns that are not simple."""
        return RetryRules(self.rules, match)

    async def find(
        self, subjects: Sequence[str], error: str, sender: str | None = None, more: str = ""
    ) -> Rule | None:
        """Return the first rule for a failure; None: no rule, no retry.

        ``subjects`` are tried in order with each rule: addresses, or domains
        and host names alone.  ``more`` is what the error is qualified with.

        :raises TemporaryFailure: a lookup in a pattern cannot be done now.
        """
        for rule in self.rules:
            if not error_matches(rule.error, error, more):
                continue
            if rule.senders is not None and not await self._sender(rule.senders, sender):
                continue
            for subject in subjects:
                if await self._matches(rule.pattern, subject):
                    return rule
        return None

    async def _sender(self, senders: str, sender: str | None) -> bool:
        if sender is None:
            return False
        items = [item.strip(" \t") for item in senders.split(":")]
        if all(item == "" or _SIMPLE.fullmatch(item) for item in items):
            items = [item for item in items if item] + ([""] if "" in items[:-1] else [])
            return any(sender == "" if item == "" else matches(item, sender) for item in items)
        return self._match is not None and await self._match(senders, sender)

    async def _matches(self, pattern: str, subject: str) -> bool:
        if _SIMPLE.fullmatch(pattern):
            return matches(pattern, subject)
        address = subject if "@" in subject else f"*@{subject}"
        return self._match is not None and await self._match(pattern, address)


def matches(pattern: str, subject: str) -> bool:
    """Match ``*``, ``domain``, ``*.domain`` and ``local_part@domain``; a domain is ``*@domain``."""
    local_part, at, domain = pattern.rpartition("@")
    subject_local, subject_at, subject_domain = subject.rpartition("@")
    if at and local_part != "*" and (not subject_at or local_part != subject_local):
        return False
    domain, subject_domain = lower(domain), lower(subject_domain)
    if domain.startswith("*"):
        return subject_domain.endswith(domain[1:])
    return domain == subject_domain


def error_matches(rule: str, error: str, more: str = "") -> bool:
    """Tell whether a rule's error name covers an error (specification 32.5).

    ``error`` may carry its qualifier (``refused_MX``, ``rcpt_452``,
    ``quota_86400``) or have it in ``more``.
    """
    if rule == "*":
        return True
    if more and not error.endswith(more):
        error = error.replace("4xx", "4" + more[-2:]) if "4xx" in error else f"{error}_{more}"
    smtp = _SMTP_ERROR.fullmatch(rule)
    if smtp is not None:
        digits = smtp[2].rstrip("x")
        return error.startswith(f"{smtp[1]}_{digits}")
    if rule.startswith("quota"):
        name, _, unread = error.partition("_")
        if name != "quota" or rule == "quota":
            return name == rule
        return unread.isascii() and unread.isdigit() and int(unread) >= parse_time(rule[6:])
    if rule in ("timeout", "timeout_MX", "timeout_A"):
        if not error.startswith("timeout"):
            return False
        return error.endswith(rule[7:])
    return error == rule or error in (f"{rule}_MX", f"{rule}_A")


def parse_section(lines: Sequence[SectionLine]) -> tuple[RetryRules, list[ConfigError]]:
    """Read the section's lines; each fault names its line."""
    rules: list[Rule] = []
    errors: list[ConfigError] = []
    for line in lines:
        text = line.text.strip(" \t\r\n")
        if not text or text.startswith("#"):
            continue
        try:
            rules.append(parse_rule(text, line.where))
        except ConfigError as error:
            errors.append(error)
    return RetryRules(rules), errors


def parse_rule(text: str, where: Position) -> Rule:
    """Read one rule.

    :raises ConfigError: syntax, an unknown error name, or parameters that make no sense.
    """
    words: list[str] = []
    position = 0
    while len(words) < 3 and (found := _WORD.match(text, position)):
        words.append(found[1])
        position = found.end()
        if len(words) == 2:
            text = text[:position] + _SENDERS.sub(" senders=", text[position:])
            if not text[position:].startswith(" senders="):
                break
    if len(words) < 2:
        raise ConfigError("a retry rule needs a pattern and an error name", where)
    try:
        error = error_name(words[1])
    except ValueError as fault:
        raise ConfigError(str(fault), where) from None
    senders = _unquote(words[2][8:]) if len(words) == 3 else None
    sets = [item.strip(" \t") for item in text[position:].split(";")]
    if not sets[-1]:
        sets.pop()
    parameters = tuple(_parameters(item, where) for item in sets)
    return Rule(_unquote(words[0]), error, senders, parameters, where)


def error_name(text: str) -> str:
    """Return an error's name as this module writes it; Exim takes words in any case, not letters.

    :raises ValueError: there is no such error; in Exim's words.
    """
    lowered = text.lower()
    if lowered in _BY_LOWER:
        return _BY_LOWER[lowered]
    if lowered.startswith("quota_"):
        try:
            return f"quota_{show_time(parse_time(text[6:]))}"
        except ConfigError:
            raise ValueError("bad time value") from None
    if lowered.startswith(("mail_4", "rcpt_4", "data_4")):
        if _SMTP_ERROR.fullmatch(lowered) and lowered[6:] == text[6:]:
            return lowered
        words = "must be followed by xx, dx, or dd, where x is literal and d is any digit"
        raise ValueError(f"{text[:6]} {words}")
    raise ValueError(f'unknown or malformed retry error "{text}"')


def _parameters(text: str, where: Position) -> Parameters:
    letter, *values = [value.lstrip(" \t") for value in text.rstrip(" \t").split(",")]
    if any(value.endswith((" ", "\t")) for value in (letter, *values)):
        raise ConfigError(f"comma expected in {text!r}", where, "no blank before a comma")
    letter = letter.upper()
    if letter not in ("F", "G", "H"):
        raise ConfigError(f'unknown retry algorithm letter "{letter}"', where, "F, G or H")
    wanted = 2 if letter == "F" else 3
    if len(values) != wanted:
        raise ConfigError(f"retry parameters {text!r}: {letter} needs {wanted} values", where)
    cutoff, interval = parse_time(values[0], where), parse_time(values[1], where)
    factor = 1.0
    if letter != "F":
        if not re.fullmatch(r"[0-9]+(\.[0-9]*)?", values[2], re.ASCII):
            raise ConfigError(f"{values[2]!r} is no multiplier", where)
        factor = float(values[2])
    if cutoff <= 0 or interval <= 0 or factor < 1:
        raise ConfigError(f"bad parameters for retry rule: {text}", where)
    return Parameters(letter, float(cutoff), float(interval), factor)


def _unquote(word: str) -> str:
    if len(word) > 1 and word[0] == word[-1] == '"':
        return re.sub(r"\\(.)", r"\1", word[1:-1])
    return word

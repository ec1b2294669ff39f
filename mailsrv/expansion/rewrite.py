"""Rewriting of addresses (chapter 31): the rules, and what they make of an address.

Rules are read once; :class:`Rewriter` applies them.  An address is known by the
letter of the place where it stands: ``F`` and ``T`` in the envelope, ``b`` ``c``
``f`` ``r`` ``s`` ``t`` in the header.

:raises LookupDeferred: a lookup cannot be done now.  Any other fault of a rule
    is written to the panic log, and leaves the address as it is by then (31.6).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mailsrv.errors import ConfigError, Position
from mailsrv.expansion.errors import ExpansionError, ForcedFailure, LookupDeferred
from mailsrv.expansion.lists import match_one, split_list
from mailsrv.expansion.mailboxes import (
    Malformed,
    Place,
    places_of,
    read_one,
    replaced,
    without_comments,
)
from mailsrv.expansion.regex import compile_regex, groups
from mailsrv.expansion.rfc2047 import encode
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import Template, compile_string
from mailsrv.mail.address import split
from mailsrv.mail.case import lower
from mailsrv.mail.header import Header
from mailsrv.mail.taint import Tainted, like

FLAGS = "EFTbcfhrstSQqRw"
SENDER, RECIPIENT = "F", "T"
FIELDS = {"bcc": "b", "cc": "c", "from": "f", "reply-to": "r", "sender": "s", "to": "t"}
# as the log calls them
_NAMES = {letter: f"{name}:" for name, letter in FIELDS.items()} | {
    SENDER: "env-from",
    RECIPIENT: "env-to",
}
_SMTP = "smtp"
_TO_QUOTE, _QUOTED = re.compile(r"[.,;:@\[\]]"), re.compile(r'["\\]')
_NOT_PLAIN = re.compile(r"[^\t\x20-\x7e]")
_PARAMETERS = re.compile(
    r"(?:[ \t]+(?:SIZE|BODY|AUTH|RET|ENVID|SMTPUTF8|NOTIFY|ORCPT|PRDR)(?:=[^ \t]*)?)*[ \t]*\Z",
    re.IGNORECASE,
)
_PLACES = frozenset("EFTbcfhrst")
_ENVELOPE = frozenset("EFT")
_MOST = 10  # repetitions of a rule with R


@dataclass(frozen=True, slots=True)
class RewriteRule:
    """A rule: which addresses, what they become, and where it applies (31.4)."""

    pattern: Template
    replacement: Template
    flags: frozenset[str]
    where: Position | None = None

    def applies(self, place: str) -> bool:
        """Tell whether the rule is for addresses in a place (31.8)."""
        wanted = self.flags & _PLACES
        if not wanted:
            return "S" not in self.flags
        return place in wanted or ("E" if place in _ENVELOPE else "h") in wanted


@dataclass(frozen=True, slots=True)
class RewriteRules:
    """The rules of a configuration, or of a transport, in order."""

    rules: tuple[RewriteRule, ...] = ()

    def of(self, place: str) -> tuple[tuple[int, RewriteRule], ...]:
        """The rules for a place with their numbers, which count from 1."""
        return tuple(each for each in enumerate(self.rules, 1) if each[1].applies(place))


# --- reading -------------------------------------------------------------------


class ILine(Protocol):
    """A line of the configuration: its text and place."""

    @property
    def text(self) -> str:
        """The line, without surrounding white space."""

    @property
    def where(self) -> Position:
        """Its place in the file."""


_FIELD = re.compile(r'[ \t]*(?:"((?:[^"\\]|\\.)*)(?:"|\Z)|([^ \t"][^ \t]*))', re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def parse_section(lines: Iterable[ILine]) -> tuple[RewriteRules, list[ConfigError]]:
    """Read the section's lines."""
    rules: list[RewriteRule] = []
    errors: list[ConfigError] = []
    for line in lines:
        try:
            rules.append(parse_rule(line.text, line.where))
        except ConfigError as error:
            errors.append(error)
    return RewriteRules(tuple(rules)), errors


def parse_list(text: str, where: Position | None) -> RewriteRules:
    """Read the rules of ``headers_rewrite``, a list (31.7).

    :raises ConfigError: one is malformed, or not for headers.
    """
    rules = [parse_rule(item, where) for item in split_list(text) if item]
    for rule in rules:
        if bad := rule.flags & {"E", "F", "T", "S"}:
            problem = f"rewrite flag {min(bad)} is not permitted in headers_rewrite"
            raise ConfigError(problem, where)
    return RewriteRules(tuple(rules))


def parse_rule(text: str, where: Position | None) -> RewriteRule:
    """Read one rule.

    :raises ConfigError: it is malformed.
    """
    pattern, rest = _field(text, where)
    replacement, rest = _field(rest, where)
    flags = re.sub(r"[ \t]", "", rest)
    unknown = [flag for flag in flags if flag not in FLAGS]
    if unknown:
        problem = f"unknown rewrite flag character '{unknown[0]}'"
        raise ConfigError(problem, where, "a replacement with white space needs quotes round it")
    if "S" in flags and not pattern.startswith(("^", "\\N^")):
        raise ConfigError("rewrite rule has the S flag but is not a regular expression", where)
    return RewriteRule(
        compile_string(pattern, where),
        compile_string(replacement, where),
        frozenset(flags),
        where,
    )


def _field(text: str, where: Position | None) -> tuple[str, str]:
    found = _FIELD.match(text)
    if found is None:
        raise ConfigError("missing or malformed rewrite pattern or replacement", where)
    quoted = found[1]
    value = _ESCAPE.sub(_escaped, quoted) if quoted is not None else found[2]
    return value, text[found.end() :]


def _escaped(match: re.Match[str]) -> str:
    """What a backslash stands for within quotes (6.16)."""
    code = match[1]
    if code[0] == "x" and len(code) > 1:
        return chr(int(code[1:], 16))
    if code[0] in "01234567":
        return chr(int(code, 8) & 0xFF)
    return _CONTROLS.get(code, code)


# --- applying ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Result:
    """What an address became; ``whole`` replaces phrase and comments too (flag w)."""

    address: str
    whole: str = ""
    shown: str = ""  # in the log


class Rewriter:
    """Rules at work."""

    def __init__(self, rules: RewriteRules | None = None) -> None:
        rules = rules or RewriteRules()
        self._smtp = [each for each in enumerate(rules.rules, 1) if "S" in each[1].flags]
        self._of = {place: rules.of(place) for place in _NAMES}
        self.active = bool(self._smtp) or any(self._of.values())  # whether there is any rule

    async def address(self, address: str, place: str, scope: Scope) -> str:
        """Rewrite an address of the envelope; "" stays."""
        if not address or not self._of[place]:
            return address
        return (await self._apply(address, self._of[place], place, scope)).address

    async def headers(self, headers: Sequence[Header], scope: Scope) -> list[Header]:
        """Rewrite what the rules are for in header lines, their Resent- forms included (31.8)."""
        return [await self.header(each, scope) for each in headers]

    async def header(self, header: Header, scope: Scope) -> Header:
        """Rewrite the addresses of one header line."""
        name = header.name.lower()
        place = FIELDS.get(name.removeprefix("resent-") if name != "resent-reply-to" else "", "")
        if not place or not self._of[place]:
            return header
        before, colon, value = header.text.partition(":")
        value = await self.field(value, place, scope)
        return Header(f"{before}{colon}{value}")

    async def field(self, text: str, place: str, scope: Scope) -> str:
        """Rewrite the addresses of a header line's list, each where it stands."""
        changes = []
        for here in places_of(text):
            if not here.qualified:
                continue
            result = await self._apply(Tainted(here.address), self._of[place], place, scope)
            if result.whole:
                changes.append((here.start, here.end, result.whole))
            elif result.address != here.address:
                changes.append((here.first, here.last, result.address))
        return replaced(text, changes) if changes else text

    async def smtp(self, argument: str, what: str, scope: Scope) -> str:
        """Rewrite the argument of MAIL or RCPT before anything else is done with it (31.9).

        What stands behind the path is left out of it.  ``what`` is ``sender`` or ``recipient``.
        """
        if not self._smtp:
            return argument
        path = argument[: len(argument) - len(_parameters(argument))]
        new = (await self._apply(path, self._smtp, f"{_SMTP} {what}", scope)).address
        return argument if new == path else like(f"<{new}>{argument[len(path) :]}", argument)

    async def _apply(
        self, text: str, rules: Iterable[tuple[int, RewriteRule]], place: str, scope: Scope
    ) -> _Result:
        """Let the rules work on an address (or, at SMTP time, a path) one after another."""
        result = _Result(text)
        for number, rule in rules:
            met = False
            for _ in range(_MOST + 1):
                numbers = await _matched(rule, result.address, place, scope)
                if numbers is None:
                    break
                met = True
                if rule.replacement.source == "*":
                    return result
                try:
                    new = await _replaced(rule, result.address, numbers, place, scope)
                except ForcedFailure:
                    break
                except LookupDeferred:
                    raise
                except ExpansionError as error:
                    _complain(error.explained, scope)
                    return result
                _log_change(result.address, new.shown, number, place, scope)
                if result.whole and not new.whole:
                    new = replace(new, whole=_renamed(result.whole, new.address))
                result = new
                if "R" not in rule.flags:
                    break
            else:
                _complain("rewrite rule repeat ignored after 10 times", scope, panic=False)
            if met and "q" in rule.flags:
                return result
        return result


def with_domain(header: Header, old: str, new: str) -> Header:
    """Return a header line whose addresses have another domain in the place of ``old`` (17.5)."""
    if header.name.lower().removeprefix("resent-") not in FIELDS:
        return header
    before, colon, value = header.text.partition(":")
    changes = []
    for here in places_of(value):
        local_part, domain = split(here.address)
        if here.qualified and lower(domain) == old:
            changes.append((here.first, here.last, f"{local_part}@{new}"))
    return Header(f"{before}{colon}{replaced(value, changes)}") if changes else header


async def _replaced(
    rule: RewriteRule, old: str, numbers: tuple[str, ...], place: str, scope: Scope
) -> _Result:
    """Return what a rule makes of an address.

    :raises ExpansionError: ForcedFailure, or a fault which ends the rewriting.
    """
    values = {}
    if not place.startswith(_SMTP):
        local_part, domain = split(old)
        values = {"local_part": local_part, "domain": domain}
    try:
        text = await rule.replacement.expand(scope.within(values, numbers))
    except (ForcedFailure, LookupDeferred):
        raise
    except ExpansionError as error:
        source = rule.replacement.source
        reason = f"Expansion of {source} failed while rewriting: {error.reason}"
        raise error.saying(reason) from None
    settings = scope.services.settings
    try:
        here = read_one(text)
    except Malformed as why:
        problem = f"Rewrite of {old} yielded unparseable address: {why} in address {text}"
        raise ExpansionError(problem) from None
    address = here.address
    if not here.qualified:
        if "Q" not in rule.flags:
            raise ExpansionError(f'Rewrite of {old} yielded unqualified address "{address}"')
        address = f"{address}@{settings['qualify_recipient']}"
    whole = ""
    if "w" in rule.flags and place in FIELDS.values():
        whole = (
            _encoded(text, here, settings.get("headers_charset", "UTF-8"))
            if here.qualified
            else address
        )
    shown = text if "w" in rule.flags or place.startswith(_SMTP) else address
    return _Result(like(address, old), whole, shown)


def _renamed(whole: str, address: str) -> str:
    """A whole address item, which an earlier rule has made, with another address in it."""
    try:
        here = read_one(whole)
    except Malformed:
        return address
    return replaced(whole, [(here.first, here.last, address)])


def _encoded(text: str, here: Place, charset: str) -> str:
    """A whole address item: its phrase is quoted, or encoded, if it has to be (31.10)."""
    first = text.rfind("<", 0, here.first)
    if first < 0:
        return text
    phrase, rest = text[:first].strip(" \t"), text[first:]
    if _NOT_PLAIN.search(phrase):
        return f"{encode(phrase, charset)} {rest}"
    if _TO_QUOTE.search(without_comments(phrase)) and not _QUOTED.search(phrase):
        return f'"{phrase}" {rest}'
    return f"{phrase} {rest}" if phrase else rest


def _parameters(argument: str) -> str:
    found = _PARAMETERS.search(argument)
    return found[0] if found is not None else ""


async def _matched(
    rule: RewriteRule, text: str, place: str, scope: Scope
) -> tuple[str, ...] | None:
    """Return $0, $1 … if a rule's pattern matches; a pattern that is at fault does not."""
    try:
        pattern = await rule.pattern.expand(scope)
        if place.startswith(_SMTP):
            found = compile_regex(pattern).search(text)
            numbers = None if found is None else (text, *groups(found)[1:])
        else:
            match = await match_one(pattern, text, scope)
            numbers = None if match is None else match.numbers
    except LookupDeferred:
        raise
    except ExpansionError as error:
        _complain(error.explained, scope)
        return None
    return None if numbers is None else tuple(like(each, text) for each in numbers)


def _complain(problem: str, scope: Scope, *, panic: bool = True) -> None:
    log = scope.services.log
    if log is None:
        return
    if panic:
        log.panic(problem)
    else:
        log.main(problem)


def _log_change(old: str, new: str, number: int, place: str, scope: Scope) -> None:
    log = scope.services.log
    if log is not None and log.selected("address_rewrite"):
        where = _NAMES.get(place, place)
        text = f'"{old}" from {where} rewritten as "{new}" by rule {number}'
        log.main(text, getattr(scope.message, "id", ""))

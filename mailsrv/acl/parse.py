"""Reading ACLs: the section of the configuration, inline text, files (44.12, 44.17).

A logical line is a name with a colon (Exim drops the rest of that line, and so
do we), or a verb with its first condition, or a further condition.  All faults
of a section are collected.  The wording is
Exim's where it has one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mailsrv.acl.item import Item, all_names, find
from mailsrv.acl.model import Acl, AclTable, Clause, Statement, Verb
from mailsrv.acl.modifiers import SetVariable
from mailsrv.config.macros import LONGEST_NAME
from mailsrv.errors import ConfigError, Position

_NAME = re.compile(r"([A-Za-z][A-Za-z0-9_]*)[ \t]*:[ \t]*(.*)", re.DOTALL)
_WORD = re.compile(r"([A-Za-z0-9_]*)[ \t]*", re.DOTALL)
_CLAUSE = re.compile(r"(!?)[ \t]*([A-Za-z0-9_]*)[ \t]*(.*)", re.DOTALL)
_SET = re.compile(r"([^\s=]*)[ \t]*(.*)", re.DOTALL)
_DROPPED = "Exim drops what stands behind the name of an ACL: put it into the next line"
_VERBS = {verb.value: verb for verb in Verb}


class Line(Protocol):
    """A logical line: continuation joined, comments and outer blanks gone."""

    @property
    def text(self) -> str:
        """Its octets."""

    @property
    def where(self) -> Position:
        """Where it begins."""


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of an ACL that does not stand in the configuration's ACL section."""

    text: str
    where: Position | None


@dataclass(slots=True)
class _Reading:
    """One ACL while it is read."""

    name: str
    where: Position | None
    verb: Verb | None = None
    verb_at: Position | None = None
    clauses: list[Clause] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)

    def finish_statement(self) -> None:
        """Close the statement that is open, if one is."""
        if self.verb is not None:
            self.statements.append(Statement(self.verb, tuple(self.clauses), self.verb_at))
        self.verb, self.clauses = None, []

    def finish(self) -> Acl:
        """Close the ACL."""
        self.finish_statement()
        return Acl(self.name, tuple(self.statements), self.where)

    def add(self, text: str, where: Position | None) -> None:
        """Take a line that is not a name.

        :raises ConfigError: if it is neither a verb nor a condition.
        """
        match = _WORD.match(text)
        word = match[1] if match else ""
        if match and word in _VERBS:
            self.finish_statement()
            self.verb, self.verb_at = _VERBS[word], where
            rest = text[match.end() :]
            if rest:
                self.clauses.append(_clause(rest, text, self.verb, where))
        elif self.verb is None:
            raise ConfigError(f'unknown ACL verb "{word}" in "{text}"', where, _meant(word, _VERBS))
        else:
            self.clauses.append(_clause(text, text, self.verb, where))


def _meant(word: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, names, 1)
    return f"did you mean {near[0]}?" if near else ""


def _clause(text: str, line: str, verb: Verb, where: Position | None) -> Clause:
    match = _CLAUSE.match(text)
    assert match is not None, "the expression matches anything"
    negated, name, rest = match[1] == "!", match[2], match[3]
    kind = find(name)
    if kind is None:
        hint = _meant(name, all_names())
        raise ConfigError(f'unknown ACL condition/modifier in "{line}"', where, hint)
    if negated and not kind.negatable:
        raise ConfigError(f'ACL error: negation is not allowed with "{name}"', where)
    if kind.verbs is not None and verb.value not in kind.verbs:
        raise ConfigError(f'ACL error: "{name}" is not allowed with "{verb.value}"', where)
    return Clause(_item(kind, rest, where), negated)


def _item(kind: type[Item], rest: str, where: Position | None) -> Item:
    if kind is SetVariable:
        match = _SET.match(rest)
        assert match is not None, "the expression matches anything"
        return SetVariable.named(match[1], _argument(kind, match[2], where), rest, where)
    return kind(_argument(kind, rest, where) if kind.takes_argument else "", where)


def _argument(kind: type[Item], rest: str, where: Position | None) -> str:
    if not rest.startswith("="):
        what = "modifier" if kind.deed == "use" else "condition"
        raise ConfigError(f'"=" missing after ACL "{kind.name}" {what}', where)
    return rest[1:].lstrip(" \t\n")


def parse_section(lines: Sequence[Line]) -> tuple[AclTable, list[ConfigError]]:
    """Read the lines after ``begin acl``; an ACL with a fault keeps its other statements."""
    acls: dict[str, Acl] = {}
    errors: list[ConfigError] = []
    dropped: list[ConfigError] = []
    current: _Reading | None = None
    for line in lines:
        text = line.text.strip(" \t\n")
        named = _NAME.fullmatch(text)
        try:
            if named:
                if current is not None:
                    acls[current.name] = current.finish()
                current = _Reading(named[1], line.where)
                if len(named[1]) > LONGEST_NAME:
                    problem = f"the name is longer than {LONGEST_NAME} characters"
                    raise ConfigError(problem, line.where)
                if named[1] in acls:
                    raise ConfigError(f'there are two ACLs called "{named[1]}"', line.where)
                text = ""
                if named[2] and not named[2].startswith("#"):
                    dropped.append(
                        ConfigError(f'"{named[2]}" is no part of the ACL', line.where, _DROPPED)
                    )
            if current is None:
                raise ConfigError("missing or malformed ACL name", line.where)
            if text:
                current.add(text, line.where)
        except ConfigError as error:
            errors.append(error)
    if current is not None:
        acls[current.name] = current.finish()
    return AclTable(acls, tuple(dropped)), errors


def parse_text(text: str, name: str = "", where: Position | None = None) -> Acl:
    """Read an ACL from inline text or the contents of a file (44.12).

    ``where`` of a line counts from the beginning of the text when ``name`` is a file.

    :raises ConfigError: for the first fault.
    """
    reading = _Reading(name, where)
    for line in _logical_lines(text, name, where):
        reading.add(line.text, line.where)
    return reading.finish()


def _logical_lines(text: str, name: str, where: Position | None) -> list[TextLine]:
    lines: list[TextLine] = []
    joined, begun = "", where
    for number, raw in enumerate(text.split("\n"), 1):
        stripped = raw.strip(" \t\r")
        if stripped.startswith("#") or (not stripped and not joined):
            continue
        if not joined and name:
            begun = Position(name, number)
        if stripped.endswith("\\"):
            joined += stripped[:-1]
            continue
        lines.append(TextLine(joined + stripped, begun))
        joined = ""
    if joined:
        lines.append(TextLine(joined, begun))
    return [line for line in lines if line.text]

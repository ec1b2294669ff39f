"""The nouns of access control: lists, statements, the outcome of a condition.

An :class:`Acl` is a tuple of statements; each has a verb and clauses, and a
clause is a condition or modifier (:class:`mailsrv.acl.item.Item`) with or
without ``!`` before it.  All are made when the configuration is read and never
change.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailsrv.errors import ConfigError, Position
from mailsrv.interfaces import AclPhase

if TYPE_CHECKING:
    from mailsrv.acl.item import Item


class Verb(enum.Enum):
    """The verbs of statements (44.18)."""

    ACCEPT = "accept"
    DEFER = "defer"
    DENY = "deny"
    DISCARD = "discard"
    DROP = "drop"
    REQUIRE = "require"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition or modifier of a statement; ``negated`` by an exclamation mark."""

    item: Item
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """A verb with its conditions and modifiers, in order."""

    verb: Verb
    clauses: tuple[Clause, ...]
    where: Position | None = None


@dataclass(frozen=True, slots=True)
class Acl:
    """A list of statements; ``name`` is "" for inline text."""

    name: str
    statements: tuple[Statement, ...]
    where: Position | None = None


@dataclass(frozen=True, slots=True)
class AclTable:
    """The ACL section: all named ACLs, and what Exim drops from its lines."""

    acls: dict[str, Acl] = field(default_factory=dict)
    dropped: tuple[ConfigError, ...] = ()

    def items(self) -> Iterator[Item]:
        """All conditions and modifiers of the section."""
        for acl in self.acls.values():
            for statement in acl.statements:
                for clause in statement.clauses:
                    yield clause.item

    def notes(self) -> Iterator[str]:
        """Whole lines for the administrator."""
        for item in self.items():
            yield from (f"{item.where}: {note}" for note in item.notes())

    def late(self) -> Iterator[ConfigError]:
        """Faults that Exim, too, finds only when it reaches them, or never."""
        yield from self.dropped
        for item in self.items():
            for template in item.templates():
                if template.error is not None:
                    yield ConfigError(f"{item.name}: {template.error.shown}", template.where)
            if item.late is not None:
                yield item.late


class Undecided(Exception):
    """A condition could not be completed: the ACL ends with 4yz.

    ``text`` is for the peer ("" for the default), ``log`` for the log.  With
    ``error`` the ACL itself is at fault: then a ``warn`` ends the ACL, too.
    """

    def __init__(self, text: str = "", log: str = "", *, error: bool = False) -> None:
        super().__init__(log or text)
        self.text = text
        self.log = log
        self.error = error


class Discarded(Exception):
    """A nested ACL said ``discard``: the statement ends at once."""


# What Exim calls the phases in its messages.
PHASE_NAMES = {
    AclPhase.CONNECT: "connection",
    AclPhase.HELO: "EHLO or HELO",
    AclPhase.STARTTLS: "STARTTLS",
    AclPhase.AUTH: "AUTH",
    AclPhase.MAIL: "MAIL",
    AclPhase.RCPT: "RCPT",
    AclPhase.PREDATA: "PREDATA",
    AclPhase.DATA: "DATA",
    AclPhase.VRFY: "VRFY",
    AclPhase.EXPN: "EXPN",
    AclPhase.ETRN: "ETRN",
    AclPhase.QUIT: "QUIT",
    AclPhase.NOTQUIT: "NOTQUIT",
    AclPhase.MAILAUTH: "MAILAUTH",
    AclPhase.NOT_SMTP: "non-SMTP",
    AclPhase.NOT_SMTP_START: "non-SMTP-start",
}

ALL_PHASES = frozenset(AclPhase)
LOCAL_PHASES = frozenset({AclPhase.NOT_SMTP_START, AclPhase.NOT_SMTP})
# Those that see the whole message.
WHOLE_PHASES = frozenset({AclPhase.DATA, AclPhase.NOT_SMTP})
SMTP_PHASES = ALL_PHASES - LOCAL_PHASES
MESSAGE_PHASES = LOCAL_PHASES | {
    AclPhase.MAIL,
    AclPhase.RCPT,
    AclPhase.PREDATA,
    AclPhase.DATA,
}

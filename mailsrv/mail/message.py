"""A message with its envelope, while it is received and while it is queued.

The body is kept in wire form: CRLF line ends, dots not stuffed, without the
header.  Small bodies are ``bytes``; large ones stay in a file of the spool.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from mailsrv.mail.header import Header
from mailsrv.mail.origin import Origin
from mailsrv.mail.status import Status


class Body(Protocol):
    """The octets after the header's empty line, with CRLF line ends."""

    @property
    def size(self) -> int:
        """Octets, each line end counted as two."""

    @property
    def lines(self) -> int:
        """Number of line ends ($body_linecount)."""

    @property
    def inline(self) -> bytes | None:
        """The whole body if it is held in memory, else None: use :meth:`chunks`."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Give the body in order, in pieces; a piece may end anywhere, even between CR and LF.

        :raises TemporaryFailure: if the spool cannot read it.
        """


@dataclass(slots=True)
class InlineBody:
    """A body held in memory; its lines are counted once."""

    inline: bytes
    counted: int | None = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> int:
        """Its octets."""
        return len(self.inline)

    @property
    def lines(self) -> int:
        """Its lines."""
        if self.counted is None:
            self.counted = self.inline.count(b"\n")
        return self.counted

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give it in one piece."""
        yield self.inline


@dataclass(frozen=True, slots=True)
class Recipient:
    """A forward-path of an envelope with its DSN parameters (RFC 3461)."""

    address: str
    notify: frozenset[str] = frozenset()  # of NEVER, SUCCESS, FAILURE, DELAY; empty = not given
    orcpt: str = ""  # as given: type;xtext
    errors_to: str | None = None  # where its bounces go, if not to the sender
    parent: str = ""  # the recipient that a one_time redirection made it of


ATTEMPTED = ""  # among Message.parts: the key of no delivery; an attempt has ended


@dataclass(slots=True)
class Message:
    """A message that the queue is responsible for.

    Only its queue runner changes it, and only through the spool.
    """

    id: str  # Exim's 16-character form, xxxxxx-yyyyyy-zz
    sender: str  # reverse-path; "" is the null sender
    recipients: tuple[Recipient, ...]  # those still to be delivered
    origin: Origin
    headers: list[Header]
    body: Body
    received_at: float  # seconds since the epoch: the moment of the end of data
    body_8bitmime: int = 0  # $body_8bitmime: 0 not declared, 7 or 8
    smtputf8: bool = False
    ret: str = ""  # FULL, HDRS or "" (RFC 3461 4.3)
    envid: str = ""  # xtext as given
    acl_m: dict[str, str] = field(default_factory=dict)  # $acl_m…, keyed without "acl_"
    size: int = 0  # $message_size: what :func:`counted_size` gives for header and body
    frozen_at: float = 0.0  # 0 = not frozen
    delivered: frozenset[str] = frozenset()  # done already (delivered, or failed and reported)
    parts: frozenset[str] = frozenset()  # keys of delivered descendants of recipients not yet done
    queue_only: bool = False  # no immediate delivery
    warned: int = 0  # delay warnings sent
    no_tell: bool = False  # nobody is to be told that an ACL froze it; known only while it comes
    queue_running: bool = False  # it is attempted, and not because it came just now

    @property
    def first_delivery(self) -> bool:
        """Whether no attempt has ended yet."""
        return not self.delivered and ATTEMPTED not in self.parts


def counted_size(headers: Iterable[Header], body: Body) -> int:
    """Return the octets of a message as Exim counts them: each line end is one, not two.

    It is the ``S=`` of ``<=``, the size in queue listings and ``$message_size``.
    """
    return sum(len(header.text) + 1 for header in headers) + 1 + body.size - body.lines


@dataclass(slots=True)
class Transaction:
    """A message while it is received: between MAIL and the answer to the end of data.

    The connection owns it; ACLs read it and record their effects in it.
    """

    sender: str = ""
    recipients: list[Recipient] = field(default_factory=list)
    declared_size: int = 0  # SIZE= on MAIL; 0 = not given
    body_8bitmime: int = 0
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    id: str = ""  # known from the end of MAIL on ($message_id is set from DATA)
    received_at: float = 0.0
    headers: list[Header] = field(default_factory=list)  # from the end of data on
    body: Body | None = None
    size: int = 0
    acl_m: dict[str, str] = field(default_factory=dict)
    recipients_seen: int = 0  # $rcpt_count
    recipients_taken: int = 0  # RCPTs answered with 250: in LMTP each has its own answer at the end
    recipients_refused: int = 0  # $rcpt_fail_count
    recipients_deferred: int = 0  # $rcpt_defer_count
    # effects of ACLs
    added_headers: list[str] = field(default_factory=list)  # texts of add_header, in order
    removed_headers: list[str] = field(default_factory=list)  # items of remove_header
    submission: Submission | None = None
    frozen: bool = False
    no_tell: bool = False  # with frozen: freeze_tell is not obeyed
    queue_only: bool = False
    discarded: bool = False  # accepted, then thrown away
    feigned: Status | None = None  # what the client reads though the message is kept
    sender_rewritten: bool = False  # by the rewriting rules, when it was verified
    no_fixups: bool = False  # control = suppress_local_fixups
    noted: dict[str, object] = field(default_factory=dict)  # what ACLs remember for its length


@dataclass(frozen=True, slots=True)
class Submission:
    """``control = submission`` and its options (specification 48.1)."""

    domain: str | None = None  # /domain=
    name: str = ""  # /name=
    sender_retain: bool = False  # /sender_retain

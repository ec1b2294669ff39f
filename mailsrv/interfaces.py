"""Every seam between the parts of mailsrv, with its contract in words.

The stages (connection, auth, acl, queue, routing, transport) do not know each
other: each is handed objects of these kinds by ``service/build.py``.  They are
:class:`typing.Protocol` classes, so that mypy checks every implementation and
its in-memory twin in ``tests/doubles`` without a registration.

All ``async`` methods are awaited on the reactor thread and never block it.
Unless a contract says otherwise, they raise :class:`TemporaryFailure` when the
answer cannot be had now, and nothing else that a caller should handle.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mailsrv.mail.connection import Connection
from mailsrv.mail.header import Header
from mailsrv.mail.message import Body, Message, Recipient
from mailsrv.mail.routed import Host, HostFailure, Outcome, RoutedAddress
from mailsrv.mail.status import Status
from mailsrv.mail.taint import Tainted

# --- time, names -------------------------------------------------------------


class IClock(Protocol):
    """Time and timers: twisted's reactor and ``task.Clock`` are such objects."""

    def seconds(self) -> float:
        """Seconds since the epoch."""

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any
    ) -> Any:
        """Call back after ``delay`` seconds; the result has ``cancel()`` and ``active()``."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the DNS: ``records`` as text, in the order received.

    ``exists`` is False for NXDOMAIN; True with no records is "no data".
    Texts: an address for A/AAAA; ``preference name`` for MX; ``priority weight
    port target`` for SRV; ``usage selector type hex`` for TLSA; a name without
    final dot for PTR/CNAME; a :class:`TextRecord` for TXT and SPF.
    """

    records: tuple[str, ...]
    exists: bool = True
    authenticated: bool = False  # AD bit of a resolver that is trusted for it
    ttl: int = 0


class TextRecord(Tainted):
    """A TXT record of an :class:`Answer`: its strings joined; ``parts`` are the strings."""

    parts: tuple[str, ...]

    @classmethod
    def of(cls, parts: tuple[str, ...]) -> TextRecord:
        """Make a record of its strings."""
        made = cls("".join(parts))
        made.parts = parts
        return made


class IResolver(Protocol):
    """The DNS (``mailsrv.dns``)."""

    async def query(self, name: str, rdtype: str) -> Answer:
        """Look up ``name``; follows CNAMEs.

        :raises TemporaryFailure: SERVFAIL, time-out, or no name server.
        """

    async def addresses(
        self, name: str, *, ipv6: bool = True, hosts_file: bool = True
    ) -> tuple[str, ...]:
        """The addresses of a host, from the hosts file or the DNS; () if it has none."""

    async def names(self, address: str) -> tuple[str, ...]:
        """The names that PTR records (or the hosts file) give an IP address; () if none."""

    def within(self, retransmit: float, retries: int) -> IResolver:
        """The same resolver with other ``dns_retrans`` and ``dns_retry``; 0 leaves one as it is."""


# --- lookups -----------------------------------------------------------------


class ILookup(Protocol):
    """One type of lookup, for example lsearch (specification chapter 9)."""

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Return the data, "" if the key is there without data, None if it is not.

        ``file`` is "" for query-style types, whose ``key`` is the query.

        :raises TemporaryFailure: the file or server cannot be used now.
        """


class IFunctions(Protocol):
    """The administrator's own functions, of the file of ``python_startup``."""

    async def call(self, name: str, arguments: tuple[str, ...]) -> str:
        """Call a function; wait for what it returns.

        :raises ExpansionError: ForcedFailure if it returns None, or raises that.
        :raises TemporaryFailure: it fails in any other way, or takes too long.
        """


# --- authentication ----------------------------------------------------------


class AuthResult(enum.Enum):
    """How a step of an exchange ended."""

    CONTINUE = "continue"
    SUCCESS = "success"
    FAILURE = "failure"
    UNAVAILABLE = "unavailable"  # 454: the backend cannot answer now
    MALFORMED = "malformed"  # 501


@dataclass(frozen=True, slots=True)
class AuthStep:
    """The result of a step: a challenge (not yet base64), or the end of the exchange.

    On success ``authenticated_id`` is the expanded ``server_set_id``; at any
    other end it says whom the failure concerns, for the log's ``set_id=`` and
    ``$authenticated_fail_id``.  ``reason`` is for the log alone; it never holds
    credentials.  ``text`` is what the configuration wants the client to read
    ("" for the standard text).
    """

    result: AuthResult
    challenge: bytes = b""
    authenticated_id: str = ""
    authenticator: str = ""
    reason: str = ""
    text: str = ""


class IAuthExchange(Protocol):
    """One AUTH command in progress."""

    async def step(self, response: bytes | None) -> AuthStep:
        """Take the client's (decoded) response; None: AUTH came without an initial response."""

    def cancel(self) -> None:
        """The client sent ``*`` or went away: free what the exchange holds."""


class IAuthentication(Protocol):
    """All authenticators of the configuration, as the server side sees them."""

    async def advertised(self, connection: Connection) -> list[str]:
        """Public names to offer to this client now, upper case, in the configuration's order."""

    async def begin(self, mechanism: str, connection: Connection) -> IAuthExchange | None:
        """Start an exchange; None if the mechanism is not known or not offered to this client."""

    async def keeps_mail_auth(self, connection: Connection) -> bool:
        """Tell whether AUTH= on MAIL stays: the login's ``server_mail_auth_condition``."""


class IClientExchange(Protocol):
    """One AUTH command that we send: one authenticator, one try."""

    name: str  # of the authenticator in the configuration, for A= of the log
    mechanism: str  # its public_name

    async def initial(self) -> bytes | None:
        """Return the initial response (not yet base64); None: AUTH is sent without one."""

    ignore_invalid: bool  # a challenge that is not base64 counts as an empty one

    async def respond(self, challenge: bytes) -> bytes | None:
        """Answer a (decoded) challenge; None cancels the exchange with ``*``."""

    async def identity(self) -> str:
        """After success: whom the log names (``client_set_id``); "" = nobody."""


class IClientAuthentication(Protocol):
    """The authenticators of the configuration, as our SMTP client uses them."""

    def mechanisms(self) -> Sequence[str]:
        """Names of the authenticators that have a client's side."""

    async def attempts(self, offered: Sequence[str], scope: Any) -> Sequence[IClientExchange]:
        """Return what can be tried, in the configuration's order.

        These are the authenticators whose ``public_name`` is among ``offered``
        and whose ``client_condition`` holds in ``scope``, an expansion's
        ``Scope`` with $host, $host_address …
        """


# --- ACLs --------------------------------------------------------------------


class AclPhase(enum.Enum):
    """When an ACL runs; :attr:`option` is the main option that names its ACL."""

    __hash__ = object.__hash__  # members are single objects; Enum's own costs a call each time

    CONNECT = "connect"
    HELO = "helo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    PREDATA = "predata"
    DATA = "data"
    VRFY = "vrfy"
    EXPN = "expn"
    ETRN = "etrn"
    QUIT = "quit"
    NOTQUIT = "notquit"
    MAILAUTH = "mailauth"
    NOT_SMTP = "not_smtp"  # after a message of a local program was read
    NOT_SMTP_START = "not_smtp_start"  # before it is read

    @property
    def option(self) -> str:
        """The name of the main option: ``acl_smtp_…`` or ``acl_not_smtp…``."""
        return f"acl_{'' if self.value.startswith('not_smtp') else 'smtp_'}{self.value}"


class Action(enum.Enum):
    """What an ACL decided."""

    ACCEPT = "accept"
    DENY = "deny"
    DEFER = "defer"
    DISCARD = "discard"  # accept, then throw away
    DROP = "drop"  # deny and close


@dataclass(frozen=True, slots=True)
class Verdict:
    """An ACL's decision.

    ``status`` is the whole answer for a refusal; for an accepting verdict it is
    None unless a ``message`` modifier asks for a reply of its own.
    ``log_message`` is "" if the log should say what the peer reads.
    """

    action: Action
    status: Status | None = None
    log_message: str = ""
    log: bool = True  # log_reject_target / "no log" asked for
    bare: bool = False  # a refusal by default: its log line ends without a text

    @property
    def accepted(self) -> bool:
        """Tell whether the client hears a positive reply."""
        return self.action is Action.ACCEPT or self.action is Action.DISCARD


class IPolicy(Protocol):
    """The ACLs of the configuration."""

    def configured(self, phase: AclPhase) -> bool:
        """Tell whether an ACL is set for the phase (a VRFY without one is answered 252)."""

    async def check(self, phase: AclPhase, connection: Connection, address: str = "") -> Verdict:
        """Run the ACL of a phase; its effects are left in ``connection`` and its transaction.

        ``address`` is the recipient for RCPT and the argument for VRFY and EXPN.
        An unset ACL gives what Exim does.  Never raises a :class:`MailFailure`:
        what cannot be decided is a DEFER with 451.
        """


# --- verification, routing, delivery -----------------------------------------


@dataclass(frozen=True, slots=True)
class Unrouted:
    """An address that another became (chapter 22), and that could not be routed itself.

    ``status`` is 4yz or 5yz; ``address.router`` is where it was decided, "" for nowhere.
    """

    address: RoutedAddress
    status: Status
    reason: str
    frozen: bool = False
    by_local_part: bool = True  # see Routed
    told: str = ""  # see Routed
    error: str = "*"


@dataclass(frozen=True, slots=True)
class Routed:
    """Routing's answer for one address.

    ``status`` is None when all went well: then ``addresses`` are to be
    delivered.  Otherwise it is 4yz or 5yz and ``reason`` is for the log;
    ``addresses`` are unseen copies and the like then, to be delivered all the
    same.  ``unrouted`` are descendants that failed while others did not;
    ``discarded`` are those that need no delivery, such as ``:blackhole:``.
    """

    addresses: tuple[RoutedAddress, ...] = ()
    status: Status | None = None
    reason: str = ""
    router: str = ""  # where it was decided
    frozen: bool = False  # :freeze: or self = freeze
    by_local_part: bool = True  # the deferral concerns this local part, not the whole domain
    unrouted: tuple[Unrouted, ...] = ()
    discarded: tuple[RoutedAddress, ...] = ()
    told: str = ""  # what a report says instead of ``reason``
    copies: int = 0  # how many unseen routers took a copy before
    error: str = "*"  # the retry rules' name of the failure: lookup, if a host's was what failed


class IRouting(Protocol):
    """The routers of the configuration."""

    async def route(self, message: Message, recipient: Recipient) -> Routed:
        """Route one recipient of a queued message.  Never raises a MailFailure."""


class IVerifier(Protocol):
    """``verify = recipient`` and ``verify = sender``: routing without delivery."""

    async def verify(
        self, address: str, connection: Connection, *, as_sender: bool = False
    ) -> Routed:
        """Route an address for verification; status None means that it verifies."""

    async def expand(self, address: str, connection: Connection) -> Routed:
        """Route an address as for a delivery, for EXPN: all that it becomes."""


@dataclass(frozen=True, slots=True)
class Callout:
    """What a callout is to do (44.46, 44.47); times are seconds.

    ``sender`` is for MAIL.  ``postmaster`` is the sender of the check that
    follows for postmaster; None: none follows.
    """

    sender: str = ""
    timeout: float = 30.0
    connect: float = 30.0
    maxwait: float = 120.0
    random: bool = False
    postmaster: str | None = None
    full_postmaster: bool = False  # postmaster without a domain does, too
    cached: bool = True


@dataclass(frozen=True, slots=True)
class Called:
    """What a callout found.

    ``status`` is None if the address is taken, or nobody was to be asked.
    ``what`` was refused: ``mail``, ``recipient`` or ``postmaster``, as in
    $recipient_verify_failure.
    """

    status: Status | None = None
    reason: str = ""  # for the log
    what: str = ""
    sent: str = ""  # the command that was refused
    host: str = ""  # IP address or path of a socket; "" = it was known from before


class ICallout(Protocol):
    """Asks the next hop of an address whether it would take mail for it (44.46)."""

    async def call(self, address: RoutedAddress, wanted: Callout, connection: Connection) -> Called:
        """Ask over the address' transport; one that is no SMTP or LMTP asks nobody.

        A failure to ask is a 4yz status.
        """


Record = Callable[[Sequence[Outcome]], Awaitable[None]]
Waits = Callable[[bool], None]


def no_matter(waits: bool) -> None:
    """Take no note of it: the :data:`Waits` of who holds nothing back for a delivery."""


class IHostRetry(Protocol):
    """What the retry hints say of hosts, as a transport asks and tells it (32, 49.2)."""

    def may_try(self, message: Message, host: Host) -> bool:
        """Tell whether the host's retry time has come (or nothing is known against it)."""

    async def claim(self, message: Message, host: Host, seconds: float) -> bool:
        """Begin an attempt, which lasts for ``seconds`` at most; False: not now.

        A host that is known to fail is tried by one message at a time, in all
        workers.  What is claimed must be told about: :meth:`failed`,
        :meth:`worked` or :meth:`release`.
        """

    async def failed(self, message: Message, failure: HostFailure, domain: str) -> None:
        """Take note of a host's failure, at once: others are about to try it."""

    def worked(self, host: Host) -> None:
        """Forget what was held against a host: it has answered."""

    def release(self, host: Host) -> None:
        """End an attempt that has shown nothing."""

    def given_up(self, message: Message, hosts: Sequence[Host]) -> bool:
        """Tell whether all hosts have been failing for so long that mail is not kept for them."""

    def untried(self, message: Message, host: Host) -> bool:
        """Tell whether a host was not tried since the message came (delay_after_cutoff)."""


class IDelivering(Protocol):
    """The transports of the configuration."""

    async def deliver(
        self,
        message: Message,
        addresses: Sequence[RoutedAddress],
        record: Record,
        waits: Waits = no_matter,
    ) -> None:
        """Deliver routed addresses in as few transactions as their transports allow.

        Every address is given to ``record`` exactly once, in the batch that
        settled it; the connection that settled it carries nothing further until
        ``record`` is done.  ``waits`` is told True when all that is left of the
        message waits for its turn at busy places, and False when it goes on.
        Never raises a MailFailure: what goes wrong is an outcome.  When
        cancelled it ends connections under way and gives no further outcomes.
        """

    async def close(self) -> None:
        """Finish the deliveries under way and close kept connections."""


# --- the queue and what survives a restart -----------------------------------


class IQueue(Protocol):
    """The queue runner, as reception sees it."""

    def first_attempt(self, message: Message) -> float:
        """Return when a new message is due: what :meth:`ISpool.store` is given for it.

        The message is expected from now on: of one that is submitted without, the
        queue looks into the spool for what is left.
        """

    def submit(self, message: Message) -> None:
        """Take over a message that the spool holds durably; returns at once.

        The spool may have shown it to the queue before: it is attempted once all the same.
        """


class IBodyWriter(Protocol):
    """Takes a body while it arrives; spills to a file of the spool when it grows."""

    def write(self, piece: bytes) -> Awaitable[None] | None:
        """Take the next octets; a result that is not None must be awaited before the next piece.

        :raises TemporaryFailure: no space, or an I/O error (when awaited, too).
        """

    async def finish(self) -> Body:
        """The body is complete: return it; a body in a file is on stable storage then."""

    def abort(self) -> None:
        """Throw the octets away, with any file, also after ``finish``.

        Harmless once a message with this body is being stored: the spool owns the body then.
        """


HISTORY = 64 * 1024  # octets of a message's own log: older lines are dropped
FURTHEST = 2 * 86400.0  # seconds: what is planned for later was planned by a clock that was wrong


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A line of a queue listing (``-bp``)."""

    id: str
    sender: str
    size: int
    received_at: float
    next_attempt: float
    frozen: bool
    recipients: tuple[str, ...]
    delivered: tuple[str, ...] = ()
    quarantined: bool = False  # it cannot be read, is never attempted, and is kept
    reason: str = ""  # the last line of its own log
    made: tuple[str, ...] = ()  # delivered addresses that redirections made of recipients


class ISpool(Protocol):
    """The queue's storage (design, decision 4).

    Each method's effect is on stable storage when it is done; if it raises
    :class:`TemporaryFailure`, nothing of it happened.
    """

    def new_body(self) -> IBodyWriter:
        """Begin to receive a body."""

    async def store(self, message: Message, next_attempt: float) -> None:
        """Keep a new message; after this, and only then, 250 may be sent."""

    async def settle(
        self,
        id: str,
        done: Sequence[str],
        *,
        parts: Sequence[str] = (),
        next_attempt: float | None = None,
        reports: Sequence[Message] = (),
        history: str = "",
    ) -> None:
        """Record what needs no further attempt, and the next attempt's time.

        ``done`` are addresses of recipients; ``parts`` are keys of descendants
        that were delivered while their recipient is not done yet.  ``reports``
        are bounces to be stored in the same commit, due at once; ``history``
        is added to the message's own log.
        """

    async def update(self, message: Message, next_attempt: float) -> None:
        """Write anew what may change: frozen_at, warned, next attempt."""

    async def edit(
        self, id: str, *, sender: str | None = None, added: Sequence[Recipient] = ()
    ) -> bool:
        """Change a message's reverse-path, or add recipients that it does not have yet.

        False: there is no such message.
        """

    async def remove(self, id: str, *, reports: Sequence[Message] = ()) -> None:
        """Forget a message, with its body; ``reports`` are stored in the same commit.

        Unknown ids are no error.
        """

    async def history(self, id: str) -> str | None:
        """The message's own log (``-Mvl``), whole lines, the last ``HISTORY`` octets of it.

        None: no such message; a quarantined one has its log.
        """

    async def load(self, id: str) -> Message | None:
        """Read a message whole; ``recipients`` are those not yet done.  None if there is none."""

    async def due(self, now: float, limit: int, skip: frozenset[str] = frozenset()) -> list[str]:
        """Ids of messages whose next attempt is at or before ``now``, the longest due first.

        A message whose time is more than ``FURTHEST`` ahead is due, too.  Frozen
        messages are never due.
        """

    async def next_due(self, skip: frozenset[str] = frozenset()) -> float | None:
        """The time of the earliest next attempt of a message that is not frozen."""

    def listing(self, start: str = "") -> AsyncIterator[QueueEntry]:
        """All messages, oldest first, read in short pages; none whose id is before ``start``.

        Of one that is quarantined, sender and recipients are empty if they cannot be read.
        """

    async def count(self) -> int:
        """Number of messages."""

    async def close(self) -> None:
        """Finish what is under way and release the spool's lock."""


@dataclass(slots=True)
class RetryHint:
    """What is remembered of a host or address that failed (specification chapter 32)."""

    first_failed: float
    last_tried: float
    next_try: float
    error: str = ""
    text: str = ""
    expired: bool = False
    status: Status | None = None
    cutoff: float = 0.0  # seconds, of the retry rule: a message that is older need not wait


class IHints(Protocol):
    """Losable knowledge (design, decision 12): losing it costs time, never mail.

    Reads come from memory; writes reach the disk a little later.
    """

    def retry(self, key: str) -> RetryHint | None:
        """The hint of a key such as ``R:user@domain`` or ``T:host:address:port``."""

    def set_retry(self, key: str, hint: RetryHint | None) -> None:
        """Remember a failure; None forgets it (success)."""

    async def claim(self, key: str, until: float) -> bool:
        """Let other workers see a later time of a hint that is due; False: one of them was first.

        To be ended by :meth:`set_retry`.
        """


class RateMode(enum.Enum):
    """What a measurement leaves behind (specification 44.41, 44.42)."""

    STRICT = "strict"  # the event is always counted
    LEAKY = "leaky"  # the event is counted if the rate stays below the limit
    READONLY = "readonly"  # nothing


@dataclass(frozen=True, slots=True)
class RateEvent:
    """Something that adds ``count`` to the rate of a key; times are seconds.

    ``unique`` names the event: one that was counted in this period counts no more.
    """

    key: str
    count: float
    period: float
    limit: float
    mode: RateMode = RateMode.LEAKY
    unique: str | None = None


class IRates(Protocol):
    """What ACLs remember of the past; losable, shared by all workers."""

    async def measure(self, event: RateEvent) -> float:
        """Return the rate, events a period, with this one; keep it as the event's mode says."""

    async def seen(self, key: str) -> float | None:
        """Return the time that :meth:`set_seen` has kept for a key."""

    async def set_seen(self, key: str, at: float) -> None:
        """Keep a time for a key."""


class IQueueControl(Protocol):
    """What commands ask of the queue runner of a running server (design, decision 11)."""

    async def remove(self, id: str) -> bool:
        """Forget a message, without a bounce (``-Mrm``); False if there is none.

        :raises Locked: it is being delivered just now (``mailsrv.errors``).
        :raises TemporaryFailure: the spool fails.
        """

    async def freeze(self, id: str) -> bool | None:
        """Stop attempts (``-Mf``); False: frozen already, None: no such message.

        :raises Locked: as :meth:`remove`.
        """

    async def thaw(self, id: str) -> bool | None:
        """Let a frozen message be attempted (``-Mt``); False: it is not frozen; as :meth:`freeze`.

        :raises Locked: as :meth:`remove`.
        """

    async def give_up(self, id: str) -> bool:
        """Bounce a message whole (``-Mg``); False if there is none.

        :raises Locked: as :meth:`remove`.
        """

    async def edit(self, id: str, *, sender: str | None = None, added: Sequence[str] = ()) -> bool:
        """Change the reverse-path (``-Mes``) or add recipients (``-Mar``); False: no such message.

        :raises Locked: as :meth:`remove`.
        """

    async def mark_delivered(self, id: str, addresses: Sequence[str] | None) -> list[str] | None:
        """Deliver no more to these addresses (``-Mmd``), or to all for None (``-Mmad``).

        Returns those of them that are no recipients left; if there are any, nothing
        is changed.  None: no such message.

        :raises Locked: as :meth:`remove`.
        """

    async def ended(self, ids: Iterable[str]) -> None:
        """Wait until none of these messages is being attempted, or about to be."""

    async def run_now(
        self, ids: Iterable[str] | None = None, *, force: bool = False, frozen: bool = False
    ) -> int:
        """Attempt messages, all if ``ids`` is None, without waiting; return how many.

        ``force`` disregards retry times, ``frozen`` takes frozen messages along.
        """


# --- logs --------------------------------------------------------------------


class IMailLog(Protocol):
    """The logs: one method an event; wording and files are ``mailsrv.logs``' own (chapter 53).

    Never raises; hostile octets are escaped, so that an event is one line.
    """

    def received(self, message: Message, *, bounce_of: str = "", seconds: float = -1) -> None:
        """``<=``; ``seconds`` is how long it took to receive, -1 if that is not known."""

    def delivered(self, message: Message, outcome: Outcome, *, additional: bool = False) -> None:
        """``=>``, or ``->`` for a further address of the same delivery."""

    def deferred(self, message: Message, outcome: Outcome) -> None:
        """``==``"""

    def failed(self, message: Message, outcome: Outcome) -> None:
        """``**``"""

    def completed(self, message: Message) -> None:
        """``Completed``"""

    def rejected(
        self, connection: Connection, what: str, text: str, headers: Sequence[Header] = ()
    ) -> None:
        """A refusal: main and reject log; ``what`` as Exim's "rejected RCPT <a@b>"."""

    def main(self, text: str, message_id: str = "", *, rejection: bool = False) -> None:
        """Any other line of the main log; a ``rejection`` stands in the reject log too."""

    def reject(self, text: str, message_id: str = "") -> None:
        """A line of the reject log alone."""

    def selected(self, selector: str) -> bool:
        """Tell whether a log selector is on, for example ``smtp_connection``."""

    def panic(self, text: str, failure: BaseException | None = None) -> None:
        """Something that must not happen: panic log (with traceback) and main log."""

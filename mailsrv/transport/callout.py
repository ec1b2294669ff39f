"""Callouts: asking a next hop whether it would take mail for an address (44.46 to 44.48).

What is found is remembered for a while, as the options ``callout_…`` say; the
memory is the process' own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import Template
from mailsrv.interfaces import Called, Callout
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import InlineBody, Message
from mailsrv.mail.routed import Outcome, RoutedAddress
from mailsrv.mail.status import Status
from mailsrv.transport.connection import HopFailure, HopProtocol
from mailsrv.transport.dialogue import Plan
from mailsrv.transport.transport import Batch, Facilities, Transport
from mailsrv.wire.client import Refused, Unmet
from mailsrv.wire.envelope import UnsafeValue
from mailsrv.wire.replies import Phase, Reply

MOST = 100_000  # answers remembered
_UNDECIDED = Status(451, 4, 4, "Could not complete verify callout")


@dataclass(frozen=True, slots=True)
class CalloutOptions:
    """The main options; times are seconds."""

    random_local_part: Template
    positive: float = 86400.0
    negative: float = 7200.0
    domain_positive: float = 604800.0
    domain_negative: float = 10800.0


class Callouts:
    """Provides ``ICallout`` with the transports of the configuration."""

    def __init__(
        self,
        transports: Mapping[str, Transport],
        facilities: Facilities,
        options: CalloutOptions,
    ) -> None:
        self._transports = transports
        self._facilities = facilities
        self._clock = facilities.clock.seconds
        self._options = options
        self._known: dict[tuple[str, ...], tuple[float, Called]] = {}

    async def call(self, address: RoutedAddress, wanted: Callout, connection: Connection) -> Called:
        """See :meth:`ICallout.call`."""
        domain = address.domain
        key_decides = wanted.postmaster is None  # else there is more to ask than of the address
        key = ("address", wanted.sender, f"{address.local_part}@{domain}")
        if wanted.cached:
            for each in (("domain", domain), ("random", domain), key):
                known = self._remembered(each)
                if known is None or (each[0] == "random" and not wanted.random):
                    continue
                if known.status is not None or each[0] != "address" or key_decides:
                    return known
        transport = self._transports.get(address.transport)
        if transport is None:
            return Called()
        message = _message(connection, wanted.sender, self._clock())
        batch = Batch(
            message, (address,), self._facilities, _nothing, transport.name, wanted.sender
        )
        try:
            plans = await transport.callout_plans(batch)
        except TemporaryFailure as failure:
            return Called(_UNDECIDED, failure.reason)
        last = Called()
        end = self._clock() + wanted.maxwait
        for plan in plans:
            last = await self._host(plan, batch, address, wanted)
            if last.status is None or last.status.permanent or self._clock() >= end:
                break
        if wanted.cached and plans:
            self._remember(key, domain, wanted, last)
        return last

    # --- the memory ---

    def _remembered(self, key: tuple[str, ...]) -> Called | None:
        until, called = self._known.get(key, (0.0, Called()))
        return called if self._clock() < until else None

    def _remember(self, key: tuple[str, ...], domain: str, wanted: Callout, called: Called) -> None:
        """Keep an answer; one that is temporary is none."""
        options, now = self._options, self._clock()
        if called.status is not None and called.status.temporary:
            return
        if len(self._known) >= MOST:
            self._known.clear()
        told = replace(called, sent="", host="")
        if called.what == "random":
            self._known["random", domain] = now + options.domain_positive, Called()
        elif called.what == "postmaster" or (called.what == "mail" and not wanted.sender):
            self._known["domain", domain] = now + options.domain_negative, told
        elif called.what != "mail":
            kept = options.positive if called.status is None else options.negative
            self._known[key] = now + kept, told

    # --- one host ---

    async def _host(
        self, plan: Plan, batch: Batch, address: RoutedAddress, wanted: Callout
    ) -> Called:
        """Ask one host all that is to be asked."""
        timeouts = replace(plan.timeouts, connect=wanted.connect, command=wanted.timeout)
        pool = batch.facilities.pool
        target = plan.hop.target.address
        try:
            tls = plan.start() if plan.start is not None else None
            lease = await pool.connect(plan.hop, plan.session, timeouts, 1, tls)
        except Refused as refused:
            return _judged(refused.phase, refused.reply, "", target, "mail")
        except (HopFailure, Unmet, TemporaryFailure) as failure:
            return Called(_UNDECIDED, f"{target}: {failure}", host=target)
        try:
            return await self._questions(lease.connection, batch, address, wanted, target)
        except (HopFailure, UnsafeValue) as failure:
            return Called(_UNDECIDED, f"{target}: {failure}", host=target)
        finally:
            lease.connection.close()

    async def _questions(
        self,
        connection: HopProtocol,
        batch: Batch,
        address: RoutedAddress,
        wanted: Callout,
        target: str,
    ) -> Called:
        recipient = address.address
        if wanted.random:
            scope: Scope = batch.scope()
            local_part = await self._options.random_local_part.expand(scope)
            nobody = f"{local_part}@{address.domain}"
            called = await _asked(connection, wanted.sender, nobody, target)
            if called.status is None:
                return Called(what="random", host=target)
        called = await _asked(connection, wanted.sender, recipient, target)
        if called.status is not None or wanted.postmaster is None:
            return called
        names = [f"postmaster@{address.domain}"]
        if wanted.full_postmaster:
            names.append("postmaster")
        for name in names:
            called = await _asked(connection, wanted.postmaster, name, target)
            if called.status is None:
                return Called(host=target)
        return replace(called, what="postmaster") if called.what == "recipient" else called


async def _nothing(outcomes: Sequence[Outcome]) -> None:
    """Nothing is delivered."""


async def _asked(connection: HopProtocol, sender: str, recipient: str, target: str) -> Called:
    found: list[tuple[Phase, Reply]] = []
    await connection.run(connection.session.probe(sender, recipient, found))
    phase, reply = found[-1]
    if phase is Phase.MAIL:
        return _judged(phase, reply, f"MAIL FROM:<{sender}>", target, "mail")
    return _judged(phase, reply, f"RCPT TO:<{recipient}>", target, "recipient")


def _judged(phase: Phase, reply: Reply, sent: str, host: str, what: str) -> Called:
    """Return what a reply says."""
    if reply.positive:
        return Called(host=host)
    after = f'response to "{sent or phase.value}" was: {reply}'
    if reply.code // 100 == 5:
        return Called(Status(550, 1, 1, str(reply)), after, what, sent or phase.value, host)
    return Called(_UNDECIDED, f"{host}: {after}", what, sent, host)


def _message(connection: Connection, sender: str, now: float) -> Message:
    """What a transport's options see in the place of a queued message."""
    transaction = connection.transaction
    return Message(
        id=transaction.id if transaction is not None else "",
        sender=sender,
        recipients=(),
        origin=connection.origin,
        headers=[],
        body=InlineBody(b""),
        received_at=now,
    )

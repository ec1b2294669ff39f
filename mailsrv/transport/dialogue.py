"""One attempt to hand a batch to one next hop over SMTP or LMTP, with what came of it.

Shared by the ``smtp`` and ``lmtp`` transports: takes a kept connection or
makes one, runs the transaction, and turns replies and failures into outcomes
(specification 49.2 "Errors in outgoing SMTP").
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mailsrv.errors import PermanentFailure, TemporaryFailure
from mailsrv.mail.address import quoted, split, unquoted
from mailsrv.mail.message import Message
from mailsrv.mail.routed import BESIDE, Host, HostFailure, Outcome, Result, RoutedAddress
from mailsrv.mail.status import Status
from mailsrv.mail.taint import like
from mailsrv.net.tlsclient import ClientStart
from mailsrv.transport.connection import HopFailure, Timeouts
from mailsrv.transport.headers import Content
from mailsrv.transport.pool import Hop, Lease
from mailsrv.transport.transport import Batch
from mailsrv.wire.client import Answers, AuthUse, Refused, Session, TlsUse, Unmet
from mailsrv.wire.envelope import Envelope, EnvelopeRecipient, UnsafeValue, word
from mailsrv.wire.replies import Phase, Reply

_TEMPORARY_NAMES = {
    Phase.MAIL: "mail_4xx",
    Phase.RCPT: "rcpt_4xx",
    Phase.DATA: "data_4xx",
    Phase.CHUNK: "data_4xx",
    Phase.FINAL: "data_4xx",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How to talk to a next hop; ``host`` is None where the log names none (a Unix socket)."""

    hop: Hop
    timeouts: Timeouts
    host: Host | None = None
    max_messages: int = 0
    pipelining: bool = True
    esmtp: bool = True
    ignore_quota: bool = False
    size_addition: int = 1024  # negative: SIZE is not sent
    include_affixes: bool = False
    chunking: bool = False
    tls: TlsUse = field(default_factory=TlsUse)
    start: Callable[[], ClientStart] | None = None  # makes the TLS of a new connection
    auth: AuthUse | None = None
    mail_auth: Callable[[Session], Awaitable[str]] | None = None  # AUTH= of MAIL

    def in_clear(self) -> Plan:
        """Return the plan for a connection without TLS."""
        hop = self.hop._replace(security=("clear", self.hop.security))
        return replace(self, hop=hop, tls=TlsUse(), start=None)

    @property
    def label(self) -> str:
        """The protocol's name in log lines."""
        return "LMTP" if self.hop.lmtp else "SMTP"

    def session(self) -> Session:
        """Return a fresh session for a new connection."""
        return Session(
            self.hop.helo,
            lmtp=self.hop.lmtp,
            pipelining=self.pipelining,
            esmtp=self.esmtp,
            ignore_quota=self.ignore_quota,
            chunking=self.chunking,
            tls=self.tls,
            auth=self.auth,
        )


@dataclass(slots=True)
class Attempt:
    """What one host said: ``settled`` is final; ``open`` may be tried at another host.

    That is what was deferred, and what was failed because the host wants no session at all.
    """

    settled: list[Outcome] = field(default_factory=list)
    open: list[Outcome] = field(default_factory=list)
    failure: HostFailure | None = None


def helo_name(text: str) -> str:
    """Return the name for EHLO.

    :raises TemporaryFailure: it is not one word: the configuration is at fault, not the mail.
    """
    try:
        return word(text)
    except UnsafeValue as error:
        raise TemporaryFailure(reason=f"helo_data: {error}") from None


async def attempt(
    plan: Plan,
    batch: Batch,
    addresses: Sequence[RoutedAddress],
    content: Content,
    settle: Callable[[Sequence[Outcome]], Awaitable[None]],
    *,
    last: bool,
) -> Attempt:
    """Send the message to one host for ``addresses`` and ``settle`` what it decided.

    What is left in ``open`` otherwise is settled, too, if ``last``.
    """
    pool, clock = batch.facilities.pool, batch.facilities.clock
    started = clock.seconds()
    envelope = envelope_for(plan, batch, addresses, content)
    answers = Answers()
    failure: HopFailure | Refused | Unmet | UnsafeValue | PermanentFailure | None = None
    lease: Lease | None = None
    try:
        try:
            lease = await _transact(plan, batch, envelope, content, answers)
        except (HopFailure, Refused, Unmet, UnsafeValue, PermanentFailure) as error:
            failure = error
        facts: dict[str, Any] = {"seconds": clock.seconds() - started}
        if lease is not None:
            facts |= _facts(lease)
        result = _judge(plan, addresses, answers, failure, facts)
        if last:
            result.settled += result.open
            result.open = []
        if result.settled:
            await settle(result.settled)
    except BaseException:
        if lease is not None:
            pool.discard(lease)
        raise
    if lease is not None:
        pool.give_back(lease)
    return result


async def _transact(
    plan: Plan, batch: Batch, envelope: Envelope, content: Content, answers: Answers
) -> Lease:
    """Run the transaction on a kept connection or a new one.

    A kept connection may have died unnoticed: as long as it has answered
    nothing (or only that it closes), nothing was handed over, and a new one is
    tried once.
    """
    pool = batch.facilities.pool
    lease = pool.take(plan.hop, plan.max_messages)
    if lease is not None:
        try:
            await _run(plan, lease, envelope, content, answers)
            if not _closing(answers):
                return lease
            pool.discard(lease)
        except HopFailure as error:
            untouched = not lease.connection.answered and error.error == "lost_connection"
            if not untouched and not _closing(answers):
                raise
        answers.replies.clear()
    lease = await _connect(plan, batch)
    await _run(plan, lease, envelope, content, answers)
    return lease


async def _connect(plan: Plan, batch: Batch) -> Lease:
    """Open a connection; where TLS fails and need not be, a second one in clear (43.13)."""

    start = plan.start() if plan.start is not None else None

    async def opened(plan: Plan) -> Lease:
        pool = batch.facilities.pool
        tls = start if plan.start is not None else None
        return await pool.connect(plan.hop, plan.session, plan.timeouts, plan.max_messages, tls)

    try:
        lease = await opened(plan)
    except HopFailure as error:
        if not error.tls:
            raise
        if plan.tls.required or plan.tls.implicit:
            text = "a TLS session is required, but an attempt to start TLS failed"
            failure = HopFailure(f"{text}: {error.reason}", "tls_required")
            failure.phase, failure.tls = Phase.STARTTLS, True
            raise failure from None
        if not plan.tls.clear_on_4xx:
            raise
        _note(plan, batch, f"{error.reason}: delivering unencrypted (not in hosts_require_tls)")
        lease = await opened(plan.in_clear())
    session = lease.connection.session
    for name, why in session.auth_failures:
        _note(plan, batch, f"{name} authenticator failed: {why}")
    if session.tls is not None and start is not None and start.fault:
        _note(plan, batch, f"TLS: certificate not verified: {start.fault}")
    return lease


def _note(plan: Plan, batch: Batch, text: str) -> None:
    """Write a line about the host to the main log."""
    host = plan.host or Host("", plan.hop.target.address)
    batch.facilities.log.main(f"H={host.name} [{host.address}] {text}", batch.message.id)


def _facts(lease: Lease) -> dict[str, Any]:
    """Return what outcomes say of the connection."""
    connection = lease.connection
    session: Session = connection.session
    facts: dict[str, Any] = {"size": connection.sent, "interface": connection.interface}
    if session.tls is not None:
        facts |= {
            "tls": session.tls.cipher,
            "tls_verified": session.tls.verified,
            "tls_peer_dn": session.tls.peer_dn,
        }
    return facts | {"authenticator": session.authenticator}


async def _run(
    plan: Plan, lease: Lease, envelope: Envelope, content: Content, answers: Answers
) -> None:
    connection = lease.connection
    try:
        if envelope.utf8 and not plan.hop.lmtp and "SMTPUTF8" not in connection.session.extensions:
            text = "utf8 support required but not offered for forwarding"  # RFC 6531 3.2
            raise PermanentFailure(Status(550, 6, 7, text), text)
        if plan.mail_auth is not None:
            envelope = replace(envelope, auth=await plan.mail_auth(connection.session))
        await connection.run(connection.session.transaction(envelope, answers), content.chunks)
    except (UnsafeValue, PermanentFailure):
        connection.close()
        raise


def _closing(answers: Answers) -> bool:
    """Tell whether the hop answered MAIL with 421: it had given the connection up before."""
    return any(
        phase is Phase.MAIL and reply.code == 421 for phase, reply in answers.replies.values()
    )


def envelope_for(
    plan: Plan, batch: Batch, addresses: Sequence[RoutedAddress], content: Content
) -> Envelope:
    """Return MAIL and RCPT for ``addresses``; DSN parameters end where dsn_lasthop says so."""
    message = batch.message
    size = content.size + plan.size_addition if plan.size_addition >= 0 else 0
    lasthop = all(address.dsn_lasthop for address in addresses)
    return Envelope(
        sender=batch.sender,
        recipients=tuple(_recipient(plan, address) for address in addresses),
        size=size,
        eight_bit=message.body_8bitmime == 8,
        utf8=message.smtputf8 and _needs_utf8(message, batch.sender, addresses),
        ret="" if lasthop else message.ret,
        envid="" if lasthop else message.envid,
    )


def _recipient(plan: Plan, address: RoutedAddress) -> EnvelopeRecipient:
    shown = sent_address(address, include_affixes=plan.include_affixes)
    if address.dsn_lasthop:
        return EnvelopeRecipient(shown)
    notify = ",".join(
        word
        for word in ("NEVER", "SUCCESS", "FAILURE", "DELAY")
        if word in address.recipient.notify
    )
    return EnvelopeRecipient(shown, notify, address.recipient.orcpt)


def sent_address(address: RoutedAddress, *, include_affixes: bool) -> str:
    """Return the address as RCPT names it: in its own case, without affixes unless asked for."""
    if include_affixes or not (address.prefix or address.suffix):
        return address.address
    local_part, domain = split(address.address)
    plain = unquoted(local_part)  # that is what the affixes were found in
    rest = plain[len(address.prefix) : len(plain) - len(address.suffix)]
    return like(f"{quoted(rest)}@{domain}", address.address)


def _needs_utf8(message: Message, sender: str, addresses: Sequence[RoutedAddress]) -> bool:
    """Tell whether the envelope or header holds octets beyond ASCII (RFC 6531 3.4)."""
    texts = [sender, *(a.address for a in addresses), *(h.text for h in message.headers)]
    return not all(text.isascii() for text in texts)


# --- replies to outcomes -------------------------------------------------------


def _judge(
    plan: Plan,
    addresses: Sequence[RoutedAddress],
    answers: Answers,
    failure: HopFailure | Refused | Unmet | UnsafeValue | PermanentFailure | None,
    facts: Mapping[str, Any],
) -> Attempt:
    """Decide about each address; ``facts`` are what all outcomes say of the connection."""
    result = Attempt()
    host_to_blame, message_to_blame = _to_blame(failure), _of_message(plan, failure)
    waiting = answers.waiting if _phase(failure) is Phase.RCPT and not host_to_blame else None
    for index, address in enumerate(addresses):
        answer = answers.settled(index)
        if index in answers.unsafe:
            outcome = replace(_unsafe(plan, address, answers.unsafe[index]), **facts)
        elif answer is not None:
            outcome = _answered(plan, address, *answer, answers, facts)
        else:
            outcome = _failed(plan, address, failure, host_to_blame or message_to_blame)
            if waiting is not None and waiting != index:  # another recipient's reply did not come
                outcome = replace(outcome, error=BESIDE)
            outcome = replace(outcome, **facts)
        elsewhere = outcome.result is Result.DEFERRED or isinstance(failure, Refused)
        chosen = result.open if elsewhere else result.settled
        chosen.append(outcome)
    blamed = next((o for o in result.open if o.host_error), None)
    if blamed is not None and plan.host is not None:
        only = not host_to_blame
        result.failure = HostFailure(
            plan.host, blamed.error, blamed.reason, blamed.more_errno, message_only=only
        )
    return result


def _phase(failure: Exception | None) -> Phase | None:
    return failure.phase if isinstance(failure, HopFailure) else None


def _of_message(plan: Plan, failure: Exception | None) -> bool:
    """Tell whether a failure without a reply concerns this message at this host (49.2)."""
    phase = _phase(failure)
    return not plan.hop.lmtp and phase in (Phase.MAIL, Phase.FINAL) and not _to_blame(failure)


def _to_blame(failure: Exception | None) -> bool:
    """Tell whether a failure is the host's, not the message's or recipient's (49.2).

    A 5yz to the greeting or EHLO fails the addresses if no other host is there; nothing is
    held against this one.
    """
    if isinstance(failure, Refused):
        return failure.reply.code // 100 == 4
    if isinstance(failure, Unmet):
        return True
    if not isinstance(failure, HopFailure) or failure.phase is Phase.FINAL:
        return False
    return failure.error != "timeout" or failure.phase not in (Phase.MAIL, Phase.RCPT)


def _answered(
    plan: Plan,
    address: RoutedAddress,
    phase: Phase,
    reply: Reply,
    answers: Answers,
    facts: Mapping[str, Any],
) -> Outcome:
    remote = plan.host is not None and not plan.hop.lmtp
    if reply.positive:
        return Outcome(
            address,
            Result.DELIVERED,
            status=reply.status,
            host=plan.host,
            confirmation=str(reply),
            pipelined=answers.pipelined,
            chunking=answers.chunking,
            remote=remote,
            dsn_passed_on=answers.dsn_passed_on and not address.dsn_lasthop,
            **facts,
        )
    temporary = reply.code // 100 == 4
    where = phase.value
    if phase is Phase.RCPT:
        where += f":<{sent_address(address, include_affixes=plan.include_affixes)}>"
    source = "LMTP error" if plan.hop.lmtp else "SMTP error from remote mail server"
    return Outcome(
        address,
        Result.DEFERRED if temporary else Result.FAILED,
        reason=f"{source} after {where}: {reply}",
        status=reply.status,
        host=plan.host,
        confirmation=str(reply),
        error=_TEMPORARY_NAMES.get(phase, "*") if temporary else "*",
        more_errno=str(reply.code) if temporary else "",
        host_error=temporary and remote and phase is not Phase.RCPT,
        remote=remote,
        **facts,
    )


def _failed(
    plan: Plan, address: RoutedAddress, failure: Exception | None, host_error: bool
) -> Outcome:
    """Return the outcome of an address that got no answer of its own."""
    remote = plan.host is not None and not plan.hop.lmtp
    if isinstance(failure, PermanentFailure):
        return Outcome(
            address, Result.FAILED, failure.reason, failure.status, plan.host, remote=remote
        )
    if isinstance(failure, UnsafeValue):
        return _unsafe(plan, address, str(failure))
    if isinstance(failure, Refused):
        permanent = failure.reply.code // 100 == 5
        source = "LMTP error" if plan.hop.lmtp else "SMTP error from remote mail server"
        return Outcome(
            address,
            Result.FAILED if permanent else Result.DEFERRED,
            f"{source} after {failure.phase.value}: {failure.reply}",
            failure.reply.status,
            plan.host,
            confirmation=str(failure.reply),
            error="auth_failed" if failure.phase is Phase.AUTH else "*",
            host_error=host_error,
            remote=remote,
        )
    if isinstance(failure, Unmet):
        return Outcome(
            address,
            Result.DEFERRED,
            failure.reason,
            Status(451, 7, 1, failure.reason),
            plan.host,
            error=failure.error,
            host_error=host_error,
            remote=remote,
        )
    reason, error = f"{plan.label}: no answer for this recipient", "lost_connection"
    if isinstance(failure, HopFailure):
        reason, error = failure.reason, failure.error
        if plan.host is None and failure.phase is None:
            place = plan.hop.target.address
            reason = (
                f"Failed to connect to socket {place} for {plan.hop.transport} transport: {reason}"
            )
        elif failure.phase is not None and not failure.tls:
            reason = f"{plan.label} session failed after {failure.phase.value}: {reason}"
    return Outcome(
        address,
        Result.DEFERRED,
        reason,
        Status(451, 4, 2, "the next hop cannot be reached or gave no answer"),
        plan.host,
        error=error,
        more_errno=_kind(plan.host) if error.startswith(("refused", "timeout")) else "",
        host_error=host_error and plan.host is not None,
        remote=remote,
    )


def _kind(host: Host | None) -> str:
    """Return what refused and timeout are qualified with (specification 32.5)."""
    return "" if host is None else "MX" if host.mx else "A"


def _unsafe(plan: Plan, address: RoutedAddress, reason: str) -> Outcome:
    return Outcome(
        address,
        Result.FAILED,
        f"refused to send: {reason}",
        Status(553, 1, 3, "address cannot be sent over SMTP"),
        plan.host,
    )

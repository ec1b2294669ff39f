"""One delivery attempt of one message, from routing to what is written at its end.

A recipient is done when each address that it became is delivered, or failed and
reported.  Delivered addresses are committed at once, batch by batch; failures
are committed at the end together with their one bounce, so that a crash between
the two repeats an attempt and never loses a bounce.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from time import gmtime, strftime
from typing import TYPE_CHECKING, Any

from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import (
    IClock,
    IDelivering,
    IMailLog,
    IRouting,
    ISpool,
    Routed,
    Unrouted,
    Waits,
    no_matter,
)
from mailsrv.mail.address import split
from mailsrv.mail.case import lower
from mailsrv.mail.message import ATTEMPTED, Message, Recipient
from mailsrv.mail.parts import part_key
from mailsrv.mail.routed import CROWDED, NOT_REACHED, Outcome, Result, RoutedAddress
from mailsrv.mail.status import Status
from mailsrv.queue.bouncer import Bouncer, recipients_of
from mailsrv.queue.schedule import Schedule
from mailsrv.queue.shield import shielded

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

AT_A_TIME = 20  # recipients of one message routed at a time
QUEUED = 1800.0  # seconds to the next attempt of what is only queued, or held
PROBLEM = 900.0  # seconds to the next attempt after an unexpected error
GAVE_UP = "retry timeout exceeded"

Domains = Callable[[str], Awaitable[bool]]  # a domain list of the main section


async def no_domain(domain: str) -> bool:
    """The domain list that is not set."""
    return False


@dataclass(slots=True)
class Tools:
    """What every attempt needs."""

    clock: IClock
    spool: ISpool
    routing: IRouting
    delivering: IDelivering
    schedule: Schedule
    bouncer: Bouncer
    log: IMailLog
    stopping: Callable[[], bool]
    waits: Callable[[str], Waits] = lambda id: no_matter
    ignore_bounce_errors_after: float = 70 * 86400.0
    message_logs: bool = True
    holds: Domains = no_domain  # hold_domains
    later: Domains = no_domain  # queue_domains
    later_remote: Domains = no_domain  # queue_smtp_domains
    remote: frozenset[str] = frozenset()  # the transports that later_remote is about
    halted: str = ""  # why nothing at all can be delivered


class Attempt:
    """One attempt; ``first`` routes and delivers whatever the retry hints say of addresses."""

    def __init__(self, tools: Tools, message: Message, *, first: bool = False) -> None:
        self._tools = tools
        self._message = message
        self._hurry = first
        self._recipients = recipients_of(message)
        self._left: dict[str, set[str]] = {}  # recipient -> keys of addresses not settled
        self._owners: dict[str, list[str]] = {}  # key -> recipients that became it
        self._done: set[str] = set()  # recipients that are committed
        self._failed: list[Outcome] = []
        self._failed_keys: set[str] = set()
        self._succeeded: list[Outcome] = []
        self._deferred: list[tuple[Outcome, float]] = []
        self._discarded: list[RoutedAddress] = []  # :blackhole: and its like
        self._skipped: list[float] = []  # next times of recipients whose time had not come
        self._freezing = False  # a router asked for it (:freeze:, self = freeze)
        self.removed = False
        self.reported = False  # there are new messages in the spool, due at once
        self._recording: set[Deferred[None]] = set()  # outcomes that are being written
        self._ended = False  # "Completed" is logged

    async def run(self) -> None:
        """Make the attempt, and write its end to the spool.

        When cancelled it stops where it is; outcomes that came before are recorded.
        """
        from twisted.internet.defer import CancelledError, DeferredList

        try:
            await self._run()
        except CancelledError:
            await DeferredList(list(self._recording))
            raise

    async def _run(self) -> None:
        from twisted.internet.defer import CancelledError

        recipients = []
        for recipient in self._recipients.values():
            waits = 0.0
            if not self._hurry and self._message.id not in self._tools.schedule.forced:
                waits = self._tools.schedule.waits_until(self._message, recipient.address)
            if waits:
                self._skipped.append(waits)
            else:
                recipients.append(recipient)
        if len(recipients) == 1:
            addresses = await self._route(recipients[0])
        else:
            addresses = await self._route_all(recipients)
        if self._discarded:
            await self._record([Outcome(each, Result.DELIVERED) for each in self._discarded])
        if addresses:
            try:
                await self._tools.delivering.deliver(
                    self._message, addresses, self._record, self._tools.waits(self._message.id)
                )
            except CancelledError:
                raise
            except Exception as error:  # a bug of a transport costs one delivery
                self._tools.log.panic(f"{self._message.id}: delivery failed", error)
            settled = self._failed_keys | {part_key(o.address) for o, _ in self._deferred}
            if any(self._left.values()):
                forgotten = [_problem(a) for a in addresses if self._pending(part_key(a), settled)]
                if forgotten:
                    await self._record(forgotten)
        await self._end()

    # --- routing ---

    async def _route_all(self, recipients: Sequence[Recipient]) -> list[RoutedAddress]:
        """Route some recipients at a time."""
        from twisted.internet.defer import Deferred, DeferredSemaphore, FirstError, gatherResults

        gate = DeferredSemaphore(AT_A_TIME)
        found = [
            gate.run(lambda r: Deferred.fromCoroutine(self._route(r)), recipient)
            for recipient in recipients
        ]
        try:
            routed = await gatherResults(found, consumeErrors=True)
        except FirstError as error:  # the spool failed at the end, or this attempt is cancelled
            error.subFailure.raiseException()
        return [address for addresses in routed for address in addresses]

    async def _route(self, recipient: Recipient) -> list[RoutedAddress]:
        """Route one recipient; return what of it is to be delivered and nobody else's already."""
        from twisted.internet.defer import CancelledError

        try:
            if held := await self._held(recipient):
                self._wait(recipient, held)
                return []
            routed = await self._tools.routing.route(self._message, recipient)
        except CancelledError:
            raise
        except Exception as error:  # a bug of a router costs one attempt
            self._tools.log.panic(f"{self._message.id}: routing failed", error)
            routed = Routed(status=Status(451, 3, 0, "routing failed"), reason="internal error")
        if routed.frozen:
            self._freezing = True
            words = routed.reason or "frozen by a router"
            routed = replace(routed, status=Status(451, 3, 0, words))
        keys = self._left[recipient.address] = set()
        if routed.status is None:
            self._tools.schedule.routed(recipient.address)
        else:
            address = _unrouted(recipient)
            address.router = routed.router
            reason = routed.reason or routed.status.text
            await self._not_routed(
                Unrouted(
                    address,
                    routed.status,
                    reason,
                    routed.frozen,
                    routed.by_local_part,
                    routed.told,
                    routed.error,
                )
            )
        # Others are delivered also if the address itself, or one that it became, failed.
        new = [address for address in routed.addresses if self._claim(address)]
        for child in new:
            if child.parent is not None:
                self._tools.schedule.routed(child.address)
        if self._hurry and self._tools.remote:
            new = [address for address in new if not await self._queued(address)]
        self._discarded += [address for address in routed.discarded if self._claim(address)]
        for each in routed.unrouted:
            self._freezing = self._freezing or each.frozen
            await self._not_routed(each)
        if not keys:
            await self._settle([recipient.address], [])
        return new

    async def _held(self, recipient: Recipient) -> str:
        """Return why an address is not even routed now: hold_domains, queue_domains."""
        tools, domain = self._tools, lower(split(recipient.address)[1])
        if tools.halted:
            return tools.halted
        if self._message.id not in tools.schedule.forced and await tools.holds(domain):
            return "domain is held"
        if self._hurry and await tools.later(domain):
            return "domain is in queue_domains"
        return ""

    def _wait(self, recipient: Recipient, why: str) -> None:
        """Defer an address without an attempt; the retry rules know nothing of it."""
        address = _unrouted(recipient)
        self._left[recipient.address] = {part_key(address)}
        self._postpone(address, why)

    def _postpone(self, address: RoutedAddress, why: str) -> None:
        outcome = Outcome(address, Result.DEFERRED, why, error=NOT_REACHED)
        self._deferred.append((outcome, self._tools.clock.seconds() + QUEUED))

    async def _queued(self, address: RoutedAddress) -> bool:
        """Whether an address is left for another attempt: queue_smtp_domains."""
        tools, why = self._tools, "domain is in queue_smtp_domains"
        if address.transport not in tools.remote:
            return False
        try:
            if not await tools.later_remote(address.domain):
                return False
        except TemporaryFailure as failure:
            why = f"queue_smtp_domains: {failure.explained}"
        self._postpone(address, why)
        return True

    def _claim(self, address: RoutedAddress) -> bool:
        """Count an address among what its recipient waits for; False: somebody else has it."""
        key = part_key(address)
        if key in self._message.parts:
            return False
        recipient = address.recipient.address
        self._left[recipient].add(key)
        new = key not in self._owners
        self._owners.setdefault(key, []).append(recipient)
        return new

    async def _not_routed(self, failed: Unrouted) -> None:
        """Settle an address that could not be routed, unless it was reported before.

        It was if its recipient is here for others alone: unseen copies, or a list's members.
        """
        if not self._claim(failed.address):
            return
        status = failed.status
        result = Result.DEFERRED if status.temporary else Result.FAILED
        error = _BUG if failed.frozen else failed.error
        await self._unsuccessful(
            Outcome(
                failed.address,
                result,
                failed.reason,
                status,
                error=error,
                by_local_part=failed.by_local_part,
                told=failed.told,
            )
        )

    # --- what became of addresses ---

    def _pending(self, key: str, settled: set[str]) -> bool:
        return key not in settled and any(
            key in self._left.get(owner, ()) for owner in self._owners.get(key, ())
        )

    async def _record(self, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes; what is begun here ends, even if the attempt is cancelled."""
        said = f"{self._message.id}: outcomes are lost"
        recorded, waiting = shielded(
            self._recorded(outcomes), lambda error: self._tools.log.panic(said, error)
        )
        self._recording.add(recorded)
        recorded.addBoth(lambda _: self._recording.discard(recorded))
        await waiting

    async def _recorded(self, outcomes: Sequence[Outcome]) -> None:
        """Commit what was delivered, then log it; keep the rest for the end."""
        delivered = [o for o in outcomes if o.result is Result.DELIVERED]
        done, parts = [], []
        for outcome in delivered:
            key = part_key(outcome.address)
            parts.append(key)
            for owner in self._owners.get(key, ()):
                self._left[owner].discard(key)
                if not self._left[owner]:
                    done.append(owner)
            self._tools.schedule.succeeded(self._message, outcome)
        self._succeeded += delivered
        if delivered:
            await self._settle(done, parts)
        seen: set[tuple[str, object]] = set()
        for outcome in delivered:
            group = (outcome.address.transport, outcome.host)
            self._tools.log.delivered(self._message, outcome, additional=group in seen)
            seen.add(group)
        if self.removed:
            self._completed()
        for outcome in outcomes:
            if outcome.result is not Result.DELIVERED:
                await self._unsuccessful(outcome)

    async def _unsuccessful(self, outcome: Outcome) -> None:
        if outcome.result is Result.DEFERRED:
            self._freezing = self._freezing or outcome.frozen
            if outcome.error == _BUG or outcome.frozen:
                self._deferred.append((outcome, self._tools.clock.seconds() + PROBLEM))
                return
            next_try = await self._tools.schedule.deferred(self._message, outcome)
            if next_try is not None:
                self._deferred.append((outcome, next_try))
                return
            self._tools.log.deferred(self._message, outcome)
            reason = f"{outcome.reason}: {GAVE_UP}".lstrip(": ")
            told = f"{outcome.told}: {GAVE_UP}" if outcome.told else ""
            outcome = replace(outcome, result=Result.FAILED, reason=reason, told=told)
        self._failed.append(outcome)
        self._failed_keys.add(part_key(outcome.address))

    async def _settle(self, done: Sequence[str], parts: Sequence[str]) -> None:
        """Commit deliveries; with the last one of a message goes the message itself."""
        new = [address for address in done if address not in self._done]
        self._done.update(new)
        spool, id = self._tools.spool, self._message.id
        if self._done >= self._recipients.keys():
            reports = await self._tools.bouncer.successes(self._message, self._succeeded)
            await self._durably(lambda: spool.remove(id, reports=reports))
            self.removed = True
            self._log_reports(reports)
        else:
            await self._durably(lambda: spool.settle(id, new, parts=parts))

    async def _durably(self, write: Callable[[], Awaitable[object]]) -> None:
        """Write until it is written: what was delivered must not be forgotten."""
        from twisted.internet.task import deferLater

        delay = 1.0
        while True:
            try:
                await write()
                return
            except TemporaryFailure as failure:
                self._tools.log.panic(f"{self._message.id}: cannot record deliveries: {failure}")
                if self._tools.stopping():
                    raise
            clock: Any = self._tools.clock
            await deferLater(clock, delay, lambda: None)
            delay = min(2 * delay, 30.0)

    # --- the end ---

    async def _end(self) -> None:
        if self.removed:
            self._completed()
            return
        now = self._tools.clock.seconds()
        if self._failed and not self._message.sender and not self._ignored(now):
            await self._freeze(now)
            return
        await self._report(now)
        if self._freezing and not self.removed:
            await self._keep_frozen(now)
            self._tools.log.main("Frozen", self._message.id)

    def _completed(self) -> None:
        """Log the end of the message, once."""
        if not self._ended:
            self._ended = True
            self._tools.log.completed(self._message)

    def _ignored(self, now: float) -> bool:
        """Whether a bounce that cannot be delivered is thrown away (ignore_bounce_errors_after)."""
        return now - self._message.received_at >= self._tools.ignore_bounce_errors_after

    async def _freeze(self, now: float) -> None:
        """Keep a message that failed and has no sender to tell (ignore_bounce_errors_after)."""
        await self._keep_frozen(now, self._history(now))
        self._log_unsuccessful()
        self._tools.log.main("Frozen (delivery error message)", self._message.id)

    async def _keep_frozen(self, now: float, history: str = "") -> None:
        """Freeze the message durably, and tell whom freeze_tell names."""
        message, spool = self._message, self._tools.spool
        message.frozen_at = now
        why = next((o.reason for o in [*self._failed, *(d for d, _ in self._deferred)]), "")
        waiting = [address for address in self._recipients if address not in self._done]
        notices = self._tools.bouncer.frozen(message, why, waiting)
        await self._durably(lambda: spool.update(message, now))
        await self._durably(
            lambda: spool.settle(
                message.id, (), parts=[ATTEMPTED], reports=notices, history=history
            )
        )
        self._log_reports(notices)

    async def _report(self, now: float) -> None:
        """Commit failures with their bounce, and the next attempt's time."""
        message, spool, bouncer = self._message, self._tools.spool, self._tools.bouncer
        keys = {part_key(o.address) for o in self._failed}
        for key in keys:
            for owner in self._owners.get(key, ()):
                self._left[owner].discard(key)
        await self._promote()
        done = [a for a, left in self._left.items() if not left and a not in self._done]
        reports = await bouncer.failures(message, self._failed)
        reports += await bouncer.successes(message, self._succeeded)
        self._done.update(done)
        times = [time for _, time in self._deferred] + self._skipped
        if self._done >= self._recipients.keys():
            await self._durably(lambda: spool.remove(message.id, reports=reports))
            self.removed = True
        else:
            tried = [o for o, _ in self._deferred]
            warned, warnings = await bouncer.warnings(message, tried, now)
            reports += warnings
            next_attempt = max(min(times, default=now + PROBLEM), now + 1)
            history = self._history(now)
            await self._durably(
                lambda: spool.settle(
                    message.id,
                    done,
                    parts=sorted(keys | {ATTEMPTED} if message.first_delivery else keys),
                    next_attempt=next_attempt,
                    reports=reports,
                    history=history,
                )
            )
            if warned != message.warned:
                message.warned = warned
                await self._durably(lambda: spool.update(message, next_attempt))
        self._log_unsuccessful()
        self._log_reports(reports)
        if self.removed:
            self._completed()

    async def _promote(self) -> None:
        """Make recipients of the addresses whose redirection is not to be done again (one_time)."""
        message, promoted = self._message, {}
        for outcome, _ in self._deferred:
            address, key = outcome.address, part_key(outcome.address)
            taken = address.address in self._recipients or address.address in message.delivered
            if address.one_time and not taken:
                promoted[key] = replace(
                    address.recipient,
                    address=address.address,
                    errors_to=address.errors_to or address.recipient.errors_to,
                    parent=address.recipient.parent or address.recipient.address,
                )
        if not promoted:
            return
        added = list(promoted.values())
        await self._durably(lambda: self._tools.spool.edit(message.id, added=added))
        for key, recipient in promoted.items():
            self._recipients[recipient.address] = recipient
            for owner in self._owners.get(key, ()):
                self._left[owner].discard(key)

    def _log_reports(self, reports: Sequence[Message]) -> None:
        self.reported = self.reported or bool(reports)
        for report in reports:
            self._tools.log.received(report, bounce_of=self._message.id)

    def _log_unsuccessful(self) -> None:
        for outcome, _ in self._deferred:
            if outcome.error not in (NOT_REACHED, CROWDED) or self._tools.log.selected(
                "retry_defer"
            ):
                self._tools.log.deferred(self._message, outcome)
        for outcome in self._failed:
            self._tools.log.failed(self._message, outcome)

    def _history(self, now: float) -> str:
        """Return this attempt's lines of the message's own log (specification 53.16)."""
        if not self._tools.message_logs:
            return ""
        stamp = strftime("%Y-%m-%d %H:%M:%S", gmtime(now))
        flags = {Result.DELIVERED: "=>", Result.DEFERRED: "==", Result.FAILED: "**"}
        outcomes = [*self._succeeded, *self._failed, *(o for o, _ in self._deferred)]
        lines = []
        for o in outcomes:
            said = o.address.address
            said += f" R={o.address.router}" if o.address.router else ""
            said += f" T={o.address.transport}" if o.address.transport else ""
            text = f"{stamp} {flags[o.result]} {said} {o.reason}".rstrip(" ")
            lines.append("".join(c if " " <= c <= "~" else f"\\x{ord(c):02x}" for c in text) + "\n")
        return "".join(lines)


def _unrouted(recipient: Recipient) -> RoutedAddress:
    local_part, domain = split(recipient.address)
    return RoutedAddress(recipient, recipient.address, local_part, lower(domain))


_BUG = "internal"  # no rule applies: tried again after PROBLEM seconds


def _problem(address: RoutedAddress) -> Outcome:
    """Return the outcome of an address that a delivery forgot or failed at unexpectedly."""
    return Outcome(address, Result.DEFERRED, "internal error: see the panic log", error=_BUG)

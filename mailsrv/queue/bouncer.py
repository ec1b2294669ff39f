"""Decides which reports a message's outcomes cause, to whom, and builds them.

No method raises because a report cannot be built: what was delivered, or failed
for good, must be recorded all the same.  The report is left out then, or in case
of a failure is as bare as can be, and the panic log says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import IClock
from mailsrv.mail.message import Message, Recipient
from mailsrv.mail.routed import Outcome
from mailsrv.queue.bounce import Item, Kind, Report, ReportSettings, build, printable, wants
from mailsrv.queue.notice import failure, notice
from mailsrv.queue.warn import warnable, warnings_due


async def no_copies(address: str) -> Sequence[str]:
    """The default of errors_copy."""
    return ()


async def no_texts(message: Message, kind: Kind, to: str, delay: float) -> Sequence[str]:
    """The default of bounce_message_file and warn_message_file."""
    return ()


async def as_written(report: Message) -> Message:
    """Return a report as it is."""
    return report


async def default_condition(message: Message, domain: str) -> bool:
    """The default of delay_warning_condition."""
    return warnable(message)


@dataclass(slots=True)
class Bouncer:
    """Makes reports.

    ``settings`` gives the options anew for each report (dsn_from is expanded
    every time); ``panic`` is told what could not be built, and why; ``copies`` is
    errors_copy; ``may_warn`` is delay_warning_condition for a message and the only
    domain that is delayed ("" if there are several); ``received`` is
    received_header_text for a report; ``texts`` are the items of bounce_message_file or
    warn_message_file, expanded; ``freeze_tell`` are addresses; ``rewritten`` does to a
    report what reception does to others (31.2).
    """

    clock: IClock
    next_id: Callable[[], str]
    settings: Callable[[], ReportSettings]
    panic: Callable[[str, BaseException | None], None]
    delay_warning: Sequence[float] = (86400.0,)
    copies: Callable[[str], Awaitable[Sequence[str]]] = no_copies
    may_warn: Callable[[Message, str], Awaitable[bool]] = default_condition
    received: Callable[[Message], str] = lambda message: ""
    texts: Callable[[Message, Kind, str, float], Awaitable[Sequence[str]]] = no_texts
    freeze_tell: Sequence[str] = ()
    rewritten: Callable[[Message], Awaitable[Message]] = as_written

    async def failures(self, message: Message, outcomes: Sequence[Outcome]) -> list[Message]:
        """Return the bounces for failed addresses, one for each address that gets any."""
        wanted = [o for o in outcomes if wants(o.address.recipient, "FAILURE")]
        return await self._reports(message, wanted, Kind.FAILED)

    async def successes(self, message: Message, outcomes: Sequence[Outcome]) -> list[Message]:
        """Return the success notices that NOTIFY=SUCCESS asks of us (RFC 3461 5.2.2)."""
        wanted = [
            o
            for o in outcomes
            if wants(o.address.recipient, "SUCCESS")
            and (not o.dsn_passed_on or o.address.dsn_lasthop)
        ]
        return await self._reports(message, wanted, Kind.DELIVERED)

    async def warnings(
        self, message: Message, outcomes: Sequence[Outcome], now: float
    ) -> tuple[int, list[Message]]:
        """Return how many warnings are counted as sent now, and the warnings to send."""
        due = warnings_due(self.delay_warning, now - message.received_at)
        if due <= message.warned or not message.sender:
            return message.warned, []
        wanted = [o for o in outcomes if wants(o.address.recipient, "DELAY")]
        if not wanted or not await self._may_warn(message, wanted):
            return due, []
        return due, await self._reports(message, wanted, Kind.DELAYED, now - message.received_at)

    def frozen(self, message: Message, why: str, waiting: Sequence[str]) -> list[Message]:
        """Return what tells freeze_tell that a message was frozen; nothing of our own bounces."""
        ours = not message.sender and not message.origin.host_address
        if ours or not self.freeze_tell:
            return []
        now, settings, received = self.clock.seconds(), self.settings(), self.received
        try:
            return [
                notice(
                    self.next_id(), self.freeze_tell, message, why, waiting, settings, now, received
                )
            ]
        except Exception as error:
            self.panic(f"{message.id}: cannot build the message for freeze_tell", error)
            return []

    async def refused(
        self, to: str, subject: str, lines: Sequence[str], original: bytes
    ) -> Message | None:
        """Return what tells a local user that a message was not taken, or not for all."""
        now, settings, received = self.clock.seconds(), self.settings(), self.received
        try:
            return await self.rewritten(
                failure(self.next_id(), to, subject, lines, original, settings, now, received)
            )
        except Exception as error:
            self.panic(f"cannot build a message to {to}", error)
            return None

    async def cancelled(self, message: Message, reason: str) -> list[Message]:
        """Return the bounces for a message that is given up whole (``-Mg``, timeouts)."""
        if not message.sender:
            return []
        groups: dict[str, list[Item]] = {}
        for recipient in message.recipients:
            to = message.sender if recipient.errors_to is None else recipient.errors_to
            if to and wants(recipient, "FAILURE"):
                item = Item(recipient, recipient.address, Kind.FAILED, reason)
                groups.setdefault(to, []).append(item)
        return [each for to in groups for each in await self._report(message, to, groups[to])]

    async def _may_warn(self, message: Message, outcomes: Sequence[Outcome]) -> bool:
        from twisted.internet.defer import CancelledError

        domains = {outcome.address.domain for outcome in outcomes}
        try:
            return await self.may_warn(message, domains.pop() if len(domains) == 1 else "")
        except CancelledError:
            raise
        except Exception as error:
            self.panic(f"{message.id}: delay_warning_condition failed", error)
            return False

    async def _reports(
        self, message: Message, outcomes: Sequence[Outcome], kind: Kind, delay: float = 0.0
    ) -> list[Message]:
        if not message.sender:
            return []
        groups: dict[str, list[Item]] = {}
        for outcome in outcomes:
            to = _errors_to(message, outcome)
            if to:
                groups.setdefault(to, []).append(_item(outcome, kind))
        return [
            report for to in groups for report in await self._report(message, to, groups[to], delay)
        ]

    async def _report(
        self, message: Message, to: str, items: Sequence[Item], delay: float = 0.0
    ) -> list[Message]:
        """Return one report, or none if it is not worth more than what it tells."""
        from twisted.internet.defer import CancelledError

        now, host = self.clock.seconds(), "localhost"
        try:
            settings = self.settings()
            host = settings.primary_hostname
            copies, body = await self._copies(to, items), await self._body(message, items, settings)
            texts = await self.texts(message, items[0].kind, to, delay)
            report = Report(self.next_id(), to, items, now, delay, copies, texts)
            return [await self.rewritten(build(report, message, body, settings, self.received))]
        except CancelledError:
            raise
        except Exception as error:
            self.panic(f"{message.id}: cannot build a report to {to}", error)
        if items[0].kind is not Kind.FAILED:
            return []
        bare = [
            Item(item.recipient, item.address, Kind.FAILED, hidden=item.hidden) for item in items
        ]
        settings = ReportSettings(printable(host), bounce_return_body=False)
        return [build(Report(self.next_id(), to, bare, now), message, b"", settings)]

    async def _copies(self, to: str, items: Sequence[Item]) -> Sequence[str]:
        return await self.copies(to) if items[0].kind is Kind.FAILED else ()

    async def _body(
        self, message: Message, items: Sequence[Item], settings: ReportSettings
    ) -> bytes | None:
        """Return as much of the body as the report may need; None if it cannot be read."""
        returned = settings.bounce_return_message and settings.bounce_return_body
        if items[0].kind is not Kind.FAILED or not returned:
            return b""
        pieces, length = [], 0
        try:
            async for piece in message.body.chunks():
                pieces.append(piece)
                length += len(piece)
                if length > settings.most_returned:
                    break
        except TemporaryFailure as failure:  # it may never be readable again
            self.panic(f"{message.id}: returned without its body", failure)
            return None
        return b"".join(pieces)


def _errors_to(message: Message, outcome: Outcome) -> str:
    """Return where reports about an address go; "" for nowhere."""
    for chosen in (outcome.address.errors_to, outcome.address.recipient.errors_to):
        if chosen is not None:
            return chosen
    return message.sender


def _item(outcome: Outcome, kind: Kind) -> Item:
    if kind is Kind.DELIVERED and outcome.remote:
        kind = Kind.RELAYED
    return Item(
        outcome.address.recipient,
        outcome.address.address,
        kind,
        "" if kind in (Kind.DELIVERED, Kind.RELAYED) else outcome.told or outcome.reason,
        outcome.status,
        outcome.host,
        outcome.confirmation,
        outcome.address.hidden,
        outcome.address.parent.address if outcome.address.place and outcome.address.parent else "",
        outcome.output if kind is Kind.FAILED else "",
    )


def recipients_of(message: Message) -> dict[str, Recipient]:
    """Return the recipients by address; of equal addresses the first."""
    found: dict[str, Recipient] = {}
    for recipient in message.recipients:
        found.setdefault(recipient.address, recipient)
    return found

"""One delivery of the ``smtp`` transport on its way along a list of hosts (specification 30.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mailsrv.mail.routed import CROWDED, NOT_REACHED, Host, Outcome, Result, RoutedAddress
from mailsrv.mail.status import Status
from mailsrv.transport.dialogue import attempt
from mailsrv.transport.headers import Content, filtered
from mailsrv.transport.limits import Crowded
from mailsrv.transport.transport import Batch

if TYPE_CHECKING:
    from mailsrv.transport.transports.smtp import Smtp

NO_HOST = Status(451, 4, 1, "no next hop could be reached")
_GIVEN_UP = Status(550, 4, 7, "no next hop could be reached for a long time")
_PROBE = 300.0  # seconds that others leave a failing host to one message, without connect_timeout


class HostRun:
    """One message on its way along a list of hosts (specification 30.5)."""

    def __init__(self, transport: Smtp, batch: Batch, content: Content) -> None:
        self._transport = transport
        self._batch = batch
        self._content = content
        self._hosts: list[Host] = []  # all that were to be tried, as the retry hints know them
        self._outcomes: dict[int, Outcome] = {}
        self._crowded: Crowded | None = None  # at a host that might have been tried
        self._waits = False  # a host's time has not come: what it would say is not known
        self.open: list[RoutedAddress] = list(batch.addresses)

    async def over(self, hosts: Sequence[Host], *, last: bool) -> None:
        """Try ``hosts`` in order; settle what is left after them if ``last``."""
        retry, message = self._batch.facilities.host_retry, self._batch.message
        hosts = [await self._transport.known(self._batch, host) for host in hosts]
        due = [host for host in hosts if retry.may_try(message, host)]
        self._waits = self._waits or len(due) < len(hosts)
        anyway = False
        if not (due or self._transport.delay_after_cutoff) and retry.given_up(message, hosts):
            due, anyway = [host for host in hosts if retry.untried(message, host)], True
        hard = self._transport.hosts_max_try_hardlimit
        chosen = _within(
            due,
            self._transport.hosts_max_try,
            hard,
            lambda host: retry.given_up(message, (host,)),
        )
        # What is never tried, because there are too many, keeps no message from being given up.
        self._hosts += chosen if len(chosen) == hard else hosts
        for host in chosen:
            if not self.open:
                return
            if self._crowded is not None and self._crowded.after:
                break  # the host is busy, not silent: it will have its turn there
            try:
                await self._attempt(host, anyway=anyway)
            except Crowded as crowded:
                self._crowded = crowded
        if self.open and last:
            await self._settle([self._leftover(address) for address in self.open])
            self.open = []

    async def _attempt(self, host: Host, *, anyway: bool) -> None:
        """Try a host, unless another delivery has found meanwhile that it fails."""
        plan = await self._transport.plan_for(self._batch, host)
        facilities, message = self._batch.facilities, self._batch.message
        place = ("hop", plan.hop.target.address, str(plan.hop.target.port))
        most = 1 if await self._transport.serializes(self._batch, host) else 0
        retry = facilities.host_retry
        async with facilities.limits.hold({place: most or facilities.per_hop}, self._batch.crew):
            seconds = plan.timeouts.connect or _PROBE
            if not anyway and not await retry.claim(message, host, seconds):
                self._waits = True
                return
            try:
                content = await filtered(
                    self._transport,
                    self._batch,
                    self._content,
                    {"host": host.name, "host_address": host.address},
                )
                result = await attempt(
                    plan, self._batch, self.open, content, self._settle, last=False
                )
                if result.failure is not None:
                    await retry.failed(message, result.failure, self._batch.addresses[0].domain)
                if result.failure is None or result.failure.message_only:
                    retry.worked(host)
            finally:
                retry.release(host)
        for outcome in result.open:
            self._outcomes[id(outcome.address)] = outcome
        self.open = [outcome.address for outcome in result.open]

    async def _settle(self, outcomes: Sequence[Outcome]) -> None:
        """Settle outcomes; of those that retries depend on with what the hints are to know."""
        hosts, by_sender = tuple(self._hosts), self._transport.address_retry_include_sender
        await self._batch.settle(
            [
                outcome
                if outcome.result is Result.DELIVERED
                else replace(outcome, hosts=hosts, by_sender=by_sender)
                for outcome in outcomes
            ]
        )

    def _leftover(self, address: RoutedAddress) -> Outcome:
        """Return the outcome of an address that no host took."""
        outcome, crowded = self._outcomes.get(id(address)), self._crowded
        if outcome is not None:
            if outcome.result is Result.FAILED and (self._waits or crowded is not None):
                return replace(outcome, result=Result.DEFERRED, error=NOT_REACHED)
            return outcome
        result, error = Result.DEFERRED, NOT_REACHED
        reason = f"retry time not reached for any host for '{address.domain}'"
        if crowded is not None:
            error, reason = CROWDED, crowded.reason
        elif self._batch.facilities.host_retry.given_up(self._batch.message, self._hosts):
            result, reason = Result.FAILED, self._given_up(address.domain)
        return Outcome(
            address,
            result,
            reason,
            NO_HOST if result is Result.DEFERRED else _GIVEN_UP,
            self._hosts[0] if self._hosts else None,
            error=error,
            after=crowded.after if crowded is not None else 0.0,
            host_error=True,
            remote=self._transport.protocol != "lmtp",
        )

    def _given_up(self, domain: str) -> str:
        """Say that all hosts are past their cutoff, as Exim does (specification 32.10)."""
        later = self._transport.delay_after_cutoff
        why = (
            "(and retry time not reached)"
            if later
            else "and were last tried after this message arrived"
        )
        return f"all hosts for '{domain}' have been failing for a long time {why}"


def _within(
    hosts: Sequence[Host], most: int, hard: int, expired: Callable[[Host], bool]
) -> list[Host]:
    """Choose the hosts to try: ``most``, and beyond that one of each further MX value.

    Those that have been failing for too long do not count, up to ``hard`` in all.
    """
    if len(hosts) == 1 and min(most, hard) > 0:
        return list(hosts)
    chosen: list[Host] = []
    counted = 0
    for host in hosts:
        new_value = bool(chosen) and host.preference > chosen[-1].preference
        if counted < most or new_value:
            chosen.append(host)
            counted += not expired(host)
    return chosen[:hard]

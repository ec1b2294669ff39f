"""Deliveries that end as a table says, at once or when told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from mailsrv.interfaces import IClock, IHostRetry, Record, Waits, no_matter
from mailsrv.mail.message import Message
from mailsrv.mail.routed import Outcome, Result, RoutedAddress


class TableDelivering:
    """Provides ``IDelivering``.

    ``answers`` by address: fields of the :class:`Outcome` (``result`` is
    DEFERRED unless given) and ``host_failures``; any other address is delivered.  ``attempts`` has
    (time, address) in order.  While ``paused``, deliveries wait for ``go``.
    """

    def __init__(self, clock: IClock) -> None:
        self.clock = clock
        self.answers: dict[str, dict[str, Any]] = {}
        self.attempts: list[tuple[float, str]] = []
        self.error: Exception | None = None
        self.retry: IHostRetry | None = None  # told of host_failures
        self.paused = False
        self.waiting: list[Deferred[None]] = []

    async def deliver(
        self,
        message: Message,
        addresses: Sequence[RoutedAddress],
        record: Record,
        waits: Waits = no_matter,
    ) -> None:
        for address in addresses:
            self.attempts.append((self.clock.seconds(), address.address))
        if self.paused:
            self.waiting.append(Deferred())
            await self.waiting[-1]
        if self.error is not None:
            raise self.error
        for address in addresses:
            fields = dict(self.answers.get(address.address, {"result": Result.DELIVERED}))
            failures = fields.pop("host_failures", ())
            outcome = Outcome(
                address, **{"result": Result.DEFERRED, "hosts": address.hosts, **fields}
            )
            if self.retry is not None:
                for failure in failures:
                    await self.retry.failed(message, failure, address.domain)
                failed = [failure.host for failure in failures]
                if outcome.host is not None and outcome.host not in failed:
                    self.retry.worked(outcome.host)
            await record([outcome])

    def go(self) -> None:
        """Let what waits go on."""
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one.callback(None)

    async def close(self) -> None:
        pass

"""What becomes of frozen messages with time.

Main options auto_thaw, timeout_frozen_after and ignore_bounce_errors_after.
"""

from __future__ import annotations

from typing import Any

from mailsrv.interfaces import IClock, IMailLog, ISpool
from mailsrv.queue.operator import Operator
from mailsrv.queue.runner import QueueRunner

CHECK = 900.0  # seconds between looks at frozen messages, if an option asks for them


class FrozenWatch:
    """Thaws frozen messages, or gives them up, when their time has come."""

    def __init__(
        self,
        runner: QueueRunner,
        operator: Operator,
        spool: ISpool,
        clock: IClock,
        log: IMailLog,
    ) -> None:
        self._runner = runner
        self._operator = operator
        self._spool = spool
        self._clock = clock
        self._log = log
        self._timer: Any = None
        self._stopped = False

    def start(self) -> None:
        """Look from now on, until :meth:`stop`."""
        self._timer = self._clock.callLater(CHECK, self._again)

    def stop(self) -> None:
        """Look no more; what a look that is under way finds closed is no failure."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _again(self) -> None:
        from twisted.internet.defer import Deferred

        self.start()
        settings = self._runner.settings
        if (
            settings.timeout_frozen_after
            or settings.auto_thaw
            or settings.ignore_bounce_errors_after
        ):
            Deferred.fromCoroutine(self._look()).addErrback(self._failed)

    def _failed(self, failure: Any) -> None:
        if not self._stopped:
            self._log.panic("queue: frozen messages", failure.value)

    async def _look(self) -> None:
        """Do with frozen messages what the options ask for after a time."""
        settings, now = self._runner.settings, self._clock.seconds()
        thawed: dict[str, list[str]] = {"auto-thaw": [], "errmsg timer": []}
        async for entry in self._spool.listing():
            if not entry.frozen or entry.quarantined or not self._runner.may_change(entry.id):
                continue
            age = now - entry.received_at
            if 0 < settings.timeout_frozen_after <= age:
                await self._operator.give_up(entry.id, "cancelled by timeout_frozen_after")
                continue
            message = await self._spool.load(entry.id)
            if message is None:
                continue
            if message.sender:
                if 0 < settings.auto_thaw <= now - message.frozen_at:
                    thawed["auto-thaw"].append(entry.id)
            elif age >= settings.ignore_bounce_errors_after:
                thawed["errmsg timer"].append(entry.id)
        for what, ids in thawed.items():
            if ids:
                await self._runner.run_now(ids, force=True, frozen=True, thawed_by=what)

"""The spools that a process delivers from: its own, and those of processes that are no more.

A spool is a folder of the spool directory with a number for a name, locked by
the process that has it.  One that was taken over is given back when it is
empty or asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import IMailLog
from mailsrv.queue.frozen import FrozenWatch
from mailsrv.queue.operator import Operator
from mailsrv.queue.runner import QueueRunner
from mailsrv.service.build import Stages
from mailsrv.service.control import ControlFactory, listen
from mailsrv.service.requests import SOCKET
from mailsrv.spool.files import SpoolError
from mailsrv.spool.sqlite import SqliteSpool

Left = Callable[[int, str], None]
GRACE = 20.0  # seconds that deliveries have to end
EMPTY_CHECK = 2.0  # seconds between looks whether a spool that was taken over is empty


def folders(spool_directory: str) -> list[int]:
    """Return the numbers of the spools that there are."""
    names = os.listdir(spool_directory)
    return sorted(
        int(name)
        for name in names
        if name.isascii() and name.isdigit() and os.path.isdir(f"{spool_directory}/{name}")
    )


@dataclass(slots=True)
class Spool:
    """An open spool with what works on it."""

    spool: SqliteSpool
    queue: QueueRunner
    operator: Operator
    frozen: FrozenWatch
    control: Any = None

    async def stop_queue(self) -> None:
        """Begin no delivery, and wait for those under way."""
        self.frozen.stop()
        await self.queue.stop(GRACE)


class Spools:
    """All spools of one process, by number."""

    def __init__(self, reactor: Any, spool_directory: str, log: IMailLog) -> None:
        self._reactor = reactor
        self._directory = spool_directory
        self._log = log
        self._open: dict[int, Spool] = {}
        self._ending = False

    def open(self, number: int, stages: Stages) -> Spool:
        """Open a spool; nothing is delivered yet.

        :raises SpoolError, OSError: it cannot be used.
        """
        folder = f"{self._directory}/{number}"
        spool = SqliteSpool(self._reactor, folder, self._log.panic)
        runner, log, clock = stages.runner(spool), self._log, self._reactor
        operator = Operator(runner, spool, clock, log)
        made = Spool(spool, runner, operator, FrozenWatch(runner, operator, spool, clock, log))
        self._open[number] = made
        return made

    def start(self, number: int) -> None:
        """Deliver, and hear commands.

        :raises OSError: the control socket cannot be made.
        """
        this = self._open[number]
        this.control = listen(
            self._reactor,
            f"{self._directory}/{number}/{SOCKET}",
            ControlFactory(this.spool, this.operator, clock=self._reactor, log=self._log),
        )
        this.queue.start()
        this.frozen.start()

    def adopt(self, number: int, stages: Stages, left: Left) -> None:
        """Take over a spool that nobody has, until it is empty.

        ``left`` is called with the number when it is given back, and with why, if
        it cannot be used.
        """
        if number in self._open or self._ending:
            return
        try:
            self.open(number, stages)
            self.start(number)
        except (SpoolError, OSError) as error:
            problem = str(error)
            self.give_back(number, lambda spool, _: left(spool, problem))
            return
        self._log.main(f"spool {number} is taken over by pid={os.getpid()}")
        self._reactor.callLater(EMPTY_CHECK, self._look, number, left)

    def give_back(self, number: int, left: Left) -> None:
        """Let a spool go that was taken over; deliveries under way end before."""
        this = self._open.pop(number, None)
        if this is None:
            left(number, "")
            return
        done = Deferred.fromCoroutine(self._close(this))
        done.addErrback(lambda failure: self._log.panic("a spool did not close", failure.value))
        done.addCallback(lambda _: left(number, ""))

    def _look(self, number: int, left: Left) -> None:
        if number in self._open and not self._ending:
            done = Deferred.fromCoroutine(self._leave_if_empty(number, left))
            done.addErrback(lambda failure: self._log.panic("a spool's count", failure.value))

    async def _leave_if_empty(self, number: int, left: Left) -> None:
        try:
            empty = not await self._open[number].spool.count()
        except TemporaryFailure:
            empty = False
        if empty and number in self._open and not self._ending:
            self.give_back(number, left)
        else:
            self._reactor.callLater(EMPTY_CHECK, self._look, number, left)

    def renew(self, stages: Stages) -> None:
        """Go on with other stages."""
        for each in self._open.values():
            stages.renew(each.queue)

    async def stop_queues(self) -> None:
        """Begin no delivery, and wait for those under way."""
        self._ending = True
        waiting = [Deferred.fromCoroutine(each.stop_queue()) for each in self._open.values()]
        for done in waiting:
            await done

    async def stop_control(self) -> None:
        """Hear no commands."""
        for each in self._open.values():
            if each.control is not None:
                await maybeDeferred(each.control.stopListening)

    async def close(self) -> None:
        """Write what is to be written, and unlock."""
        for each in self._open.values():
            await each.spool.close()

    async def _close(self, this: Spool) -> None:
        await this.stop_queue()
        if this.control is not None:
            await maybeDeferred(this.control.stopListening)
        await this.spool.close()

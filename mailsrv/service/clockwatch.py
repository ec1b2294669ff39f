"""A wall clock that is set, and timers that must not notice.

Twisted's reactor counts its timers by the wall clock: when that is set back by
an hour, every time-out of a session, a query or a worker comes an hour late.
A thread that sleeps by the machine's own steady clock sees the jump, and the
reactor moves all timers with it.  When the clock is set forward, what was due
in the time left out comes early, and nothing else does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

CHECK = 1.0  # seconds between two looks
JUMP = 2.0  # seconds by which the clock may drift from one look to the next


class ClockWatch:
    """Watches from :meth:`start` to :meth:`stop`; ``told`` hears of each jump, in seconds."""

    def __init__(
        self,
        reactor: Any,
        told: Callable[[float], None],
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reactor = reactor
        self._told = told
        self._wall = wall
        self._steady = steady
        self._ended = threading.Event()
        self._offset = wall() - steady()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="clock watch", daemon=True).start()

    def stop(self) -> None:
        """End; the thread goes within a moment."""
        self._ended.set()

    def look(self) -> None:
        """Compare the clocks once; what is to be done is done on the reactor's thread."""
        offset = self._wall() - self._steady()
        if abs(offset - self._offset) > JUMP:
            self._reactor.callFromThread(self._move, offset - self._offset)
        self._offset = offset

    def _run(self) -> None:
        while not self._ended.wait(CHECK):
            self.look()

    def _move(self, by: float) -> None:
        for call in self._reactor.getDelayedCalls():
            call.delay(by)
        self._told(by)

"""Timers, when the wall clock is set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.service.clockwatch import ClockWatch


class Reactor(Clock):
    """A clock that can be set, beside a steady one."""

    set_by = 0.0

    def steady(self) -> float:
        """The steady clock's time."""
        return self.seconds() - self.set_by

    def set(self, by: float) -> None:
        """Set the wall clock."""
        self.set_by += by
        self.rightNow += by

    def callFromThread(self, work: Callable[..., None], *arguments: Any) -> None:
        """Do it."""
        work(*arguments)


class ClockWatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor, self.jumps, self.fired = Reactor(), list[float](), list[str]()
        self.reactor.advance(1e9)
        self.watch = ClockWatch(
            self.reactor, self.jumps.append, self.reactor.seconds, self.reactor.steady
        )
        self.reactor.callLater(10, self.fired.append, "timer")

    def test_set_back(self) -> None:
        """A timer comes when it would have come."""
        self.reactor.set(-3600)
        self.watch.look()
        self.reactor.advance(9)
        self.assertEqual((self.fired, self.jumps), ([], [-3600]))
        self.reactor.advance(2)
        self.assertEqual(self.fired, ["timer"])

    def test_set_forward(self) -> None:
        """It is not early, if the jump is seen before."""
        self.reactor.set(3600)
        self.watch.look()
        self.reactor.advance(9)
        self.assertEqual(self.fired, [])
        self.reactor.advance(2)
        self.assertEqual((self.fired, self.jumps), (["timer"], [3600]))

    def test_drift_is_no_jump(self) -> None:
        """Nor is the time that passes."""
        for _ in range(5):
            self.reactor.set(0.5)
            self.reactor.advance(1)
            self.watch.look()
        self.assertEqual(self.jumps, [])

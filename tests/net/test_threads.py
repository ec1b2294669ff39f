"""The door to threads: results come back on the reactor thread, limits hold, stopping is clean."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import TemporaryFailure
from mailsrv.net.threads import InlineThreads, Threads


class ThreadClock(Clock):
    """A clock that also keeps what threads call back, until the test runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.called: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...]]] = queue.Queue()

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        self.called.put((function, args))

    def run_one(self) -> None:
        function, args = self.called.get(timeout=10)
        function(*args)


class ThreadsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadClock()
        self.threads = Threads(self.clock, "test", workers=1, waiting=1)
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)

    def start(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.threads.run(function, *args))

    def test_result_comes_back_on_the_reactor_thread(self) -> None:
        done = self.start(threading.current_thread)
        self.assertNoResult(done)
        self.clock.run_one()
        worker = self.successResultOf(done)
        self.assertIsNot(worker, threading.current_thread())
        self.assertIn("test", worker.name)
        self.assertTrue(worker.daemon)

    def test_exception_is_raised_to_the_caller(self) -> None:
        done = self.start(int, "x")
        self.clock.run_one()
        self.failureResultOf(done, ValueError)

    def test_queue_is_bounded(self) -> None:
        """With one call under way and one waiting, the next is refused at once."""
        first, second = self.start(self.gate.wait), self.start(abs, -2)
        self.failureResultOf(self.start(abs, -3), TemporaryFailure)
        self.gate.set()
        self.clock.run_one()
        self.clock.run_one()
        self.assertEqual([self.successResultOf(first), self.successResultOf(second)], [True, 2])

    def test_cancelled_call_that_waits_never_begins(self) -> None:
        ran: list[int] = []
        first, second = self.start(self.gate.wait), self.start(ran.append, 1)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.gate.set()
        self.clock.run_one()
        self.clock.run_one()
        self.successResultOf(first)
        self.assertEqual(ran, [])

    def test_cancelled_call_under_way_loses_its_result(self) -> None:
        done = self.start(self.gate.wait)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.gate.set()
        self.clock.run_one()

    def test_stop_waits_for_calls_and_refuses_new_ones(self) -> None:
        done = self.start(self.gate.wait)
        stopped = Deferred.fromCoroutine(self.threads.stop())
        self.assertNoResult(stopped)
        self.failureResultOf(self.start(abs, -1), TemporaryFailure)
        self.gate.set()
        self.clock.run_one()
        self.successResultOf(done)
        self.successResultOf(stopped)

    def test_stop_gives_up_after_its_grace(self) -> None:
        done = self.start(self.gate.wait)
        stopped = Deferred.fromCoroutine(self.threads.stop(grace=5))
        self.clock.advance(4.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.2)
        self.successResultOf(stopped)
        done.cancel()
        self.failureResultOf(done, CancelledError)


class InlineThreadsTests(SynchronousTestCase):
    def test_answers_at_once_until_stopped(self) -> None:
        threads = InlineThreads()
        done = Deferred.fromCoroutine(threads.run(abs, -1))
        self.assertEqual(self.successResultOf(done), 1)
        self.successResultOf(Deferred.fromCoroutine(threads.stop()))
        self.failureResultOf(Deferred.fromCoroutine(threads.run(abs, -1)), TemporaryFailure)

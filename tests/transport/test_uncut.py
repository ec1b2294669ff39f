"""Work that ends though its caller is cancelled."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import TemporaryFailure
from mailsrv.transport.uncut import uncut


async def after(event: Deferred[Any]) -> Any:
    return await event


class UncutTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.event: Deferred[Any] = Deferred()
        self.waiting = Deferred.fromCoroutine(uncut(after(self.event)))

    def test_a_result(self) -> None:
        self.assertNoResult(self.waiting)
        self.event.callback(1)
        self.assertEqual(self.successResultOf(self.waiting), (1, False))

    def test_a_failure_later_is_the_one_that_it_was(self) -> None:
        """As of a thread: not an error of ours, and nothing is left unhandled."""
        self.event.errback(TemporaryFailure(reason="full"))
        self.assertEqual(str(self.failureResultOf(self.waiting, TemporaryFailure).value), "full")

    def test_a_failure_at_once(self) -> None:
        async def fail() -> None:
            raise TemporaryFailure(reason="full")

        self.failureResultOf(Deferred.fromCoroutine(uncut(fail())), TemporaryFailure)

    def test_cancelled_twice(self) -> None:
        """The work goes on, and what it gives is known."""
        for _ in range(2):
            self.waiting.cancel()
            self.assertNoResult(self.waiting)
        self.event.callback(1)
        self.assertEqual(self.successResultOf(self.waiting), (1, True))

    def test_cancelled_and_failed(self) -> None:
        self.waiting.cancel()
        self.event.errback(TemporaryFailure(reason="full"))
        self.failureResultOf(self.waiting, CancelledError)

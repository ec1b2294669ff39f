"""Rates of senders: the average of the specification, for all workers together."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import RateEvent, RateMode
from mailsrv.net.threads import InlineThreads
from mailsrv.spool.rates import FORGOTTEN, SWEEP, MemoryRates, SqliteRates

T = TypeVar("T")
STRICT, LEAKY, READONLY = RateMode.STRICT, RateMode.LEAKY, RateMode.READONLY


class RatesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.clock = Clock()
        self.clock.advance(1e9)

    def make(self) -> SqliteRates:
        rates = SqliteRates(self.clock, self.folder / "hints.sqlite3", InlineThreads())
        self.addCleanup(lambda: self.result(rates.close()))
        return rates

    def result(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return self.successResultOf(Deferred.fromCoroutine(wait()))

    def event(
        self, mode: RateMode = LEAKY, count: float = 1, unique: str | None = None
    ) -> RateEvent:
        return RateEvent("10m/per_mail/192.0.2.1", count, 600, 3, mode, unique)

    def test_average(self) -> None:
        """(1 - a) * count / i + a * before, with i = interval / period and a = e^-i."""
        for rates in (self.make(), MemoryRates(self.clock)):
            self.assertEqual(self.result(rates.measure(self.event())), 1)
            self.clock.advance(300)
            i, a = 0.5, math.exp(-0.5)
            expected = (1 - a) / i + a
            self.assertAlmostEqual(self.result(rates.measure(self.event())), expected)

    def test_a_burst_adds_up(self) -> None:
        rates = self.make()
        found = [self.result(rates.measure(self.event(STRICT))) for _ in range(5)]
        for number, rate in enumerate(found, 1):
            self.assertAlmostEqual(rate, number, 3)

    def test_an_isolated_event_is_itself(self) -> None:
        rates = self.make()
        self.result(rates.measure(self.event(count=7)))
        self.clock.advance(6000)
        self.assertEqual(self.result(rates.measure(self.event(count=2))), 2)

    def test_modes(self) -> None:
        """Leaky keeps what is below the limit, strict everything, readonly nothing."""
        for mode, kept in ((LEAKY, 3), (STRICT, 6)):
            rates = MemoryRates(self.clock)
            for _ in range(6):
                self.result(rates.measure(self.event(mode)))
            after = self.result(rates.measure(self.event(READONLY)))
            self.assertAlmostEqual(after, kept, 3)
            self.assertAlmostEqual(self.result(rates.measure(self.event(READONLY))), after, 3)

    def test_a_rate_decays_without_events(self) -> None:
        rates = self.make()
        for _ in range(6):
            self.result(rates.measure(self.event(STRICT)))
        self.clock.advance(600)
        rate = self.result(rates.measure(self.event(READONLY)))
        self.assertAlmostEqual(rate, 6 * math.exp(-1), 3)

    def test_unique_events_count_once_a_period(self) -> None:
        for rates in (self.make(), MemoryRates(self.clock)):
            for name in ("a", "a", "b", "a", "b"):
                rate = self.result(rates.measure(self.event(STRICT, unique=name)))
            self.assertAlmostEqual(rate, 2, 3)
            self.clock.advance(601)
            before = self.result(rates.measure(self.event(READONLY)))
            self.assertGreater(self.result(rates.measure(self.event(STRICT, unique="a"))), before)

    def test_an_event_over_the_limit_is_not_remembered(self) -> None:
        """In leaky mode the event that goes over the limit counts when it comes again."""
        rates = self.make()
        for name in ("a", "b", "c", "d", "d"):
            rate = self.result(rates.measure(self.event(LEAKY, unique=name)))
        self.assertAlmostEqual(rate, 4, 3)

    def test_shared_and_lasting(self) -> None:
        one, two = self.make(), self.make()
        self.result(one.measure(self.event()))
        self.assertAlmostEqual(self.result(two.measure(self.event())), 2, 3)

    def test_a_clock_that_goes_back(self) -> None:
        rates = self.make()
        self.result(rates.measure(self.event(STRICT)))
        self.clock.rightNow -= 5000
        self.assertAlmostEqual(self.result(rates.measure(self.event(STRICT))), 2, 3)

    def test_old_rates_are_removed(self) -> None:
        rates = self.make()
        self.result(rates.measure(self.event(STRICT, unique="a")))
        self.result(rates.set_seen("k", self.clock.seconds()))
        self.clock.advance(SWEEP + FORGOTTEN * 600 + 15 * 86400)
        self.assertIsNotNone(self.result(rates.seen("k")))  # and then it is swept
        self.assertIsNone(self.result(rates.seen("k")))
        self.assertEqual(self.result(rates.measure(self.event(READONLY))), 0)

    def test_seen(self) -> None:
        for rates in (self.make(), MemoryRates(self.clock)):
            self.assertIsNone(self.result(rates.seen("k")))
            self.result(rates.set_seen("k", 5.5))
            self.assertEqual(self.result(rates.seen("k")), 5.5)

    def test_a_database_that_cannot_be_used(self) -> None:
        (self.folder / "hints.sqlite3").write_bytes(b"no database at all" * 100)
        rates = SqliteRates(self.clock, self.folder / "hints.sqlite3", InlineThreads())
        failure = self.failureResultOf(Deferred.fromCoroutine(rates.measure(self.event())))
        self.assertTrue(failure.check(TemporaryFailure), failure)

"""Who would exceed a limit waits for its turn, in order, and says so."""

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.transport.limits import WINDOW, Crew, Crowded, Key, Limits


class LimitsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.limits = Limits(self.clock)
        self.told: list[bool] = []
        self.crew = Crew(self.told.append)
        self.ran: list[str] = []

    def run_one(
        self, name: str, wanted: Mapping[Key, int]
    ) -> tuple[Deferred[None], Deferred[None]]:
        """Begin; what is returned first ends it."""
        end: Deferred[None] = Deferred()

        async def run() -> None:
            self.crew.change(left=1)
            try:
                async with self.limits.hold(wanted, self.crew):
                    self.ran.append(name)
                    await end
            finally:
                self.crew.change(left=-1)

        return end, Deferred.fromCoroutine(run())

    def test_in_order(self) -> None:
        ends = [self.run_one(name, {("hop",): 1})[0] for name in "abcd"]
        for end in ends:
            end.callback(None)
        self.assertEqual(self.ran, list("abcd"))
        self.assertFalse(self.limits._running or self.limits._lines)

    def test_several_keys(self) -> None:
        """Who waits for one key, then for another, has its turn all the same; others pass."""
        one, _ = self.run_one("x", {("x",): 1})
        two, _ = self.run_one("y", {("y",): 1})
        both, _ = self.run_one("xy", {("x",): 1, ("y",): 1})
        self.run_one("z", {("z",): 1})[0].callback(None)
        one.callback(None)
        self.assertEqual(self.ran, ["x", "y", "z"])
        two.callback(None)
        both.callback(None)
        self.assertEqual(self.ran, ["x", "y", "z", "xy"])
        self.assertFalse(self.limits._running or self.limits._lines)

    def test_cancelled(self) -> None:
        """Who does not wait any more takes nobody's turn."""
        first, _ = self.run_one("a", {("hop",): 1})
        _, gone = self.run_one("b", {("hop",): 1})
        last, _ = self.run_one("c", {("hop",): 1})
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        first.callback(None)
        last.callback(None)
        self.assertEqual(self.ran, ["a", "c"])

    def crowd(self, key: Key, limit: int, number: int) -> list[tuple[Deferred[None], Any]]:
        return [self.run_one(str(n), {key: limit}) for n in range(number)]

    def test_without_a_turn_few_wait_on(self) -> None:
        """After WINDOW seconds in which nothing ended, and for those who come then."""
        runs = self.crowd(("hop",), 2, 12)
        self.clock.advance(WINDOW)
        sent_away = [n for n, (_, run) in enumerate(runs) if run.called]
        self.assertEqual(sent_away, [7, 8, 9, 10, 11])  # the last that came
        for number in sent_away:
            self.failureResultOf(runs[number][1], Crowded)
        self.failureResultOf(self.run_one("late", {("hop",): 2})[1], Crowded)
        runs[0][0].callback(None)  # a turn: it moves again
        more = self.crowd(("hop",), 2, 20)
        for end, run in [*runs[1:7], *more]:
            self.assertNoResult(run)
            end.callback(None)
        self.assertEqual(self.ran[:7], list("0123456"))
        self.assertEqual(len(self.ran), 27)

    def test_a_slow_place_is_waited_for(self) -> None:
        """As long as something ends there now and then."""
        runs = self.crowd(("hop",), 1, 30)
        for end, run in runs:
            self.clock.advance(WINDOW - 1)
            end.callback(None)
            self.successResultOf(run)

    def test_where_turns_come_slowly_the_rest_comes_back_in_its_turn(self) -> None:
        """Eight turns a second: 160 wait on; who comes after them is told when the turn is his."""
        runs = self.crowd(("hop",), 1, 400)
        for end, _ in runs[:80]:
            end.callback(None)
            self.clock.advance(1 / 8)
        self.assertEqual(len(self.ran), 81)
        away = [self.failureResultOf(run, Crowded).value.after for _, run in runs[241:]]
        self.assertEqual(away, [20 + n / 8 for n in range(1, 160)])
        late = self.failureResultOf(self.run_one("late", {("hop",): 1})[1], Crowded)
        self.assertEqual(late.value.after, 40)
        for end, run in runs[80:241]:
            self.assertNoResult(run)
            end.callback(None)

    def test_a_hundred_may_wait_for_a_place_that_moves_at_all(self) -> None:
        runs = self.crowd(("hop",), 1, 102)
        runs[0][0].callback(None)
        self.clock.advance(WINDOW - 1)
        runs[1][0].callback(None)
        self.clock.advance(1)
        for end, run in runs[2:]:
            self.assertNoResult(run)
            end.callback(None)

    def test_runs_of_one_message_wait_without_end(self) -> None:
        runs = self.crowd(("message", "id"), 1, 30)
        self.clock.pump([WINDOW] * 100)
        self.assertFalse(any(run.called for _, run in runs))
        for end, _ in runs:
            end.callback(None)
        self.clock.pump([WINDOW] * 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_only_waiting_is_told(self) -> None:
        """A message waits when all that is left of it does."""
        working, _ = self.run_one("a", {("a",): 1})
        other, _ = self.run_one("b", {("a",): 1})
        self.assertEqual(self.told, [])
        self.crew.change(waiting=1)  # as if what works waited for something else
        self.assertEqual(self.told, [True])
        self.crew.change(waiting=-1)
        working.callback(None)
        other.callback(None)
        self.assertEqual(self.told, [True, False])

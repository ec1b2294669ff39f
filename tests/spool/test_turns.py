"""When the spool's writer is woken: at the end of the reactor's turn, once."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.spool.writer import ThreadTurns


class TurnTests(SynchronousTestCase):
    """A thread that is woken for what a whole turn has written."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.turns = ThreadTurns(self.clock)
        self.waiting = 0
        self.batches: list[int] = []

    def work(self) -> bool:
        """Take what waits."""
        if self.waiting:
            self.batches.append(self.waiting)
            self.waiting = 0
        return False

    def write(self) -> None:
        """Let one more wait."""
        self.waiting += 1
        self.turns.wake()

    def test_one_turn_is_one_batch(self) -> None:
        """What the events of one turn write is taken together."""
        self.turns.start(self.work)
        for _ in range(3):
            self.write()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(0)
        self.turns.stop()
        self.assertEqual(self.batches, [3])

    def test_each_turn_wakes(self) -> None:
        """After a turn the next one is asked for again."""
        self.write()
        self.clock.advance(0)
        self.write()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_end_takes_what_waits(self) -> None:
        """A stop in the middle of a turn leaves nothing behind."""
        self.turns.start(self.work)
        self.write()
        self.turns.stop()
        self.assertEqual(self.batches, [1])

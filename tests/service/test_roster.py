"""The supervisor's decisions, without a process."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.service import roster
from mailsrv.service.roster import Roster


class Hands:
    """Notes what it is told to do."""

    def __init__(self) -> None:
        self.done: list[tuple[str, ...]] = []
        self.roster: Roster | None = None
        self.silent: set[int] = set()  # workers that give no answer

    def taken(self) -> list[tuple[str, ...]]:
        """What was done since this was asked."""
        done, self.done = self.done, []
        return done

    def start(self, worker: int) -> None:
        self.done.append(("start", str(worker)))

    def kill(self, worker: int) -> None:
        self.done.append(("kill", str(worker)))

    def ask(self, worker: int) -> None:
        if self.roster is not None and worker not in self.silent:
            self.roster.lives(worker)

    def lend(self, worker: int, keeper: int) -> None:
        self.done.append(("lend", str(worker), str(keeper)))

    def take_back(self, worker: int, keeper: int) -> None:
        self.done.append(("take back", str(worker), str(keeper)))

    def adopt(self, spool: int, keeper: int) -> None:
        self.done.append(("adopt", str(spool), str(keeper)))

    def give_back(self, spool: int, keeper: int) -> None:
        self.done.append(("give back", str(spool), str(keeper)))


class RosterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.hands = Clock(), Hands()

    def ready(self, workers: int, spools: tuple[int, ...] = ()) -> Roster:
        """All workers serve."""
        made = self.hands.roster = Roster(self.clock, self.hands, workers, spools)
        made.begin()
        for number in range(workers):
            made.ready(number)
        self.pass_time(roster.WELL)
        return made

    def pass_time(self, seconds: float) -> None:
        """Let every timer fire at its time."""
        self.clock.pump([1.0] * int(seconds))

    def test_the_first_that_is_ready_serves_for_all(self) -> None:
        """No connection waits for the slowest worker."""
        made = Roster(self.clock, self.hands, 3, ())
        made.begin()
        self.assertEqual(self.hands.taken(), [("start", "0"), ("start", "1"), ("start", "2")])
        made.ready(1)
        self.assertEqual(self.hands.taken(), [("lend", "0", "1"), ("lend", "2", "1")])
        made.ready(0)
        self.assertEqual(self.hands.taken(), [("take back", "0", "1")])

    def test_a_death_is_covered_and_mended_at_once(self) -> None:
        """A sibling takes the sockets, the successor is started; ready, it gets them back."""
        made = self.ready(2)
        self.hands.taken()
        made.died(0)
        self.assertEqual(self.hands.taken(), [("lend", "0", "1"), ("start", "0")])
        made.ready(0)
        self.assertEqual(self.hands.taken(), [("take back", "0", "1")])

    def test_deaths_in_a_row_wait_longer_each_time_and_wellness_forgets_them(self) -> None:
        """0, 0.5, 1, 2 … seconds, a minute at most."""
        made = self.ready(2)
        made.died(0)
        for wait in (0.5, 1, 2, 4, 8, 16, 32, 60, 60):
            self.hands.taken()
            made.died(0)
            self.clock.advance(wait - 0.01)
            self.assertNotIn(("start", "0"), self.hands.taken())
            self.clock.advance(0.01)
            made.left(0, 1)  # what a sibling delivered from meanwhile
            self.assertIn(("start", "0"), self.hands.taken())
        made.ready(0)
        self.clock.advance(roster.WELL)
        made.died(0)
        self.assertIn(("start", "0"), self.hands.taken())

    def test_somebody_always_comes_soon(self) -> None:
        """Where all die again and again, one is started soon, sooner if it was ready before."""
        made = self.ready(2)
        for _ in range(12):
            made.died(0)
            self.clock.advance(roster.LONGEST_WAIT)
            made.left(0, 1)
        made.died(0)
        for wait, lives in ((roster.ALONE_WAIT, True), (roster.STILLBORN_WAIT, False)):
            for _ in range(6):
                if lives:
                    made.ready(1)
                self.hands.taken()
                made.died(1)
                self.clock.advance(wait)
                self.assertEqual(self.hands.taken()[-1], ("start", "1"))

    def test_the_keeper_dies_too(self) -> None:
        """What it kept goes to who is left, or waits for the next that is ready."""
        made = self.ready(3)
        made.died(0)
        self.hands.taken()
        made.died(1)
        self.assertEqual(
            self.hands.taken(), [("lend", "0", "2"), ("lend", "1", "2"), ("start", "1")]
        )
        made.died(2)
        self.assertEqual(self.hands.taken(), [("start", "2")])
        made.ready(2)
        self.assertEqual(self.hands.taken(), [("lend", "0", "2"), ("lend", "1", "2")])

    def test_spools_of_fewer_workers_are_shared_out(self) -> None:
        """Each has one; one that is empty is not given out again; a keeper's death moves it."""
        made = self.ready(2, (0, 1, 2, 3))
        adopted = [done for done in self.hands.taken() if done[0] == "adopt"]
        self.assertEqual(adopted, [("adopt", "2", "0"), ("adopt", "3", "0")])
        made.left(2, 0)
        made.died(0)
        self.assertIn(("adopt", "3", "1"), self.hands.taken())
        made.ready(0)
        self.assertNotIn("adopt", [done[0] for done in self.hands.taken()])

    def test_the_spool_of_who_never_comes_up_is_delivered_by_a_sibling(self) -> None:
        """After three stillbirths; before the next start it is asked back."""
        made = self.ready(2)
        for _ in range(4):
            made.died(0)
            self.clock.advance(roster.LONGEST_WAIT)
        done = self.hands.taken()
        self.assertIn(("adopt", "0", "1"), done)
        self.assertEqual(done[-1], ("give back", "0", "1"))
        made.left(0, 1)
        self.assertEqual(self.hands.taken(), [("start", "0")])

    def test_a_worker_that_dies_of_its_mail_keeps_it(self) -> None:
        """It was ready each time: a sibling that took its spool might die of it, too."""
        made = self.ready(2)
        for _ in range(6):
            made.died(0)
            self.clock.advance(roster.LONGEST_WAIT)
            made.ready(0)
        self.assertNotIn("adopt", [done[0] for done in self.hands.taken()])

    def test_one_that_hangs_at_its_start_is_killed(self) -> None:
        """It has two minutes."""
        made = Roster(self.clock, self.hands, 1, ())
        made.begin()
        self.clock.advance(roster.START_LIMIT)
        self.assertIn(("kill", "0"), self.hands.taken())

    def test_the_connections_of_one_that_hangs_are_accepted_by_another(self) -> None:
        """After some seconds; it gets them back when it answers again."""
        self.ready(2)
        self.hands.taken()
        self.hands.silent = {1}
        self.pass_time(roster.BEAT * (roster.SILENT + 1))
        self.assertEqual(self.hands.taken(), [("lend", "1", "0")])
        self.hands.silent = set()
        self.pass_time(roster.BEAT)
        self.assertEqual(self.hands.taken(), [("take back", "1", "0")])

    def test_one_that_hangs_is_killed_at_last(self) -> None:
        """Its successor is started, and gets back what was lent."""
        made = self.ready(2)
        self.hands.silent = {0}
        self.pass_time(roster.BEAT * (roster.HUNG + 2))
        self.assertIn(("kill", "0"), self.hands.taken())
        made.died(0)
        self.assertEqual(self.hands.taken(), [("start", "0")])
        self.hands.silent = set()
        made.ready(0)
        self.assertEqual(self.hands.taken(), [("take back", "0", "1")])

    def test_a_keeper_that_hangs_keeps_nothing(self) -> None:
        """What it had for another goes on to a third."""
        made = self.ready(3)
        made.died(0)
        made.died(0)  # it waits to be started
        self.hands.taken()
        self.hands.silent = {1}
        self.pass_time(roster.BEAT * (roster.SILENT + 1))
        self.assertIn(("take back", "0", "1"), done := self.hands.taken())
        self.assertIn(("lend", "0", "2"), done)
        self.assertIn(("lend", "1", "2"), done)

    def test_the_end(self) -> None:
        """Nobody is started any more, and no timer is left."""
        made = self.ready(2)
        made.died(0)
        made.died(0)
        self.hands.taken()
        made.end()
        made.died(1)
        self.assertEqual(self.hands.taken(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

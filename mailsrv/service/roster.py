"""The supervisor's decisions: which worker is started when, and who stands in for one that is not.

No process, file or socket is touched here: :class:`IHands` does that.  The
rules are kept by one function, :meth:`Roster._cover`, after each event:

- the sockets of a worker that is not ready are kept open by a ready one;
- a spool that has no worker, because there are fewer now or because its worker
  does not come up, is delivered from by a ready worker, until it is empty;
- who is ready again gets its own back;
- a worker that gives no sign of life counts as one that is not ready; if that
  lasts, it is killed.

A worker that died is started again at once; if it dies again before it was
well for a while, after a time that doubles, but soon if there is no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import Enum
from typing import Any, Protocol

from mailsrv.interfaces import IClock

WELL = 10.0  # seconds after which a worker's earlier deaths are forgotten
FIRST_WAIT = 0.5  # seconds before the second start in a row
LONGEST_WAIT = 60.0
# The longest wait of one while no other serves or starts: if it was ready before, and if not.
ALONE_WAIT = 1.0
STILLBORN_WAIT = 5.0
START_LIMIT = 120.0  # seconds until a worker that does not become ready is killed
GIVEN_UP = 3  # failures in a row after which others deliver its mail
BEAT = 2.0  # seconds between questions whether a worker lives
SILENT = 2  # questions without an answer after which others accept its connections
HUNG = 30  # questions without an answer after which it is killed


class State(Enum):
    """A worker's condition."""

    WAITING = "to be started"
    STARTING = "started"
    READY = "ready"


class IHands(Protocol):
    """What the supervisor does when it is told to."""

    def start(self, worker: int) -> None:
        """Start a worker's process."""

    def kill(self, worker: int) -> None:
        """End a process that does not answer."""

    def ask(self, worker: int) -> None:
        """Ask a process whether it lives; :meth:`Roster.lives` is called when it answers."""

    def lend(self, worker: int, keeper: int) -> None:
        """Let ``keeper`` accept connections in place of ``worker``."""

    def take_back(self, worker: int, keeper: int) -> None:
        """Let ``keeper`` leave ``worker``'s connections to it."""

    def adopt(self, spool: int, keeper: int) -> None:
        """Let ``keeper`` deliver from a spool that has nobody."""

    def give_back(self, spool: int, keeper: int) -> None:
        """Let ``keeper`` close a spool that was adopted; it tells when it has."""


class _Worker:
    def __init__(self) -> None:
        self.state = State.WAITING
        self.failures = 0
        self.stillborn = 0  # deaths in a row before it was ready: no message can be to blame
        self.ready_at = 0.0
        self.unanswered = 0  # questions whether it lives, in a row
        self.timer: Any = None

    @property
    def serves(self) -> bool:
        """It is ready, and gives signs of life."""
        return self.state is State.READY and self.unanswered <= SILENT


class Roster:
    """``spools`` are those that there are; those of no worker are delivered from, too."""

    def __init__(self, clock: IClock, hands: IHands, workers: int, spools: Iterable[int]) -> None:
        self._clock = clock
        self._hands = hands
        self._workers = {number: _Worker() for number in range(workers)}
        self._orphans = {number for number in spools if number not in self._workers}
        self._lent: dict[int, int] = {}  # worker: who keeps its sockets open
        self._adopted: dict[int, int] = {}  # spool: who delivers from it
        self._returning: set[int] = set()  # spools on their way back to a worker that waits
        self._stopping = False
        self._beat: Any = None

    def begin(self) -> None:
        """Start all."""
        self._beat = self._clock.callLater(BEAT, self._ask)
        for number in self._workers:
            self._start(number)

    def end(self) -> None:
        """Start none from now on."""
        self._stopping = True
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        for worker in self._workers.values():
            self._cancel(worker)

    @property
    def ready_workers(self) -> list[int]:
        """Those who serve."""
        return [n for n, worker in self._workers.items() if worker.state is State.READY]

    def keeper(self, worker: int) -> int | None:
        """Return who keeps a worker's sockets open."""
        return self._lent.get(worker)

    # --- events ---

    def ready(self, number: int) -> None:
        """A worker serves."""
        worker = self._workers[number]
        worker.state, worker.ready_at = State.READY, self._clock.seconds()
        worker.stillborn = worker.unanswered = 0
        self._cancel(worker)
        self._cover()

    def lives(self, number: int) -> None:
        """A worker has answered."""
        worker = self._workers[number]
        before, worker.unanswered = worker.serves, 0
        if worker.serves and not before:
            self._cover()

    def _ask(self) -> None:
        """Ask all; what counts is questions, not time: we may have been stopped ourselves."""
        self._beat = self._clock.callLater(BEAT, self._ask)
        for number, worker in self._workers.items():
            if worker.state is not State.READY:
                continue
            if worker.unanswered >= HUNG:
                self._hands.kill(number)
            else:
                self._hands.ask(number)
                worker.unanswered += 1
        self._cover()

    def died(self, number: int) -> None:
        """A worker's process ended."""
        worker = self._workers[number]
        self._cancel(worker)
        was_well = worker.state is State.READY and self._clock.seconds() - worker.ready_at >= WELL
        worker.stillborn += worker.state is State.STARTING
        worker.state = State.WAITING
        worker.failures = 1 if was_well else worker.failures + 1
        self._lent = {w: keeper for w, keeper in self._lent.items() if keeper != number}
        for spool in [s for s, keeper in self._adopted.items() if keeper == number]:
            self._let_go(spool)
        if self._stopping:
            return
        self._cover()
        if worker.failures == 1:
            self._start(number)
        else:
            alone = all(each.state is State.WAITING for each in self._workers.values())
            longest = STILLBORN_WAIT if worker.stillborn else ALONE_WAIT
            longest = longest if alone else LONGEST_WAIT
            wait = min(FIRST_WAIT * 2.0 ** min(worker.failures - 2, 20), longest)
            worker.timer = self._clock.callLater(wait, self._start, number)

    def left(self, spool: int, keeper: int) -> None:
        """A keeper has closed a spool: it is empty, was asked for, or cannot be used."""
        if self._adopted.get(spool) != keeper:
            return
        self._orphans.discard(spool)
        self._let_go(spool)

    def _let_go(self, spool: int) -> None:
        del self._adopted[spool]
        if spool in self._returning:
            self._returning.discard(spool)
            self._start(spool)

    # --- rules ---

    def _start(self, number: int) -> None:
        worker = self._workers[number]
        if self._stopping or worker.state is not State.WAITING:
            return
        if number in self._adopted:
            self._returning.add(number)
            self._hands.give_back(number, self._adopted[number])
            return
        worker.state = State.STARTING
        self._cancel(worker)
        worker.timer = self._clock.callLater(START_LIMIT, self._hands.kill, number)
        self._hands.start(number)

    def _cover(self) -> None:
        """Bring who stands in for whom into order."""
        ready = [number for number, worker in self._workers.items() if worker.serves]
        for number, worker in self._workers.items():
            keeper = self._lent.get(number)
            if keeper is not None and (worker.serves or keeper not in ready):
                self._hands.take_back(number, self._lent.pop(number))
            if not worker.serves and number not in self._lent and ready:
                self._lent[number] = keeper = self._least(self._lent, ready)
                self._hands.lend(number, keeper)
        hopeless = {
            number
            for number, worker in self._workers.items()
            if worker.state is State.WAITING and worker.stillborn >= GIVEN_UP
        }
        for spool in sorted(self._orphans | hopeless):
            if spool not in self._adopted and ready:
                self._adopted[spool] = keeper = self._least(self._adopted, ready)
                self._hands.adopt(spool, keeper)

    @staticmethod
    def _least(held: dict[int, int], ready: list[int]) -> int:
        """Return the ready worker that holds least for others."""
        count = Counter(held.values())
        return min(ready, key=lambda number: (count[number], number))

    @staticmethod
    def _cancel(worker: _Worker) -> None:
        if worker.timer is not None and worker.timer.active():
            worker.timer.cancel()
        worker.timer = None

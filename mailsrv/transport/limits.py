"""How much may run at the same time: for a transport, a next hop, a recipient.

Who would exceed a limit waits for its turn, as long as turns come.  Where none has
come for ``WINDOW`` seconds, a few wait on and all others are sent away: a host that says
nothing does not gather the mail that others, or other hosts, could have taken.  Where
turns come slowly, no more wait than will have theirs soon; the rest is told when to
come back, so that the place is never without work.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING

from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import IClock

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

Key = tuple[str, ...]

WINDOW = 10.0  # seconds over which turns are counted
FEW = 5  # that wait on where there was no turn in this time
MANY = 100  # that may wait in any case where there was one; else for the turns of two windows
LATEST = 900.0  # seconds, the longest time to stay away


class Crowded(TemporaryFailure):
    """A place is full, and as many wait as there may.

    ``after`` is in how many seconds there should be a turn; 0: nothing has ended
    there for some time, and who knows.
    """

    def __init__(self, key: Key, after: float = 0.0) -> None:
        super().__init__(reason=f"too many deliveries wait for {' '.join(key)}")
        self.after = after


class Limits:
    """Counts what runs, by key; who would exceed a limit waits for its turn.

    All keys of a holder are taken together or not at all, so that two holders
    never wait for each other.  The runs of one message, whose key is ``message``
    and its id, wait for each other without end.
    """

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._running: dict[Key, int] = {}
        # Who waits stands in the line of one key that was full: what is given back of
        # others cannot be enough for it.
        self._lines: dict[Key, _Line] = {}
        self._watching = False

    def hold(self, wanted: Mapping[Key, int], crew: Crew) -> Held:
        """Count one more for each key while a block runs; a limit of 0 is none."""
        if 0 in wanted.values():
            wanted = {key: limit for key, limit in wanted.items() if limit}
        return Held(self, wanted, crew)

    async def take(self, wanted: Mapping[Key, int], crew: Crew) -> None:
        """Count one more for each key, when there is room; one of ``crew`` waits until then.

        :raises Crowded: there will hardly be room soon.
        """
        full = self._full(wanted) if wanted else None
        if full is None:
            self._count(wanted)
            return
        crew.change(waiting=1)
        try:
            await self._turn(full, wanted)
        finally:
            crew.change(waiting=-1)

    def give_back(self, wanted: Mapping[Key, int]) -> None:
        """Count one less for each key."""
        running = self._running
        for key in wanted:
            running[key] -= 1
            if not running[key]:
                del running[key]
        if self._lines:
            self._next(wanted)

    def _count(self, wanted: Mapping[Key, int]) -> None:
        for key in wanted:
            self._running[key] = self._running.get(key, 0) + 1

    def _full(self, wanted: Mapping[Key, int]) -> Key | None:
        """Return a key that has no room for one more; None: all have."""
        running = self._running
        for key, limit in wanted.items():
            if running.get(key, 0) >= limit:
                return key
        return None

    async def _turn(self, full: Key, wanted: Mapping[Key, int]) -> None:
        from twisted.internet.defer import Deferred

        line, now = self._line(full), self._clock.seconds()
        if len(line) >= line.most(now):
            raise Crowded(full, line.reserve(now))
        turn: Deferred[None] = Deferred(self._leave)
        line[turn] = wanted
        self._watch()
        await turn

    def _line(self, key: Key) -> _Line:
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(self._clock.seconds(), endless=key[0] == "message")
        return line

    def _watch(self) -> None:
        """Look after the lines as long as there are any."""
        if not self._watching:
            self._watching = True
            self._clock.callLater(WINDOW, self._look)

    def _look(self) -> None:
        """Send those away who wait at the end of lines that are too long."""
        self._watching = False
        sent = []
        now = self._clock.seconds()
        for key, line in self._lines.items():
            line.measure(now)
            most = line.most(now)
            away = [line.popitem()[0] for _ in range(len(line)) if len(line) > most]
            sent += [(turn, Crowded(key, line.reserve(now))) for turn in reversed(away)]
        if self._lines:
            self._watch()
        for turn, why in sent:
            turn.errback(why)

    def _leave(self, turn: Deferred[None]) -> None:
        for key, line in list(self._lines.items()):
            if line.pop(turn, None) is not None and not line:
                del self._lines[key]

    def _next(self, freed: Mapping[Key, int]) -> None:
        """Let those run, in order of arrival, for whom there is room now."""
        ready = []
        for key in freed:
            line = self._lines.get(key)
            if line is not None:
                line.moved = self._clock.seconds()
            while line:
                turn, wanted = next(iter(line.items()))
                full = self._full(wanted)
                if full == key:
                    break
                del line[turn]
                if full is None:
                    self._count(wanted)
                    line.turns += 1
                    ready.append(turn)
                else:
                    self._line(full)[turn] = wanted
            else:
                self._lines.pop(key, None)
        for turn in ready:
            turn.callback(None)


class _Line(OrderedDict["Deferred[None]", Mapping[Key, int]]):
    """Those who wait, in order, with what they want; ``moved`` is when room was made last."""

    def __init__(self, now: float, *, endless: bool) -> None:
        super().__init__()
        self.moved = now
        self.turns = 0  # since it was measured
        self._measured = now
        self._rate = inf  # turns a second
        self._free = 0.0  # when those who were sent away will have had their turn
        self._endless = endless

    def measure(self, now: float) -> None:
        """Find out how fast it moves, if it has been watched for long enough."""
        seconds = now - self._measured
        if seconds >= WINDOW / 2:
            self._rate, self.turns, self._measured = self.turns / seconds, 0, now

    def most(self, now: float) -> float:
        """Return how many may wait."""
        if self._endless:
            return inf
        if now - self.moved >= WINDOW:
            return FEW
        return max(MANY, 2 * WINDOW * self._rate)

    def reserve(self, now: float) -> float:
        """Return in how many seconds one who is sent away should come back, 0 if that is not known.

        By then the line has become shorter, and those who were sent away before are through.
        """
        if now - self.moved >= WINDOW or not 0 < self._rate < inf:
            return 0.0
        self._free = max(self._free, now + len(self) / self._rate) + 1 / self._rate
        return min(self._free - now, LATEST)


class Crew:
    """The runs of one message: ``waits`` is told when all that are left wait, and when not."""

    __slots__ = ("_left", "_told", "_waiting", "_waits")

    def __init__(self, waits: Callable[[bool], None]) -> None:
        self._waits = waits
        self._told = False
        self._left = self._waiting = 0

    def change(self, left: int = 0, waiting: int = 0) -> None:
        """So many more, or fewer, are under way; so many of them wait for their turn."""
        self._left += left
        self._waiting += waiting
        only = 0 < self._left == self._waiting
        if only != self._told:
            self._told = only
            self._waits(only)


class Held:
    """The block of :meth:`Limits.hold`."""

    __slots__ = ("_crew", "_limits", "_wanted")

    def __init__(self, limits: Limits, wanted: Mapping[Key, int], crew: Crew) -> None:
        self._limits = limits
        self._wanted = wanted
        self._crew = crew

    async def __aenter__(self) -> None:
        await self._limits.take(self._wanted, self._crew)

    async def __aexit__(self, *_: object) -> None:
        self._limits.give_back(self._wanted)

"""How much may run at the same time: for a transport, a next hop, a recipient."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

Key = tuple[str, ...]


class Limits:
    """Counts what runs, by key; who would exceed a limit waits for its turn.

    All keys of a holder are taken together or not at all, so that two holders
    never wait for each other.
    """

    def __init__(self) -> None:
        self._running: dict[Key, int] = {}
        # Who waits stands in the line of one key that was full: what is given back of
        # others cannot be enough for it.
        self._lines: dict[Key, OrderedDict[Deferred[None], Mapping[Key, int]]] = {}

    def hold(self, wanted: Mapping[Key, int], crew: Crew) -> Held:
        """Count one more for each key while a block runs; a limit of 0 is none."""
        if 0 in wanted.values():
            wanted = {key: limit for key, limit in wanted.items() if limit}
        return Held(self, wanted, crew)

    async def take(self, wanted: Mapping[Key, int], crew: Crew) -> None:
        """Count one more for each key, when there is room; one of ``crew`` waits until then."""
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

        turn: Deferred[None] = Deferred(self._leave)
        self._lines.setdefault(full, OrderedDict())[turn] = wanted
        await turn

    def _leave(self, turn: Deferred[None]) -> None:
        for key, line in list(self._lines.items()):
            if line.pop(turn, None) is not None and not line:
                del self._lines[key]

    def _next(self, freed: Mapping[Key, int]) -> None:
        """Let those run, in order of arrival, for whom there is room now."""
        ready = []
        for key in freed:
            line = self._lines.get(key)
            while line:
                turn, wanted = next(iter(line.items()))
                full = self._full(wanted)
                if full == key:
                    break
                del line[turn]
                if full is None:
                    self._count(wanted)
                    ready.append(turn)
                else:
                    self._lines.setdefault(full, OrderedDict())[turn] = wanted
            else:
                self._lines.pop(key, None)
        for turn in ready:
            turn.callback(None)


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

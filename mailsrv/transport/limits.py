"""How much may run at the same time: for a transport, a next hop, a recipient."""

from __future__ import annotations

from collections.abc import Mapping
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
        self._waiting: list[tuple[Mapping[Key, int], Deferred[None]]] = []

    def hold(self, wanted: Mapping[Key, int]) -> Held:
        """Count one more for each key while a block runs; a limit of 0 is none."""
        return Held(self, {key: limit for key, limit in wanted.items() if limit})

    async def take(self, wanted: Mapping[Key, int]) -> None:
        """Count one more for each key, when there is room."""
        if self._room(wanted):
            self._count(wanted)
        else:
            await self._turn(wanted)

    def give_back(self, wanted: Mapping[Key, int]) -> None:
        """Count one less for each key."""
        running = self._running
        for key in wanted:
            running[key] -= 1
            if not running[key]:
                del running[key]
        if self._waiting:
            self._next()

    def _count(self, wanted: Mapping[Key, int]) -> None:
        for key in wanted:
            self._running[key] = self._running.get(key, 0) + 1

    def _room(self, wanted: Mapping[Key, int]) -> bool:
        running = self._running
        for key, limit in wanted.items():  # noqa: SIM110 - on the way of every message
            if running.get(key, 0) >= limit:
                return False
        return True

    async def _turn(self, wanted: Mapping[Key, int]) -> None:
        from twisted.internet.defer import Deferred

        def cancelled(_: Deferred[None]) -> None:
            self._waiting.remove(entry)

        turn: Deferred[None] = Deferred(cancelled)
        entry = (wanted, turn)
        self._waiting.append(entry)
        await turn

    def _next(self) -> None:
        """Let those run, in order of arrival, for whom there is room now."""
        ready = []
        for entry in list(self._waiting):
            if self._room(entry[0]):
                self._waiting.remove(entry)
                self._count(entry[0])
                ready.append(entry[1])
        for turn in ready:
            turn.callback(None)


class Held:
    """The block of :meth:`Limits.hold`."""

    __slots__ = ("_limits", "_wanted")

    def __init__(self, limits: Limits, wanted: Mapping[Key, int]) -> None:
        self._limits = limits
        self._wanted = wanted

    async def __aenter__(self) -> None:
        await self._limits.take(self._wanted)

    async def __aexit__(self, *_: object) -> None:
        self._limits.give_back(self._wanted)

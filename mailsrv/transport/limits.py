"""How much may run at the same time: for a transport, a next hop, a recipient."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
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
        self._running: Counter[Key] = Counter()
        self._waiting: list[tuple[Mapping[Key, int], Deferred[None]]] = []

    @asynccontextmanager
    async def hold(self, wanted: Mapping[Key, int]) -> AsyncIterator[None]:
        """Count one more for each key while the block runs; a limit of 0 is none."""
        if self._room(wanted):
            self._running.update(wanted.keys())
        else:
            await self._turn(wanted)
        try:
            yield
        finally:
            self._running.subtract(wanted.keys())
            for key in wanted:
                if not self._running[key]:
                    del self._running[key]
            self._next()

    def _room(self, wanted: Mapping[Key, int]) -> bool:
        return all(not limit or self._running[key] < limit for key, limit in wanted.items())

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
                self._running.update(entry[0].keys())
                ready.append(entry[1])
        for turn in ready:
            turn.callback(None)

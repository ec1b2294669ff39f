"""Connections that are kept for the next message to the same next hop (design, decision 8).

A connection carries one message at a time: :meth:`Pool.take` lends it,
:meth:`Pool.give_back` takes it back when the outcome of its message is safe.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

from mailsrv.interfaces import IClock
from mailsrv.net.tlsclient import ClientStart
from mailsrv.transport.connection import (
    HopFailure,
    HopProtocol,
    IConnector,
    Target,
    Timeouts,
)
from mailsrv.wire.client import Session

IDLE = 10.0  # seconds that a connection is kept without a message
KEPT = 20  # connections that are kept for one next hop: as many as deliveries to it run at a time


class Hop(NamedTuple):
    """What makes connections interchangeable: the transport's name, the place …"""

    transport: str
    target: Target
    helo: str
    lmtp: bool
    security: Hashable = None  # how TLS and AUTH are used, and for whom


@dataclass(slots=True)
class Lease:
    """A connection lent by the pool; ``reused`` tells that it carried a message before."""

    hop: Hop
    connection: HopProtocol
    limit: int  # messages in all; 0 = any number
    reused: bool = False


class Pool:
    """The kept connections of one process."""

    def __init__(self, clock: IClock, connector: IConnector, *, idle: float = IDLE) -> None:
        self._clock = clock
        self._connector = connector
        self._idle = idle
        self._kept: dict[Hop, list[tuple[HopProtocol, float]]] = {}  # with the time of their return
        self._timer: Any = None  # one for all of them
        self._closed = False

    def take(self, hop: Hop, limit: int = 0) -> Lease | None:
        """Lend a kept connection, the one used last first; None if there is none."""
        kept = self._kept.get(hop, ())
        while kept:
            connection, _ = kept.pop()
            if not kept:
                del self._kept[hop]
            if connection.alive:
                return Lease(hop, connection, limit, reused=True)
        return None

    async def connect(
        self,
        hop: Hop,
        session: Callable[[], Session],
        timeouts: Timeouts,
        limit: int = 0,
        tls: ClientStart | None = None,
    ) -> Lease:
        """Open a new connection and its session.

        :raises HopFailure: no connection.
        :raises Refused: the next hop refused the session.
        :raises Unmet: there is no TLS or no login, and there must be.
        """
        connection = HopProtocol(self._clock, session(), timeouts, tls)
        await self._connector.connect(hop.target, connection, timeouts.connect)
        try:
            await connection.run(connection.session.open())
        except BaseException:
            connection.close()
            raise
        return Lease(hop, connection, limit)

    def give_back(self, lease: Lease) -> None:
        """Keep a connection if it can carry another message, else close it."""
        connection = lease.connection
        connection.messages += 1
        kept = self._kept.get(lease.hop, [])
        spent = lease.limit and connection.messages >= lease.limit
        if self._closed or spent or len(kept) >= KEPT or not connection.alive:
            connection.close()
            return
        self._kept.setdefault(lease.hop, []).append((connection, self._clock.seconds()))
        if self._timer is None:
            self._timer = self._clock.callLater(self._idle, self._expire)

    def discard(self, lease: Lease) -> None:
        """End a connection whose state is not known."""
        lease.connection.fail(HopFailure("abandoned", "lost_connection"))

    def close(self) -> None:
        """Close all kept connections; those that are lent close when they come back."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        kept, self._kept = self._kept, {}
        for connections in kept.values():
            for connection, _ in connections:
                connection.close()

    def _expire(self) -> None:
        """Close those whose time is over (or unknown: the clock was set), and wait for the next."""
        now, self._timer = self._clock.seconds(), None
        kept, self._kept = self._kept, {}
        oldest = 0.0
        for hop, connections in kept.items():
            for connection, since in connections:
                if 0 <= now - since < self._idle:
                    self._kept.setdefault(hop, []).append((connection, since))
                    oldest = max(oldest, now - since)
                else:
                    connection.close()
        if self._kept:
            self._timer = self._clock.callLater(self._idle - oldest, self._expire)

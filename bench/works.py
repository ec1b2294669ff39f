"""What is measured of each server: one function a figure."""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.load import Load, idle
from bench.peers import Peer, cpu, memory
from tests.real import machine

PATIENCE = 600.0  # seconds for the sink to get everything


@dataclass(frozen=True, slots=True)
class Scale:
    """How much work: of a quick run a fraction of a whole one's."""

    messages: int
    clients: int
    size: int
    large: int  # messages of 10 MB
    sessions: int  # idle ones


@dataclass(frozen=True, slots=True)
class Work:
    """A row of the table; ``less`` is better where it is True."""

    title: str
    unit: str
    deliver: bool
    measure: Callable[[Peer, int, int, Scale], float]  # of a started peer, its port, the sink's
    less: bool = False


def _load(port: int, scale: Scale, *, kept: bool) -> Load:
    return Load(port, scale.clients, scale.messages // scale.clients, scale.size, kept)


def accepted(peer: Peer, port: int, sink: int, scale: Scale) -> float:
    """Messages a second, a session each."""
    return _load(port, scale, kept=False).run()


def accepted_kept(peer: Peer, port: int, sink: int, scale: Scale) -> float:
    """Messages a second on kept connections."""
    return _load(port, scale, kept=True).run()


def delivered_all(sink: int, load: Load) -> float:
    """Messages a second from the first command to the last one's arrival in the sink."""
    before, begun = taken(sink), time.monotonic()
    load.run()
    wanted = before + load.clients * load.each * load.recipients
    machine.wait_until(lambda: taken(sink) >= wanted, "the last delivery", PATIENCE, step=0.05)
    return load.clients * load.each / (time.monotonic() - begun)


def delivered(peer: Peer, port: int, sink: int, scale: Scale) -> float:
    """End to end, a session each."""
    return delivered_all(sink, _load(port, scale, kept=False))


def delivered_kept(peer: Peer, port: int, sink: int, scale: Scale) -> float:
    """End to end on kept connections."""
    return delivered_all(sink, _load(port, scale, kept=True))


def cpu_each(peer: Peer, port: int, sink: int, scale: Scale) -> float:
    """Milliseconds of CPU of all its processes for a message, end to end."""
    before = cpu(peer.processes())
    delivered_all(sink, _load(port, scale, kept=False))
    return (cpu(peer.processes()) - before) / scale.messages * 1000


def large(peer: Peer, port: int, sink: int, scale: Scale) -> float:
    """MB a second of 10 MB messages from four clients."""
    load = Load(port, 4, max(1, scale.large // 4), 10_000_000)
    return load.run() * 10


def _latency(port: int, share: float) -> float:
    Load(port, 1, 5, 4096, kept=False).run()  # a server that has just started is not measured
    load = Load(port, 1, 100, 4096, kept=False)
    load.run()
    return statistics.quantiles(load.latencies, n=100)[round(share * 100) - 1] * 1000


def latency_p50(peer: Peer, port: int, sink: int, scale: Scale) -> float:
    """Milliseconds of one session from connecting to its 250, the median."""
    return _latency(port, 0.5)


def latency_p99(peer: Peer, port: int, sink: int, scale: Scale) -> float:
    """The same, the slowest of a hundred."""
    return _latency(port, 0.99)


def idle_memory(peer: Peer, port: int, sink: int, scale: Scale) -> float:
    """KiB of memory for each session that has said EHLO and waits."""

    async def hold() -> float:
        # The first ones take what the start has left free, and cost nothing to be seen.
        first = await idle(port, scale.sessions)
        before = memory(peer.processes())
        writers = await idle(port, scale.sessions)
        try:
            return (memory(peer.processes()) - before) / scale.sessions / 1024
        finally:
            for writer in (*first, *writers):
                writer.close()

    return asyncio.run(hold())


def taken(sink: int) -> int:
    """Return how many messages the sink has taken."""
    with (
        socket.create_connection(("127.0.0.1", sink)) as connection,
        connection.makefile("rwb") as file,
    ):
        file.readline()
        file.write(b"XCNT\r\n")
        file.flush()
        return int(file.readline().split()[1])


WORKS = (
    Work("accepted and queued, a session each", "/s", False, accepted),
    Work("accepted and queued, kept connections", "/s", False, accepted_kept),
    Work("end to end by LMTP, a session each", "/s", True, delivered),
    Work("end to end by LMTP, kept connections", "/s", True, delivered_kept),
    Work("CPU a message, end to end", "ms", True, cpu_each, less=True),
    Work("10 MB messages, 4 clients", "MB/s", False, large),
    Work("one session to its 250, p50", "ms", False, latency_p50, less=True),
    Work("one session to its 250, p99", "ms", False, latency_p99, less=True),
    Work("memory of an idle session", "KiB", False, idle_memory, less=True),
)

"""How mailsrv's cost grows: ``python -m bench.curves`` writes a table and a picture.

Each curve is one work at growing sizes, with a fresh server for each point; a
flat curve means that a message costs the same however much there is.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.fill import fill
from bench.load import Begin, Load, greet, idle, secured
from bench.peers import memory
from bench.peers.mailsrv import Mailsrv
from bench.works import delivered_all
from tests.real import machine

MESSAGES = 1000
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Point:
    """A figure, and what else was seen there."""

    figure: float
    beside: str = ""

    def __str__(self) -> str:
        """As the table has it."""
        digits = 0 if self.figure >= 100 else 1
        return f"{self.figure:.{digits}f}" + (f" ({self.beside})" if self.beside else "")


@dataclass(frozen=True, slots=True)
class Curve:
    """``measure`` gives a point at a size."""

    name: str
    title: str
    sizes: tuple[int, ...]
    measure: Callable[[int, int], Point]  # of the size, and the sink's port


def _accepted(port: int, clients: int) -> Point:
    return Point(Load(port, clients, max(1, MESSAGES // clients), 4096, kept=True).run())


def connections(size: int, sink: int) -> Point:
    """Accepted messages a second, at so many connections."""
    peer = Mailsrv(sink, deliver=False)
    try:
        return _accepted(peer.start(), size)
    finally:
        peer.close()


def recipients(size: int, sink: int) -> Point:
    """Deliveries a second, of messages with so many recipients."""
    peer = Mailsrv(sink, deliver=True)
    try:
        load = Load(
            peer.start(), 10, max(1, MESSAGES // 10 // size), 4096, kept=True, recipients=size
        )
        return Point(delivered_all(sink, load) * size)
    finally:
        peer.close()


def queued(size: int, sink: int) -> Point:
    """Accepted messages a second, when so many are queued already."""
    peer = Mailsrv(sink, deliver=False)
    try:
        Load(peer.start(), 20, 5, 1024, kept=False).run()
        peer.stop()
        fill(peer.spools(), size)
        begun = time.monotonic()
        port = peer.start()
        started = time.monotonic() - begun
        _accepted(port, 20)  # a server that has just started is not measured
        accepted = _accepted(port, 20).figure
        held = memory(peer.processes()) / (1 << 20)
        return Point(accepted, f"start {started:.1f} s, {held:.0f} MiB")
    finally:
        peer.close()


def idle_sessions(size: int, sink: int, begin: Begin = greet) -> Point:
    """KiB for each of so many idle sessions; and how long a new one takes beside them."""

    async def hold(peer: Mailsrv, port: int) -> Point:
        writers = await idle(port, 20, begin)
        before = memory(peer.processes())
        writers += await idle(port, size, begin)
        try:
            each = (memory(peer.processes()) - before) / size / 1024
            load = Load(port, 1, 100, 4096, kept=False)
            await asyncio.to_thread(load.run)
            return Point(each, f"a new one {statistics.median(load.latencies) * 1000:.1f} ms")
        finally:
            for writer in writers:
                writer.transport.abort()

    peer = Mailsrv(sink, deliver=False, tls=begin is not greet)
    try:
        return asyncio.run(hold(peer, peer.start()))
    finally:
        peer.close()


def idle_under_tls(size: int, sink: int) -> Point:
    """The same under TLS."""
    return idle_sessions(size, sink, secured)


def aliases(size: int, sink: int) -> Point:
    """Messages a second end to end, each through an alias file with so many lines."""
    folder = machine.folder("bench-aliases")
    file = folder / "aliases"
    file.write_text(
        "".join(f"user{n}: box{n}@x.example\n" for n in range(size)) + "r: b@x.example\n"
    )
    file.chmod(0o644)
    peer = Mailsrv(sink, deliver=True, aliases=file)
    try:
        load = Load(peer.start(), 20, MESSAGES // 20, 4096, kept=True)
        return Point(delivered_all(sink, load))
    finally:
        peer.close()
        file.unlink()
        folder.rmdir()


CURVES = (
    Curve("connections", "accepted/s at n connections", (1, 10, 100, 1000), connections),
    Curve("recipients", "deliveries/s at n recipients a message", (1, 10, 100), recipients),
    Curve("queued", "accepted/s beside n queued messages", (100, 10_000, 1_000_000), queued),
    Curve("aliases", "end to end/s with n aliases", (10, 1000, 100_000), aliases),
    Curve("idle", "KiB for each of n idle sessions", (500, 5000, 10_000), idle_sessions),
    Curve("idle-tls", "KiB for each of n idle ones under TLS", (500, 5000), idle_under_tls),
)


def main() -> None:
    """Measure, print, and write ``results/curves.txt`` and ``results/curves.svg``."""
    port = machine.free_port()
    sink = subprocess.Popen([sys.executable, "-m", "bench.sink", str(port)])
    machine.wait_until(lambda: machine.listens(("127.0.0.1", port)), "the sink")
    found: dict[str, list[float]] = {}
    lines = []
    try:
        for curve in CURVES:
            points = [curve.measure(size, port) for size in curve.sizes]
            found[curve.name] = [point.figure for point in points]
            pairs = ", ".join(f"{n:,}: {p}" for n, p in zip(curve.sizes, points, strict=True))
            lines.append(f"{curve.title:42}{pairs}")
            print(lines[-1], flush=True)
    finally:
        sink.kill()
        sink.wait()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "curves.txt").write_text("\n".join(lines) + "\n")
    draw(found, RESULTS / "curves.svg")


def draw(found: dict[str, list[float]], path: Path) -> None:
    """Draw the curves, each in a frame of its own, the sizes on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    figure, frames = pyplot.subplots(1, len(CURVES), figsize=(4 * len(CURVES), 3))
    for frame, curve in zip(frames, CURVES, strict=True):
        frame.semilogx(curve.sizes, found[curve.name], marker="o")
        frame.set_title(curve.title, fontsize=9)
        frame.set_ylim(bottom=0)
        frame.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()

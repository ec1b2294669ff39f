"""How mailsrv's cost grows: ``python -m bench.curves`` writes a table and a picture.

Each curve is one work at growing sizes, with a fresh server for each point; a
flat curve means that a message costs the same however much there is.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.load import Load
from bench.peers.mailsrv import Mailsrv
from bench.works import delivered_all
from tests.real import machine

MESSAGES = 1000
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Curve:
    """``measure`` gives messages (or deliveries) a second at a size."""

    name: str
    title: str
    sizes: tuple[int, ...]
    measure: Callable[[int, int], float]  # of the size, and the sink's port


def _accepted(port: int, clients: int) -> float:
    return Load(port, clients, max(1, MESSAGES // clients), 4096, kept=True).run()


def connections(size: int, sink: int) -> float:
    """Accepted messages a second, at so many connections."""
    peer = Mailsrv(sink, deliver=False)
    try:
        return _accepted(peer.start(), size)
    finally:
        peer.close()


def recipients(size: int, sink: int) -> float:
    """Deliveries a second, of messages with so many recipients."""
    peer = Mailsrv(sink, deliver=True)
    try:
        load = Load(
            peer.start(), 10, max(1, MESSAGES // 10 // size), 4096, kept=True, recipients=size
        )
        return delivered_all(sink, load) * size
    finally:
        peer.close()


def queued(size: int, sink: int) -> float:
    """Accepted messages a second, when so many are queued already."""
    peer = Mailsrv(sink, deliver=False)
    try:
        port = peer.start()
        Load(port, 20, max(1, size // 20), 1024, kept=True).run()
        return _accepted(port, 20)
    finally:
        peer.close()


def aliases(size: int, sink: int) -> float:
    """Messages a second end to end, each through an alias file with so many lines."""
    folder = machine.folder("bench-aliases")
    file = folder / "aliases"
    file.write_text(
        "".join(f"user{n}: box{n}@x.example\n" for n in range(size)) + "r: b@x.example\n"
    )
    file.chmod(0o644)
    peer = Mailsrv(sink, deliver=True, aliases=file)
    try:
        return delivered_all(sink, Load(peer.start(), 20, MESSAGES // 20, 4096, kept=True))
    finally:
        peer.close()
        file.unlink()
        folder.rmdir()


CURVES = (
    Curve("connections", "accepted/s at n connections", (1, 10, 100, 1000), connections),
    Curve("recipients", "deliveries/s at n recipients a message", (1, 10, 100), recipients),
    Curve("queued", "accepted/s beside n queued messages", (100, 1000, 10_000), queued),
    Curve("aliases", "end to end/s with n aliases", (10, 1000, 100_000), aliases),
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
            figures = found[curve.name] = [curve.measure(size, port) for size in curve.sizes]
            pairs = ", ".join(f"{n:,}: {f:.0f}" for n, f in zip(curve.sizes, figures, strict=True))
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

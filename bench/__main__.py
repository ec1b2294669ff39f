"""Run the benchmark and print its table: ``python -m bench`` (see ``--help``).

The servers take turns in each round, so that a busy moment of the machine meets
all of them; the table has the medians, and how many times better mailsrv is than
each peer.  Load generator and sink share the machine's cores with the server.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.peers import Peer
from bench.peers.exim import Exim
from bench.peers.mailsrv import Mailsrv
from bench.peers.opensmtpd import OpenSmtpd
from bench.peers.postfix import Postfix
from bench.works import WORKS, Scale, Work
from tests.real import machine

PEERS: dict[str, Callable[..., Peer]] = {
    each.name: each for each in (Mailsrv, Exim, Postfix, OpenSmtpd)
}
WHOLE = Scale(messages=2000, clients=20, size=4096, large=40, sessions=500)
QUICK = Scale(messages=400, clients=20, size=4096, large=8, sessions=100)

RESULTS = Path(__file__).parent / "results"

Figures = dict[str, dict[str, list[float]]]  # of a work's title and a peer's name


def measure(work: Work, name: str, sink: int, scale: Scale) -> float:
    """Do one work with one fresh server."""
    peer = PEERS[name](sink, deliver=work.deliver)
    try:
        return work.measure(peer, peer.start(), sink, scale)
    finally:
        peer.close()


def main() -> None:
    """Measure in rounds, then print the table."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of a fifth of the work")
    parser.add_argument("--only", default="", help="works whose title has this in it")
    parser.add_argument("--peers", default="", help="names of the servers, mailsrv among them")
    options = parser.parse_args()
    scale = QUICK if options.quick else WHOLE
    works = [work for work in WORKS if options.only in work.title]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()};")
    print(f"{scale.messages} messages of {scale.size} octets from {scale.clients} clients")
    port = machine.free_port()
    sink = subprocess.Popen([sys.executable, "-m", "bench.sink", str(port)])
    machine.wait_until(lambda: machine.listens(("127.0.0.1", port)), "the sink")
    figures: Figures = {work.title: defaultdict(list) for work in works}
    peers = [
        name for name in PEERS if name in (options.peers.split(",") if options.peers else PEERS)
    ]
    try:
        for number in range(1 if options.quick else options.rounds):
            for work in works:
                for name in list(peers):
                    try:
                        value = measure(work, name, port, scale)
                    except pytest.skip.Exception as reason:
                        print(f"{name} is left out: {reason}")
                        peers.remove(name)
                        continue
                    except (RuntimeError, OSError) as error:  # it refuses this work
                        print(f"round {number + 1}: {work.title}: {name}: {error}", flush=True)
                        continue
                    figures[work.title][name].append(value)
                    shown = f"{value:.4g} {work.unit}"
                    print(f"round {number + 1}: {work.title}: {name} {shown}", flush=True)
    finally:
        sink.kill()
        sink.wait()
    table = "\n".join(table_of(works, figures))
    print(f"\n{table}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "table.txt").write_text(table + "\n")


def table_of(works: list[Work], figures: Figures) -> list[str]:
    """Return the medians, and how many times better mailsrv is than each peer, in lines."""
    names = [name for name in PEERS if any(name in found for found in figures.values())]
    lines = [f"{'medians':38}{'':6}" + "".join(f"{n:>10}" for n in names) + "   mailsrv is"]
    for work in works:
        medians = {n: statistics.median(f) for n, f in figures[work.title].items() if f}
        row = "".join(f"{medians[n]:10.4g}" if n in medians else f"{'-':>10}" for n in names)
        lines.append(f"{work.title:38}{work.unit:6}{row}   {_ratios(work, medians)}")
    return lines


def _ratios(work: Work, medians: dict[str, float]) -> str:
    ours = medians.get("mailsrv", 0.0)
    found = []
    for name, theirs in medians.items():
        if name != "mailsrv" and ours > 0 and theirs > 0:
            found.append(f"{theirs / ours if work.less else ours / theirs:.1f} x {name}")
    return ", ".join(found)


if __name__ == "__main__":
    main()

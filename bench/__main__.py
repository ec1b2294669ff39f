"""Run the benchmark and print its table: ``python -m bench`` (see ``--help``).

The servers take turns in each round, so that a busy moment of the machine meets
all of them; the table has the medians, and mailsrv's ratio to each peer.  Load
generator and sink share the machine's cores with the server.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable

import pytest

from bench.load import Load
from bench.peers import Exim, Mailsrv, Peer
from tests.real import machine

Work = Callable[[Peer, int, Load], float]
PEERS = (Mailsrv, Exim)


def accepted(peer: Peer, port: int, load: Load) -> float:
    """Messages a second that are accepted."""
    load.port = port
    return load.run()


def delivered(peer: Peer, port: int, load: Load) -> float:
    """Messages a second from the first command to the last delivery."""
    load.port = port
    begun = time.monotonic()
    load.run()
    machine.wait_until(lambda: peer.waiting() == 0, f"{peer.name}'s queue", 600, step=0.1)
    return load.clients * load.each / (time.monotonic() - begun)


WORKS: dict[str, tuple[Work, bool, bool]] = {  # work, deliver, kept connections
    "accepted, a connection each": (accepted, False, False),
    "accepted, kept connections": (accepted, False, True),
    "delivered by LMTP, kept connections": (delivered, True, True),
}


def measure(work: str, kind: type[Mailsrv] | type[Exim], sink: int, load: Load) -> float:
    """Run one work on one fresh server."""
    function, deliver, kept = WORKS[work]
    load.kept = kept
    peer: Peer = kind(sink, deliver=deliver)
    try:
        return function(peer, peer.start(), load)
    finally:
        peer.close()


def main() -> None:
    """Measure in rounds, then print the table."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--size", type=int, default=4096)
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()};")
    print(f"{options.messages} messages of {options.size} octets from {options.clients} clients")
    port = machine.free_port()
    sink = subprocess.Popen([sys.executable, "-m", "bench.sink", str(port)])
    rates: dict[str, dict[str, list[float]]] = {work: defaultdict(list) for work in WORKS}
    peers = list(PEERS)
    try:
        for number in range(options.rounds):
            for work in WORKS:
                for kind in list(peers):
                    each = options.messages // options.clients
                    load = Load(0, options.clients, each, options.size)
                    try:
                        rate = measure(work, kind, port, load)
                    except pytest.skip.Exception as reason:
                        print(f"{kind.name} is left out: {reason}")
                        peers.remove(kind)
                        continue
                    rates[work][kind.name].append(rate)
                    print(f"round {number + 1}: {work}: {kind.name} {rate:.0f}/s", flush=True)
    finally:
        sink.kill()
        sink.wait()
    show(rates)


def show(rates: dict[str, dict[str, list[float]]]) -> None:
    """Print the medians in messages a second, and mailsrv's ratio to each peer."""
    names = [kind.name for kind in PEERS if any(kind.name in found for found in rates.values())]
    print(f"\n{'messages a second (medians)':38}" + "".join(f"{name:>10}" for name in names))
    for work, found in rates.items():
        medians = {name: statistics.median(found[name]) for name in names if found.get(name)}
        ratios = "".join(
            f"   {medians['mailsrv'] / medians[name]:.1f} x {name}"
            for name in names[1:]
            if name in medians
        )
        print(f"{work:38}" + "".join(f"{medians.get(n, 0):10.0f}" for n in names) + ratios)


if __name__ == "__main__":
    main()

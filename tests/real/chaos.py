"""Kill -9 under load, with a next hop that fails at random: nothing lost, next to nothing twice.

``python -m tests.real.chaos 30`` kills a worker, the supervisor and all of them thirty times each,
and prints figures; the tests do the same with few kills.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.real import machine
from tests.real.server import Server
from tests.real.sink import Session, Sink
from tests.real.test_durability import Load

VICTIMS = ("worker", "supervisor", "all")
BETWEEN = 20  # messages answered from one death to the next, at least
START = 30.0  # seconds that a worker's start may take beside all that burns here
FAULT = 0.03  # the probability that something goes wrong with one reply
REFUSED = "451 4.3.0 not now"


class _Chaos(Session):
    """Waits, closes or refuses instead of answering; sometimes when it has taken the message."""

    def say(self, line: str) -> None:
        if line.startswith(("220", "250 2.0.0 ok")) and random.random() < FAULT:
            kind = random.choice(("close", "wait", "refuse"))
            if kind == "close":
                raise ConnectionResetError
            if kind == "wait":
                time.sleep(0.3)
            elif not line.startswith("220"):
                line = REFUSED
        super().say(line)

    def record(self, message: bytes, recipients: list[bytes]) -> str:
        if random.random() < FAULT:
            raise ConnectionResetError  # not taken
        mark = super().record(message, recipients)
        assert isinstance(self.server.sink, ChaoticSink)
        self.server.sink.history.append((mark, id(self.connection)))
        self.server.sink.alive.append(self.connection)  # so that no other has its id
        if random.random() < FAULT:
            raise ConnectionResetError  # taken, and nobody is told
        return mark


class ChaoticSink(Sink):
    """``history`` has each message taken, in order, with the connection that brought it."""

    def __init__(self) -> None:
        self.history: list[tuple[str, int]] = []
        self.alive: list[object] = []
        super().__init__(session=_Chaos)

    def repeated(self) -> Counter[int]:
        """By connection: how many of its messages came again over another one."""
        left = Counter(mark for mark, _ in self.history)
        found: Counter[int] = Counter()
        for mark, connection in self.history:
            left[mark] -= 1
            found[connection] += left[mark] > 0
        return found


@dataclass
class Figures:
    """What came of it."""

    kills: int = 0
    answered: int = 0
    lost: set[str] = field(default_factory=set)
    twice: int = 0
    most_twice: int = 0  # messages of one connection that came twice
    slowest: float = 0.0  # greeting after a worker's death, in seconds; the other may be dead, too


def workers_of(server: Server) -> list[int]:
    """The pids of a server's workers."""
    return children(server.pid)


def children(pid: int) -> list[int]:
    """The pids of a process' children."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()]


def gone(pid: int) -> bool:
    """A process has ended; one that nobody has waited for yet has, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def greeting(port: int, limit: float) -> float:
    """Connect, and return how long the greeting took."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), limit) as client:
        client.settimeout(limit)
        assert client.recv(100).startswith(b"220 ")
    return time.monotonic() - begun


def greets(port: int) -> bool:
    """Tell whether somebody serves."""
    try:
        return greeting(port, 10) > 0
    except OSError:
        return False


def kill(server: Server, victims: str) -> float:
    """Kill whom ``victims`` names, see that the server goes on; return a greeting's time."""
    pids = workers_of(server)
    if victims == "worker":
        machine.wait_until(lambda: workers_of(server), "a worker", 10)
        pids = workers_of(server)
        os.kill(random.choice(pids), signal.SIGKILL)
        try:
            return greeting(server.smtp_port, START) if len(pids) > 1 else 0.0
        except ConnectionError:  # it was the dead one's
            return 0.0
    if victims == "all":
        server.kill()
    else:
        server.kill_first()
    server.start()
    machine.wait_until(lambda: all(map(gone, pids)), "the old workers' end", 60)
    machine.wait_until(lambda: greets(server.smtp_port), "a greeting", 30)  # there is load again
    return 0.0


def run(server: Server, sink: ChaoticSink, victims: str, kills: int) -> Figures:
    """Kill ``kills`` times under load, then wait until the queue is empty."""
    figures = Figures()
    load = Load(server.smtp_port, clients=4)
    for _ in range(kills):
        enough = len(load.answered) + BETWEEN
        machine.wait_until(lambda n=enough: len(load.answered) >= n, "some load", 60)
        time.sleep(random.uniform(0, 0.5))
        figures.slowest = max(figures.slowest, kill(server, victims))
        figures.kills += 1
    time.sleep(0.3)
    load.stop()

    def missing() -> set[str]:
        return load.answered - set(sink.delivered) - set(sink.bounced)

    try:
        machine.wait_until(lambda: not missing(), "the queue to run empty", 90, step=0.2)
    except TimeoutError:
        figures.lost = missing()
    repeated = sink.repeated()
    figures.answered = len(load.answered)
    figures.twice = repeated.total()
    figures.most_twice = max(repeated.values(), default=0)
    return figures


def main(kills: int) -> int:
    """Print the figures of each kind of death; 1 if something was lost or came too often."""
    failed = False
    for victims in VICTIMS:
        sink = ChaoticSink()
        server = Server("workers.conf", {"T_LMTP": sink.socket, "T_WORKERS": "2"})
        try:
            server.start()
            server.wait_for_log("daemon started", count=2)
            figures = run(server, sink, victims, kills)
        finally:
            server.close()
            sink.close()
        print(f"{victims}: {figures}", flush=True)
        failed = failed or bool(figures.lost) or figures.most_twice > 1
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))

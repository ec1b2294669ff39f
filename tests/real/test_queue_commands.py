"""Every command of the queue, on a server that runs (with one and with two workers) and on none."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest

from tests.real import machine
from tests.real.server import Server
from tests.real.sink import Sink

FORMS = ["one", "two", "stopped"]


class Queue:
    """A server with three messages that wait, and the hop that can be had."""

    def __init__(self, form: str) -> None:
        self.port = machine.free_port()
        workers = "2" if form == "two" else "1"
        self.server = Server("queue.conf", {"T_NEXT": str(self.port), "T_WORKERS": workers})
        self.server.start()
        self.sink: Sink | None = None
        for number in range(3):
            with self.server.client(tls=False) as client:
                client.sendmail(
                    f"s{number}@far.example",
                    [f"a{number}@local.example", f"b{number}@other.example"],
                    f"Subject: x\r\nX-Mark: m{number}\r\n\r\nhello {number}\r\n",
                )
            self.server.wait_for_log("Connection refused")  # the others need not try the host
        self.until(3)
        if form == "stopped":
            self.server.stop()
        found = re.findall(r"(?m)^\S+ \S+ (\S+) <= s(\d)@", self.server.log())
        self.ids = [id for id, _ in sorted(found, key=lambda pair: pair[1])]

    def command(self, *words: str) -> str:
        return self.server.command(*words)

    def listed(self) -> str:
        return self.command("-bp")

    def count(self) -> int:
        return int(self.command("-bpc"))

    def hop(self) -> Sink:
        """Let the hop be there from now on."""
        self.sink = Sink(("127.0.0.1", self.port))
        return self.sink

    def until(self, count: int) -> None:
        machine.wait_until(lambda: self.count() == count, f"{count} messages: {self.listed()}")

    def close(self) -> None:
        self.server.close()
        if self.sink is not None:
            self.sink.close()


@pytest.fixture(params=FORMS)
def queue(request: pytest.FixtureRequest) -> Iterator[Queue]:
    """The queue in one of its forms."""
    made = Queue(request.param)
    with contextlib.closing(made):
        yield made


def test_changes(queue: Queue) -> None:
    """Listings, views, freezing, the envelope, removal: each does what it says, on the disk."""
    first, second, third = queue.ids
    assert queue.count() == 3
    assert "a0@local.example" in queue.listed()
    assert f"{first}-H" in queue.command("-Mvh", first)
    assert "hello 0" in queue.command("-Mvb", first)
    assert "Connection refused" in queue.command("-Mvl", first)

    assert queue.command("-Mf", first) == f"Message {first} is now frozen\n"
    assert "*** frozen ***" in queue.listed()
    assert queue.command("-Mt", first) == f"Message {first} is no longer frozen\n"
    assert "*** frozen ***" not in queue.listed()

    modified = f"Message {second} has been modified\n"
    assert queue.command("-Mes", second, "new@far.example") == modified
    assert "<new@far.example>" in queue.listed()
    assert queue.command("-Mar", second, "added@local.example") == modified
    assert queue.command("-Mmd", second, "a1@local.example") == modified
    shown = queue.command("-bp", second)
    assert "        D a1@local.example\n" in shown
    assert "          added@local.example\n" in shown
    assert queue.command("-Mmad", second) == modified
    queue.until(2)

    assert queue.command("-Mrm", third) == f"Message {third} has been removed\n"
    queue.until(1)
    assert queue.command("-Mg", first) == f"Message {first} has been given up\n"
    queue.until(1)  # its bounce, which waits for the hop
    assert "<> " not in queue.command("-bp", first)
    assert "to s0@far.example" not in queue.server.log("panic")


def test_deliveries(queue: Queue) -> None:
    """-M, -Mc, -R, -S and -q deliver; each message once."""
    first, second, third = queue.ids
    queue.command("-Mc", first)  # its retry time has not come
    assert queue.count() == 3
    sink = queue.hop()
    queue.command("-Mc", first)
    assert queue.count() == 3
    queue.command("-M", first)
    queue.until(2)
    assert "1 message attempted" in queue.command("-Rf", "A1@LOCAL")
    queue.until(1)
    assert "0 messages attempted" in queue.command("-S", "nobody")
    assert "1 message attempted" in queue.command("-Sr", r"^s2@")
    queue.until(0)
    assert dict(sink.delivered) == {"m0": 1, "m1": 1, "m2": 1}
    for id in (first, second, third):
        assert f"{id} Completed" in queue.server.log()


@pytest.mark.parametrize("run", ["-q", "-qf", "-qq", "-qff"])
def test_queue_runs(queue: Queue, run: str) -> None:
    """All messages are tried at once; frozen ones with -qff alone."""
    queue.command("-Mf", queue.ids[0])
    sink = queue.hop()
    assert "to be attempted now" in queue.command(run)
    left = 0 if run == "-qff" else 1
    queue.until(left)
    assert len(sink.delivered) == 3 - left


def test_a_part_of_the_queue(queue: Queue) -> None:
    """-q with a first and a last id."""
    queue.hop()
    one = sorted(queue.ids)[1]
    assert queue.command("-qf", one, one).startswith("1 message ")
    queue.until(2)
    assert one not in queue.listed()

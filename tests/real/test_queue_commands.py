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
UNKNOWN = "1aaaaa-000000-00"


class Queue:
    """A server with three messages that wait, and the hop that can be had."""

    def __init__(self, form: str, rcpt: str = "accept", messages: int = 3) -> None:
        self.port = machine.free_port()
        workers = "2" if form == "two" else "1"
        self.server = Server(
            "queue.conf", {"T_NEXT": str(self.port), "T_WORKERS": workers, "T_RCPT": rcpt}
        )
        self.server.start()
        self.sink: Sink | None = None
        for number in range(messages):
            with self.server.client(tls=False) as client:
                client.sendmail(
                    f"s{number}@far.example",
                    [f"a{number}@local.example", f"b{number}@other.example"],
                    f"Subject: x\r\nX-Mark: m{number}\r\n\r\nhello {number}\r\n",
                )
            if rcpt == "accept":
                self.server.wait_for_log("Connection refused")  # the others need not try the host
        self.until(messages)
        if form == "stopped":
            self.server.stop()
        found = re.findall(r"(?m)^\S+ \S+ (\S+) <= s(\d)@", self.server.log())
        self.ids = [id for id, _ in sorted(found, key=lambda pair: pair[1])]

    def command(self, *words: str) -> str:
        return self.server.command(*words)

    def fails(self, *words: str) -> str:
        """Run a command that is to fail with status 1; return what it prints."""
        done = self.server.run(*words)
        assert done.returncode == 1, done
        return done.stdout.decode()

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


def test_views_and_listings(queue: Queue) -> None:
    """-bp and its kin, -Mvh, -Mvb, -Mvc, -Mvl."""
    first = queue.ids[0]
    assert queue.count() == 3
    for option in ("-bp", "-bpa", "-bpu", "-bpr", "-bpra", "-bpru"):
        assert queue.command(option).count("@local.example\n") == 3, option
    one = queue.command("-bp", first)
    assert re.fullmatch(
        rf" 0m .{{5}} {first} <s0@far.example>\n {{10}}a0@local.example\n {{10}}b0@.*\n\n", one
    )
    assert "*** spool read error" in queue.command("-bp", UNKNOWN)
    assert f"{first}-H" in queue.command("-Mvh", first)
    assert queue.command("-Mvb", first) == f"{first}-D\nhello 0\n"
    header, _, body = queue.command("-Mvc", first).partition("\n\n")
    assert header.startswith("Received: ") and "\nX-Mark: m0" in header
    assert body == "hello 0\n"
    assert "Connection refused" in queue.command("-Mvl", first)


def test_changes(queue: Queue) -> None:
    """Freezing, the envelope, removal: each does what it says, on the disk, in Exim's words."""
    first, second, third = queue.ids
    assert queue.command("-Mf", first) == f"Message {first} is now frozen\n"
    assert queue.fails("-Mf", first) == f"Message {first} is already frozen\n"
    assert "*** frozen ***" in queue.listed()
    assert queue.command("-Mt", first) == f"Message {first} is no longer frozen\n"
    assert queue.fails("-Mt", first) == f"Message {first} is not frozen\n"
    assert "*** frozen ***" not in queue.listed()

    modified = f"Message {second} has been modified\n"
    assert queue.command("-Mes", second, "new@far.example") == modified
    assert "<new@far.example>" in queue.listed()
    error = f"Message {second} - error while"
    unqualified = "\n  bad address unq: domain missing\n"
    assert queue.fails("-Mes", second, "unq") == f"{error} editing sender:{unqualified}"
    assert queue.fails("-Mes", second) == f"{error} editing sender: no address given\n"
    assert queue.command("-Mar", second, "added@local.example") == modified
    assert queue.fails("-Mar", second, "unq") == f"{error} adding recipient:{unqualified}"
    assert queue.fails("-Mmd", second, "a1@local.example", "x@y") == (
        f"{error} marking as delivered:\n  x@y is not a recipient: message not updated\n"
    )
    assert queue.command("-Mmd", second, "a1@local.example") == modified
    assert queue.command("-Mmd", second, "<a1@local.example>") == modified  # it is already
    shown = queue.command("-bp", second)
    assert "        D a1@local.example\n" in shown
    assert "          added@local.example\n" in shown
    assert queue.command("-Mmad", second) == modified
    queue.until(2)

    assert queue.command("-Mrm", third) == f"Message {third} has been removed\n"
    assert queue.fails("-Mrm", third) == f"Message {third} has been removed or did not exist\n"
    queue.until(1)
    assert queue.command("-Mg", first) == ""
    queue.until(1)  # its bounce, which waits for the hop
    assert "<> " not in queue.command("-bp", first)
    assert "to s0@far.example" not in queue.server.log("panic")
    for option in ("-Mf", "-Mt", "-Mg", "-Mmad", "-Mvc"):
        assert queue.fails(option, UNKNOWN) == f"Spool data file for {UNKNOWN} does not exist\n"


def test_deliveries(queue: Queue) -> None:
    """-M, -Mc, -R and -S deliver; each message once."""
    first, second, third = queue.ids
    queue.command("-Mc", first)  # its retry time has not come
    assert queue.count() == 3
    sink = queue.hop()
    queue.command("-Mc", first)
    assert queue.count() == 3
    queue.command("-M", first)
    queue.until(2)
    assert queue.command("-Rf", "A1@LOCAL") == ""
    queue.until(1)
    assert queue.command("-v", "-S", "nobody") == "0 messages attempted\n"
    assert queue.command("-v", "-Sr", r"^s2@") == "1 message attempted\n"
    queue.until(0)
    assert dict(sink.delivered) == {"m0": 1, "m1": 1, "m2": 1}
    for id in (first, second, third):
        assert f"{id} Completed" in queue.server.log()


@pytest.mark.parametrize(("run", "delivered"), [("-qf", 2), ("-qqf", 2), ("-qff", 3)])
def test_forced_queue_runs(queue: Queue, run: str, delivered: int) -> None:
    """What is not due is tried, frozen messages with -qff alone."""
    queue.command("-Mf", queue.ids[0])
    sink = queue.hop()
    assert queue.command(run) == ""
    queue.until(3 - delivered)
    assert len(sink.delivered) == delivered


def test_a_queue_run_respects_retry_times(queue: Queue) -> None:
    """-q and -qi try nothing whose time has not come, or that has been tried."""
    sink = queue.hop()
    for run in ("-q", "-qq", "-qi"):
        assert queue.command(run) == ""
    queue.command("-Mc", *queue.ids)  # waits for what may still be under way
    assert queue.count() == 3
    assert not sink.delivered


def test_a_part_of_the_queue(queue: Queue) -> None:
    """-q with a first and a last id."""
    queue.hop()
    one = sorted(queue.ids)[1]
    assert queue.command("-v", "-qf", one, one).startswith("1 message ")
    queue.until(2)
    assert one not in queue.listed()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_only_queued(form: str) -> None:
    """A message that an ACL queues waits for -q, which has no retry time to respect."""
    queue = Queue(form, "accept control = queue", messages=1)
    with contextlib.closing(queue):
        assert "no immediate delivery: queued by ACL" in queue.server.log()
        sink = queue.hop()
        assert queue.command("-v", "-qi") == "1 message to be attempted\n"
        queue.until(0)
        assert dict(sink.delivered) == {"m0": 1}


def test_for_people(queue: Queue) -> None:
    """mailsrv queue: the table, a summary, one message, and changes by filters."""
    first = queue.ids[0]
    rows = queue.command("queue", "--recipient", "a0@local.example").splitlines()
    assert len(rows) == 2
    assert rows[1].split()[2:] == [
        first, "59m", "s0@far.example", "a0@local.example", "(+1)", "Connection", "refused",
    ]  # fmt: skip
    summary = queue.command("queue", "summary").splitlines()
    assert summary[-1].split()[0] == "3"
    assert any(row.endswith("  Connection refused") for row in summary)
    assert "  X-Mark: m0\n" in queue.command("queue", "show", first)
    assert queue.command("queue", "freeze", "--domain", "local.example", "--yes") == "3 frozen\n"
    assert queue.command("queue", "--frozen", "--json").count("\n") == 3
    assert queue.command("queue", "thaw", first) == "1 thawed\n"
    assert queue.command("queue", "remove", "--frozen", "--yes") == "2 removed\n"
    sink = queue.hop()
    assert queue.command("queue", "retry", "--all") == "1 to be attempted now\n"
    queue.until(0)
    assert dict(sink.delivered) == {"m0": 1}

"""Several processes: they share the work, replace each other, and lose nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import smtplib
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.real import machine
from tests.real.chaos import gone, greeting, workers_of
from tests.real.server import Server
from tests.real.sink import Sink
from tests.real.test_durability import Load

StartServer = Callable[..., Server]
RELOADS = 50


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


def started(start_server: StartServer, sink: Sink, workers: int = 2) -> Server:
    """A server with that many workers, all of which serve."""
    server = start_server("workers.conf", T_LMTP=sink.socket, T_WORKERS=str(workers))
    if workers > 1:
        server.wait_for_log("daemon started", count=workers)
    return server


def arrived(load: Load, sink: Sink, server: Server) -> None:
    """Wait until every message that was answered has arrived, or its bounce has."""

    def missing() -> set[str]:
        return load.answered - set(sink.delivered) - set(sink.bounced)

    try:
        machine.wait_until(lambda: not missing(), "the queue to run empty", 60, step=0.2)
    except TimeoutError:
        pytest.fail(f"lost: {sorted(missing())} of {len(load.answered)}\n{server.logged()[-5000:]}")


def test_workers_share_the_work_and_end_gracefully(start_server: StartServer, sink: Sink) -> None:
    """Both have sessions; SIGTERM lets a message under way finish."""
    server = started(start_server, sink)
    load = Load(server.smtp_port, clients=6)
    machine.wait_until(lambda: len(load.answered) > 60, "some load")
    load.stop()
    arrived(load, sink, server)
    pids = workers_of(server)
    assert len(pids) == 2
    client = server.client(tls=False)
    client.mail("x@client.example")
    client.rcpt("good@example.org")
    client.putcmd("DATA")
    assert client.getreply()[0] == 354
    os.kill(server.pid, signal.SIGTERM)
    time.sleep(0.3)
    client.send(b"X-Mark: last\r\n\r\ntext\r\n.\r\n")
    assert client.getreply()[0] == 250
    server.stop()
    for pid in pids:
        assert gone(pid)
        assert f"ended: pid={pid}" in server.log()
    took = [(server.folder / "spool" / name / "spool.sqlite3").exists() for name in "01"]
    assert took == [True, True]


def test_a_worker_that_dies_at_every_start(start_server: StartServer, sink: Sink) -> None:
    """Its connections are greeted by another within two seconds; the reason is told."""
    server = started(start_server, sink)
    server.stop()
    spool = server.folder / "spool" / "1"
    spool.rename(server.folder / "spool" / "aside")
    spool.write_text("no folder")
    server.start()
    server.wait_for_log("daemon started", count=3)
    times = [greeting(server.smtp_port, 2) for _ in range(60)]
    assert max(times) < 2
    machine.wait_until(lambda: "is not a directory" in server.log("panic"), "the reason", 20)
    spool.unlink()
    server.wait_for_log("daemon started", count=4, timeout=40)


def test_fewer_workers_deliver_what_the_others_had(start_server: StartServer, sink: Sink) -> None:
    """Four, two, one: what is queued in the spools of those that are gone is delivered."""
    server = started(start_server, sink, workers=4)
    sink.socket.rename(sink.socket.with_suffix(".away"))  # the next hop is down
    load = Load(server.smtp_port, clients=4)
    machine.wait_until(lambda: len(load.answered) >= 40, "a queue")
    load.stop()
    server.stop()
    assert not sink.delivered
    for workers in (2, 1):
        server.macros["T_WORKERS"] = str(workers)
        if workers == 1:
            sink.socket.with_suffix(".away").rename(sink.socket)
        server.start()
        server.wait_for_log("is taken over", count=2 if workers == 2 else 5)
        server.stop() if workers == 2 else server.command("-qff")
    arrived(load, sink, server)


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_under_load(start_server: StartServer, sink: Sink, workers: int) -> None:
    """Fifty times, good and bad in turn: no session ends, a bad file changes nothing."""
    server = started(start_server, sink, workers)
    good = server.configuration.read_text()
    load = Load(server.smtp_port, clients=3)
    kept = [server.client(tls=False) for _ in range(10)]
    for number in range(RELOADS):
        bad = number % 2 == 1
        banner = f"smtp_banner = configuration {number}\n"
        server.configuration.write_text(banner + ("nosuch_option = 1\n" if bad else "") + good)
        os.kill(server.pid, signal.SIGHUP)
        if bad:
            told = "the configuration is wrong and is not used"
            machine.wait_until(
                lambda told=told, n=number: server.log("panic").count(told) > n // 2, "the report"
            )
        else:
            server.wait_for_log("configuration read anew", count=workers * (number // 2 + 1))
        if number % 10 == 9:  # a session may say some words only that are no mail
            assert all(client.noop()[0] == 250 for client in kept)
    assert "line 2 of" in server.log("panic") and "nosuch_option" in server.log("panic")
    with socket.create_connection(("127.0.0.1", server.smtp_port), 10) as client:
        assert client.recv(100).startswith(f"220 configuration {RELOADS - 2}\r\n".encode())
    load.stop()
    assert not load.broken
    arrived(load, sink, server)


def test_sighup_changes_ports(start_server: StartServer, sink: Sink) -> None:
    """A new port is served, one that is gone is closed, the others never are."""
    server = started(start_server, sink)
    text = server.configuration.read_text()
    port = machine.free_port()
    server.configuration.write_text(text.replace("T_SMTP : T_SUBMISSION", f"T_SMTP : {port}"))
    with server.client(server.submission_port, tls=False) as session:
        os.kill(server.pid, signal.SIGHUP)
        server.wait_for_log("configuration read anew", count=2)
        assert session.noop()[0] == 250
    assert [greeting(port, 5) < 5 for _ in range(8)]
    machine.wait_until(
        lambda: not machine.listens(("127.0.0.1", server.submission_port)), "the port's end", 5
    )


def test_limits_are_the_servers(start_server: StartServer, sink: Sink) -> None:
    """smtp_accept_max counts the connections of all workers; a dead one's are forgotten."""
    server = started(start_server, sink)
    server.stop()
    path = server.configuration
    path.write_text("smtp_accept_max = 6\n" + path.read_text())
    server.start()
    server.wait_for_log("daemon started", count=4)

    def codes() -> list[bytes]:
        with contextlib.ExitStack() as stack:
            found = []
            for _ in range(10):
                client = stack.enter_context(
                    socket.create_connection(("127.0.0.1", server.smtp_port), 30)
                )
                found.append(client.recv(3))
            return found

    # The connection that saw the server start may still be counted.
    machine.wait_until(lambda: codes().count(b"220") == 6, "all places to be free", 30, step=0.2)
    held: list[smtplib.SMTP] = []

    def hold() -> bool:
        with contextlib.suppress(smtplib.SMTPConnectError):  # the others are still being closed
            held.append(smtplib.SMTP("127.0.0.1", server.smtp_port, timeout=30))
        return len(held) == 6

    machine.wait_until(hold, "six connections")
    victim = workers_of(server)[0]
    os.kill(victim, signal.SIGKILL)
    server.wait_for_log("daemon started", count=5)
    for client in held:
        client.close()
    machine.wait_until(lambda: codes().count(b"220") == 6, "the counts to be right", 30, step=0.2)

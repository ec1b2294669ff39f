"""What was answered with 250 is never lost: kill -9 at any moment, and a look at the syncs."""

from __future__ import annotations

import itertools
import random
import smtplib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.real import machine, trace
from tests.real.server import Server
from tests.real.sink import Sink

StartServer = Callable[..., Server]
KILLS = 30
LARGE = 400_000  # octets: more than is kept in the database


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


class Load:
    """Clients that send without a pause, and note the mark of each message that was answered 250.

    One message in ten is large, one in ten goes to a recipient that the next hop refuses.
    """

    def __init__(self, port: int, clients: int) -> None:
        self.answered: set[str] = set()
        self.broken = 0  # sessions that ended otherwise than they should
        self.expected_bounces: set[str] = set()
        self._port = port
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self._port, "client.example", timeout=10) as client:
                    for _ in range(20):
                        self._send(client)
                        if self._stop.is_set():
                            return
            except (OSError, smtplib.SMTPException):
                self.broken += 1
                time.sleep(0.02)  # the server is dead just now

    def _send(self, client: smtplib.SMTP) -> None:
        number = next(self._numbers)
        mark = f"m{number}"
        body = "x" * 70 + "\r\n"
        text = f"X-Mark: {mark}\r\nSubject: load\r\n\r\n" + body * (
            LARGE // 72 if number % 10 == 3 else 20
        )
        name = "bad" if number % 10 == 7 else "good"
        client.sendmail("sender@x.example", [f"{name}{number}@x.example"], text)
        self.answered.add(mark)
        if name == "bad":
            self.expected_bounces.add(mark)


def test_nothing_answered_is_lost_when_the_server_is_killed(
    start_server: StartServer, sink: Sink
) -> None:
    """Thirty kills under load; then every 250 has arrived, or its bounce has."""
    server = start_server("durability.conf", T_LMTP=sink.socket)
    load = Load(server.smtp_port, clients=4)
    chance = random.Random()
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.05, 1.2))
        server.kill()
        server.start()
    time.sleep(0.5)
    load.stop()

    def missing() -> set[str]:
        return load.answered - set(sink.delivered) - set(sink.bounced)

    assert len(load.answered) > 10 * KILLS, "too little load for a meaning"
    try:
        machine.wait_until(lambda: not missing(), "the queue to run empty", 90, step=0.2)
    except TimeoutError:
        pytest.fail(f"lost: {sorted(missing())} of {len(load.answered)}\n{server.logged()[-5000:]}")
    assert load.expected_bounces <= set(sink.bounced)
    machine.wait_until(lambda: server.command("-bpc").strip() == "0", "an empty queue", 30)


def send_by_hand(port: int, mark: str, size: int) -> str:
    """Send a message whose last line travels alone, and return the answer to it."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        file = connection.makefile("rwb")

        def say(line: str) -> str:
            file.write(line.encode() + b"\r\n")
            file.flush()
            answer = file.readline().decode()
            while answer[3:4] == "-":
                answer = file.readline().decode()
            return answer

        file.readline()
        say("EHLO client.example")
        say("MAIL FROM:<sender@x.example>")
        say("RCPT TO:<good@x.example>")
        say("DATA")
        file.write(f"X-Mark: {mark}\r\n\r\n".encode() + b"0123456789012\r\n" * (size // 15))
        file.flush()
        time.sleep(0.5)  # all of it has been read when the last line comes
        answer = say(".")
        say("QUIT")
        return answer


def test_a_sync_returns_between_the_last_octet_and_the_answer(
    start_server: StartServer, sink: Sink
) -> None:
    """For each message: its data written, then synced; then 250, and not before.

    A large body's file and the folder with its name are synced before the database is.
    """
    machine.need("strace", "strace")
    output = sink.folder / "trace"
    server = start_server("durability.conf", prefix=trace.command(output), T_LMTP=sink.socket)
    spool = str(server.folder / "spool")
    for number, size in enumerate((2000, LARGE, 2000, LARGE)):
        assert send_by_hand(server.smtp_port, f"proof-{number}", size).startswith("250 ")
    machine.wait_until(lambda: len(sink.delivered) == 4, "four deliveries")
    server.stop()
    calls = list(trace.calls(output))
    ends = [
        call
        for call in calls
        if call.name in ("read", "recvfrom") and '".\\r\\n"' in call.arguments
    ]
    assert len(ends) == 4
    for number, end in enumerate(ends):
        answer = next(
            call
            for call in calls
            if call.begun > end.ended
            and call.file == end.file
            and call.name in ("sendto", "write", "sendmsg", "writev")
            and "250 " in call.arguments
        )
        within = [call for call in calls if call.begun > end.ended and call.ended < answer.begun]
        _check_commit(within, spool, f"proof-{number}")
        if number % 2:
            before = [call for call in calls if call.ended < answer.begun]
            _check_body(before, spool)


def _check_commit(within: list[trace.Call], spool: str, mark: str) -> None:
    """The page with the message was written to the database's log, and synced after that."""
    writes = [
        call
        for call in within
        if call.name in ("pwrite64", "write") and call.file.startswith(spool)
        and call.file.endswith("-wal") and mark in call.arguments
    ]  # fmt: skip
    assert writes, "the message was not written to the spool before 250"
    syncs = [
        call
        for call in within
        if call.name in ("fsync", "fdatasync") and call.file == writes[0].file and call.result == 0
        and call.begun > writes[0].ended
    ]  # fmt: skip
    assert syncs, "250 came before the commit was synced"


def _check_body(before: list[trace.Call], spool: str) -> None:
    """The last body file was written, synced, and its folder too, before the last commit."""
    written = [
        call
        for call in before
        if call.name in ("write", "pwrite64", "writev") and call.file.startswith(spool)
        and not call.file.endswith(("-wal", "-shm", "-journal", ".db", ".sqlite"))
        and call.result > 1000
    ]  # fmt: skip
    assert written, "the large body is in no file"
    last = written[-1]
    folder = last.file.rsplit("/", 1)[0]
    synced = {
        name: max(
            (call.ended for call in before
             if call.name in ("fsync", "fdatasync") and call.file == name and call.result == 0),
            default=-1,
        )
        for name in (last.file, folder)
    }  # fmt: skip
    commit = max(
        call.begun
        for call in before
        if call.name in ("fsync", "fdatasync") and call.file.endswith("-wal")
    )
    assert last.ended < synced[last.file] < commit, "the body was not synced before the commit"
    assert last.begun < synced[folder] < commit, "the folder was not synced before the commit"

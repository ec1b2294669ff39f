"""What befalls processes besides their death: they hang, start late, lack descriptors."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real import machine, sandbox
from tests.real.chaos import greeting, workers_of
from tests.real.server import Server
from tests.real.sink import Sink
from tests.real.test_durability import Load

StartServer = Callable[..., Server]


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


@pytest.fixture
def server(start_server: StartServer, sink: Sink) -> Server:
    """Two workers, both of which serve."""
    server = start_server("workers.conf", T_LMTP=sink.socket, T_WORKERS="2")
    server.wait_for_log("daemon started", count=2)
    return server


def descriptors(pid: int) -> int:
    """How many files a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_worker_that_hangs(server: Server) -> None:
    """New connections are greeted by the other after some seconds; it goes on as if nothing was."""
    pids = workers_of(server)
    os.kill(pids[0], signal.SIGSTOP)
    try:
        time.sleep(7)
        assert max(greeting(server.smtp_port, 10) for _ in range(40)) < 2
    finally:
        os.kill(pids[0], signal.SIGCONT)
    assert max(greeting(server.smtp_port, 10) for _ in range(40)) < 2
    assert workers_of(server) == pids


def test_sighup_while_a_worker_starts(server: Server) -> None:
    """It serves the new configuration, as the others do."""
    text = server.configuration.read_text()
    before = set(workers_of(server))
    os.kill(min(before), signal.SIGKILL)
    machine.wait_until(lambda: set(workers_of(server)) - before, "the successor", step=0.001)
    server.configuration.write_text("smtp_banner = anew\n" + text)
    os.kill(server.pid, signal.SIGHUP)
    server.wait_for_log("daemon started", count=3)
    server.wait_for_log("configuration read anew", count=2)
    banners = {banner(server.smtp_port) for _ in range(20)}
    assert banners == {b"220 anew\r\n"}


def banner(port: int) -> bytes:
    """What a new connection is greeted with."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        return client.recv(100)


def limit_descriptors(pid: int, most: int) -> None:
    """Let a process have at most so many files open, as its own user may."""
    for program, package in (("setpriv", "util-linux"), ("prlimit", "util-linux")):
        machine.need(program, package)
    done = subprocess.run(
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
         "prlimit", "--pid", str(pid), f"--nofile={most}:"], capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_no_descriptors_to_be_had(server: Server, sink: Sink) -> None:
    """Sessions and deliveries fail for a while, a SIGHUP too; no process ends, nothing is lost."""
    machine.need_root("a limit of another user's process")
    pids = workers_of(server)
    load = Load(server.smtp_port, clients=4)
    machine.wait_until(lambda: len(load.answered) > 50, "some load")
    for pid in pids:
        limit_descriptors(pid, descriptors(pid) - 6)
    time.sleep(0.5)
    os.kill(server.pid, signal.SIGHUP)
    time.sleep(0.5)
    for pid in pids:
        limit_descriptors(pid, 2000)
    before = len(load.answered)
    machine.wait_until(lambda: len(load.answered) > before + 50, "load as before")
    load.stop()

    def missing() -> set[str]:
        return load.answered - set(sink.delivered) - set(sink.bounced)

    machine.wait_until(lambda: not missing(), "the queue to run empty", 60)
    assert workers_of(server) == pids


def test_nothing_is_left_open(server: Server) -> None:
    """Reloads and sessions leave no descriptor behind."""
    pids = [server.pid, *workers_of(server)]
    counts = []
    for _ in range(3):
        counts.append([descriptors(pid) for pid in pids])
        for _ in range(10):
            done = server.log().count("configuration read anew")
            os.kill(server.pid, signal.SIGHUP)
            server.wait_for_log("configuration read anew", count=done + 2)
            with server.client(tls=False) as client:
                client.sendmail("sender@x.example", ["good@x.example"], "Subject: x\r\n\r\nx\r\n")

    def as_before() -> bool:  # connections to the next hop are kept for a while, and then closed
        return all(descriptors(p) <= then + 4 for p, then in zip(pids, counts[1], strict=True))

    machine.wait_until(as_before, f"what was opened to be closed: {counts}", 120, step=0.5)


def test_the_log_folder_is_removed(server: Server, sink: Sink) -> None:
    """Mail goes on, and SIGUSR1 makes it anew."""
    log = server.folder / "log"
    log.rename(server.folder / "moved")
    os.kill(server.pid, signal.SIGUSR1)
    with server.client(tls=False) as client:
        client.sendmail("sender@x.example", ["good@x.example"], "X-Mark: on\r\n\r\nx\r\n")
    machine.wait_until(lambda: sink.delivered["on"], "the message")
    machine.wait_until(log.exists, "the folder")


def test_the_spool_folder_is_removed(start_server: StartServer, sink: Sink) -> None:
    """A message that could not be kept is not taken."""
    server = start_server("workers.conf", T_LMTP=sink.socket, T_WORKERS="1")
    server.wait_for_log("daemon started")
    spool: Path = server.folder / "spool" / "0"
    spool.rename(server.folder / "moved")
    with server.client(tls=False) as client:
        client.mail("sender@x.example")
        client.rcpt("good@x.example")
        assert client.data("X-Mark: none\r\n\r\nx\r\n")[0] == 451
        assert client.noop()[0] == 250
    assert not sink.delivered["none"]


def test_the_clock_is_set_back(start_server: StartServer, sink: Sink) -> None:
    """By an hour: what times out does so in its time, and mail goes on."""
    library = next(sandbox.unpacked("libfaketime").rglob("libfaketime.so.1"))
    now = sink.folder / "now"
    now.write_text("+0")
    faked = ("env", f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={now}",
             "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1")  # fmt: skip
    server = Server("workers.conf", {"T_LMTP": sink.socket, "T_WORKERS": "1"})
    try:
        text = server.configuration.read_text()
        server.configuration.write_text(
            "smtp_receive_timeout = 4s\nkeep_environment = ^FAKETIME\n" + text
        )
        server.prefix = faked
        server.start()
        server.wait_for_log("daemon started")
        with socket.create_connection(("127.0.0.1", server.smtp_port), 20) as silent:
            silent.recv(100)
            now.write_text("-3600")
            assert silent.recv(100).startswith(b"421 ")
        server.wait_for_log("the clock was set by -3600 seconds")
        with server.client(tls=False) as client:
            client.sendmail("sender@x.example", ["good@x.example"], "X-Mark: on\r\n\r\nx\r\n")
        machine.wait_until(lambda: sink.delivered["on"], "the message")
    finally:
        print(server.logged())
        server.close()

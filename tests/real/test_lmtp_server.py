"""mailsrv as an LMTP server: exim4, another mailsrv and swaks deliver to it."""

from __future__ import annotations

import os
import signal
import smtplib
from collections.abc import Callable, Iterator

import pytest

from tests.real import machine
from tests.real.exim import Exim
from tests.real.server import Server
from tests.real.sink import Sink
from tests.real.swaks import swaks

StartServer = Callable[..., Server]
MESSAGE = b"From: me@sender.example\nSubject: x\nX-Mark: m\n\n.\ntext\n"


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


def started(start_server: StartServer, sink: Sink, workers: int) -> Server:
    server = start_server("lmtp.conf", T_LMTP=sink.socket, T_WORKERS=str(workers))
    server.wait_for_log("daemon started", count=workers)
    return server


def arrived(sink: Sink) -> None:
    machine.wait_until(lambda: sink.delivered["m"] > 0, "the message")


@pytest.mark.parametrize("workers", [1, 2])
def test_exim_delivers_over_lmtp(start_server: StartServer, sink: Sink, workers: int) -> None:
    """One of three recipients is refused: it alone bounces at exim4, the others are here."""
    server = started(start_server, sink, workers)
    exim = Exim(server.submission_port, str(server.certificate), protocol="lmtp")
    try:
        exim.send(
            "me@sender.example", [f"{name}@example.org" for name in ("a", "nobody", "b")], MESSAGE
        )
        arrived(sink)
        log = exim.log()
        assert "=> a@example.org" in log and "b@example.org" in log, log
        assert "** nobody@example.org" in log and "5.1.1 no such user" in log, log
        assert log.count("250 2.0.0 OK id=") == 3, log  # the bounce has one, too
        assert " P=lmtps X=TLS1.3:" in server.log()
        assert "for a@example.org b@example.org" in server.log()
    finally:
        print(exim.log())
        exim.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_mailsrv_delivers_over_the_socket(
    start_server: StartServer, sink: Sink, workers: int
) -> None:
    """The socket is shared by all workers; it is gone when the server has ended."""
    server = started(start_server, sink, workers)
    path = server.folder / "lmtp"
    first = start_server("workers.conf", T_LMTP=path, T_WORKERS="1")
    with first.client(tls=False) as client:
        client.sendmail(
            "me@sender.example", ["a@example.org", "nobody@example.org"], MESSAGE.decode()
        )
    arrived(sink)
    first.wait_for_log("** nobody@example.org")
    assert "5.1.1 no such user" in first.log()
    assert "=> a@example.org" in first.log()
    assert " P=lmtp S=" in server.log()
    server.stop()
    assert not path.exists()


def test_swaks_speaks_lmtp(start_server: StartServer, sink: Sink) -> None:
    """Two recipients have two replies; EHLO is refused."""
    server = started(start_server, sink, 1)
    to = "a@example.org,b@example.org"
    done = swaks(server.submission_port, "--protocol", "LMTP", "--header", "X-Mark: m", to=to)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("<-  250 2.0.0 OK id=") == 2, done.stdout
    arrived(sink)
    done = swaks(server.submission_port, "--protocol", "ESMTP")
    assert "500 5.5.2 unrecognized command" in done.stdout


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_adds_and_removes(start_server: StartServer, sink: Sink, workers: int) -> None:
    """A port that spoke LMTP speaks SMTP; a socket comes, another goes."""
    server = started(start_server, sink, workers)
    text = server.configuration.read_text()
    text = text.replace("lmtp_ports = T_SUBMISSION\n", "")
    text = text.replace("= T_SMTP\n", "= T_SMTP : T_SUBMISSION\n")
    server.configuration.write_text(text.replace("T_FOLDER/lmtp\n", "T_FOLDER/other\n"))
    with smtplib.LMTP("127.0.0.1", server.submission_port) as kept:
        kept.ehlo("before")
        os.kill(server.pid, signal.SIGHUP)
        server.wait_for_log("configuration read anew", count=workers)
        assert kept.noop() == (250, b"2.0.0 OK")
    for _ in range(4):
        with server.client(server.submission_port, tls=False) as client:
            assert b"ENHANCEDSTATUSCODES" not in client.ehlo_resp
    machine.wait_until((server.folder / "other").exists, "the new socket")
    with smtplib.LMTP(str(server.folder / "other")) as client:
        assert client.ehlo("here")[0] == 250
    assert not (server.folder / "lmtp").exists()

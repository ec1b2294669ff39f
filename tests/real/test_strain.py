"""The server under strain: peers that hang, a disk that is full, much at once."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.real import machine
from tests.real.dovecot import Dovecot
from tests.real.server import Server
from tests.real.sink import Sink

StartDovecot = Callable[..., Dovecot]
StartServer = Callable[..., Server]
USERS = {"alice@example.org": "wonderland", "bob@example.org": "builder"}
MESSAGE = "Subject: strain\r\n\r\ntext\r\n"


@pytest.fixture
def dovecot(start_dovecot: StartDovecot) -> Dovecot:
    return start_dovecot(USERS)


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


def resident(pid: int) -> int:
    """The octets of memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.split("\n") if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def test_a_hundred_logins_at_once(start_server: StartServer, dovecot: Dovecot) -> None:
    """Each has its own answer: the right ones 235, the wrong ones 535."""
    server = start_server("dovecot.conf", T_AUTH=dovecot.auth_socket, T_LMTP=dovecot.lmtp_socket)

    def login(number: int) -> int:
        with server.client(server.submission_port) as client:
            try:
                code, _ = client.login("alice@example.org", "wrong" if number % 2 else "wonderland")
            except smtplib.SMTPAuthenticationError as refused:
                return refused.smtp_code
            return code

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(login, range(100))) == [235, 535] * 50


def test_ten_thousand_recipients_on_one_connection(start_server: StartServer, sink: Sink) -> None:
    """What is above ``recipients_max`` is 452, the others are served, nothing is slow."""
    server = start_server("dovecot.conf", T_AUTH="/nonexistent", T_LMTP=sink.socket)
    with server.client(tls=False) as client:
        client.mail("x@client.example")
        lines = b"".join(b"RCPT TO:<u%d@example.org>\r\n" % number for number in range(10_000))
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(client.sock.sendall, lines)
            codes = [client.getreply()[0] for _ in range(10_000)]
            sending.result()
        assert codes == [250] * 1000 + [452] * 9000
        assert client.data(MESSAGE)[0] == 250
    server.wait_for_log("Completed", 60)
    assert server.log().count(" => ") + server.log().count(" -> ") == 1000


def test_a_large_message_costs_no_memory(start_server: StartServer, sink: Sink) -> None:
    """Thirty megabytes go through, and the process stays about as large as it was."""
    server = start_server("durability.conf", T_LMTP=sink.socket)
    body = ("x" * 76 + "\r\n") * 400_000
    with server.client(tls=False) as client:
        before = resident(server.pid)
        client.sendmail(
            "x@client.example", ["good@x.example"], f"X-Mark: large\r\n\r\n{body}".encode()
        )
    server.wait_for_log("Completed", 60)
    assert sink.delivered["large"] == 1 and sink.sizes["large"] > len(body)
    assert resident(server.pid) - before < 15_000_000


def test_a_client_that_sends_an_octet_at_a_time(start_server: StartServer, sink: Sink) -> None:
    """It has its answers, and another client's message overtakes it."""
    server = start_server("durability.conf", T_LMTP=sink.socket)
    with socket.create_connection(("127.0.0.1", server.smtp_port), 20) as slow:
        slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert slow.recv(500).startswith(b"220 ")
        for octet in b"EHLO slow.exam":
            slow.send(bytes([octet]))
        with server.client(tls=False) as client:
            client.sendmail("x@client.example", ["good@x.example"], f"X-Mark: fast\r\n{MESSAGE}")
        for octet in b"ple\r\n":
            slow.send(bytes([octet]))
        assert slow.recv(500).startswith(b"250-")


def test_a_hanging_dovecot_costs_its_own_deliveries(
    start_server: StartServer, dovecot: Dovecot
) -> None:
    """Its LMTP and auth processes stand still: mail is taken meanwhile, and arrives later."""
    server = start_server("dovecot.conf", T_AUTH=dovecot.auth_socket, T_LMTP=dovecot.lmtp_socket)
    with server.client() as client:
        client.login("alice@example.org", "wonderland")
    dovecot.signal(signal.SIGSTOP)
    try:
        with server.client() as client:
            for _ in range(3):
                client.sendmail("x@client.example", ["bob@example.org"], MESSAGE)
            assert client.noop()[0] == 250
        assert server.command("-bpc").strip() == "3"
    finally:
        dovecot.signal(signal.SIGCONT)
    assert len(dovecot.wait_for("bob@example.org", 3, 60)) == 3


def test_a_full_disk_is_452_and_passes(start_server: StartServer, sink: Sink) -> None:
    """A small spool: a message is refused with 4xx when it is full, served when it is not."""
    machine.need_root("a small file system")
    disk = machine.folder("disk")
    made = machine.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=777", "none", disk])
    if made.returncode:
        machine.missing(f"no file system may be mounted: {made.stderr.decode()}")
    try:
        server = Server("durability.conf", {"T_LMTP": sink.socket})
        text = server.configuration.read_text()
        server.configuration.write_text(text.replace("T_FOLDER/spool", f"{disk}/spool") + "\n")
        try:
            server.start()
            server.wait_for_log("daemon started")  # the port is there before the spool is
            filler = disk / "filler"
            with filler.open("wb") as file, pytest.raises(OSError):
                for _ in range(20_000):
                    os.write(file.fileno(), b"x" * 4096)
            with server.client(tls=False) as client:
                large = f"X-Mark: full\r\n\r\n{('x' * 76 + chr(13) + chr(10)) * 10_000}"
                with pytest.raises(smtplib.SMTPResponseException) as refused:
                    client.sendmail("x@client.example", ["good@x.example"], large)
                assert 400 <= refused.value.smtp_code < 500
            filler.unlink()
            with server.client(tls=False) as client:
                client.sendmail(
                    "x@client.example", ["good@x.example"], f"X-Mark: after\r\n{MESSAGE}"
                )
            machine.wait_until(lambda: sink.delivered["after"] == 1, "the next message")
            assert not sink.delivered["full"]
            assert list((disk / "spool" / "0" / "bodies").iterdir()) == []
        finally:
            print(server.logged())
            server.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
        disk.rmdir()


def test_ipv6_and_tls_on_connect() -> None:
    """A port that speaks TLS from the first octet, and a listener on ::1."""
    server = Server("dovecot.conf", {"T_AUTH": "/nonexistent", "T_LMTP": "/nonexistent"})
    text = server.configuration.read_text().replace(
        "local_interfaces = 127.0.0.1",
        "local_interfaces = <; 127.0.0.1 ; ::1\ntls_on_connect_ports = T_SUBMISSION",
    )
    server.configuration.write_text(text)
    try:
        server.start()
        context = ssl.create_default_context(cafile=str(server.certificate))
        context.check_hostname = False
        for host in ("127.0.0.1", "::1"):
            with smtplib.SMTP_SSL(
                host, server.submission_port, "client.example", context=context, timeout=20
            ) as client:
                assert client.ehlo()[0] == 250
                assert client.has_extn("auth") and not client.has_extn("starttls")
    finally:
        print(server.logged())
        server.close()


def test_an_auth_socket_that_hangs_costs_only_its_logins(
    start_server: StartServer, sink: Sink
) -> None:
    """A login that nobody answers is 454 in the end; meanwhile mail goes on, and so does QUIT."""
    path = str(sink.folder / "silent")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        os.chmod(path, 0o666)
        silent.listen()
        server = start_server("dovecot.conf", T_AUTH=path, T_LMTP=sink.socket)
        with server.client(server.submission_port) as client, ThreadPoolExecutor(1) as pool:
            login = pool.submit(client.login, "alice@example.org", "wonderland")
            with server.client(tls=False) as other:
                other.sendmail("x@client.example", ["bob@example.org"], MESSAGE)
            server.wait_for_log("Completed")
            assert not login.done()
            refused = login.exception(60)
            assert isinstance(refused, smtplib.SMTPAuthenticationError)
            assert refused.smtp_code == 454
            assert client.noop()[0] == 250

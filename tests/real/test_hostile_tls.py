"""Peers that attack TLS: a next hop that lies around STARTTLS, clients that never finish it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto

from tests.net.authority import AUTHORITY
from tests.real import machine
from tests.real.server import Server
from tests.real.test_smarthost import send

END = b"\r\n.\r\n"


class NextHop:
    """A server that offers STARTTLS and then does what ``kind`` says; ``heard`` is what it got.

    Its certificate is right: what fails is its conduct.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.heard = b""
        self.folder = machine.folder("hop")
        self.authority = self.folder / "ca.pem"
        self.authority.write_bytes(AUTHORITY.pem)
        key = ec.generate_private_key(ec.SECP256R1())
        self._context = SSL.Context(SSL.SSLv23_METHOD)
        if kind == "renegotiates":
            self._context.set_options(SSL.OP_NO_TLSv1_3)
        certificate = AUTHORITY.sign(key, "localhost")
        self._context.use_certificate(crypto.X509.from_cryptography(certificate))
        self._context.use_privatekey(crypto.PKey.from_cryptography_key(key))
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=20)
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.close()
        shutil.rmtree(self.folder)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, SSL.Error):
            connection.settimeout(20)
            connection.sendall(b"220 hop\r\n")
            self._hear(connection, b"EHLO")
            if self.kind == "offers no TLS":
                connection.sendall(b"250-hop\r\n250 AUTH LOGIN PLAIN\r\n")
                self._hear(connection, b"never")
            connection.sendall(b"250-hop\r\n250 STARTTLS\r\n")
            self._hear(connection, b"STARTTLS")
            if self.kind == "refuses TLS":
                connection.sendall(b"454 not now\r\n")
                self._hear(connection, b"never")
            elif self.kind == "speaks before TLS":
                connection.sendall(b"220 go\r\n250-hop\r\n250 AUTH LOGIN\r\n")
            else:
                connection.sendall(b"220 go\r\n")
            if self.kind == "never shakes hands":
                time.sleep(20)
            elif self.kind == "shakes hands in clear":
                time.sleep(0.3)
                connection.sendall(b"250 hop\r\n" * 10)
                self._hear(connection, b"never")
            self._talk_tls(connection)

    def _talk_tls(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        secure = SSL.Connection(self._context, connection)
        secure.set_accept_state()
        secure.do_handshake()
        self._hear(secure, b"EHLO")
        secure.sendall(b"250-hop\r\n250 AUTH LOGIN\r\n")
        for prompt in (b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n", b"235 ok\r\n"):
            self._hear(secure, b"\r\n")
            secure.sendall(prompt)
        self._hear(secure, b"MAIL")
        secure.sendall(b"250 ok\r\n")
        self._hear(secure, b"RCPT")
        secure.sendall(b"250 ok\r\n")
        self._hear(secure, b"DATA")
        if self.kind == "renegotiates":
            secure.renegotiate()
            secure.do_handshake()
            secure.sendall(b"354 go on\r\n")
            time.sleep(20)
        secure.sendall(b"354 go on\r\n")
        if self.kind == "ends TLS":
            secure.shutdown()
            connection.sendall(b"250 taken, believe me\r\n")
            self._hear(connection, b"never")

    def _hear(self, connection: socket.socket | SSL.Connection, what: bytes) -> None:
        """Read until ``what`` has come with the rest of its line."""
        got = b""
        while what not in got or not got.endswith(b"\n"):
            data = connection.recv(4096)
            if not data:
                raise ConnectionResetError
            got += data
            self.heard += data


@pytest.fixture
def hop(request: pytest.FixtureRequest) -> Iterator[NextHop]:
    hop = NextHop(request.param)
    yield hop
    hop.close()


@pytest.mark.parametrize(
    ("hop", "why"),
    [
        ("offers no TLS", "a TLS session is required, but the server did not offer TLS support"),
        ("refuses TLS", "a TLS session is required"),
        ("speaks before TLS", "in clear after the reply to STARTTLS"),
        ("never shakes hands", "TLS session: timeout"),
        ("shakes hands in clear", "a TLS session is required, but an attempt to start TLS failed"),
        ("ends TLS", "closed connection"),
        ("renegotiates", ""),
    ],
    indirect=["hop"],
)
def test_a_lying_next_hop_defers(
    start_server: Callable[..., Server],
    hop: NextHop,
    why: str,
) -> None:
    """It gets neither password nor message in clear, nor is it believed; the queue keeps all."""
    server = start_server(
        "smarthost.conf",
        T_HOP=str(hop.port),
        T_AUTHORITY=hop.authority,
        T_LOGIN="secret",
        T_TIME="4s",
    )
    send(server)
    server.wait_for_log(" == you@elsewhere.example")
    assert why in server.log()
    assert " => " not in server.log() and not server.log("panic")
    assert server.command("-bpc").strip() == "1"
    if "TLS" in hop.kind and hop.kind != "ends TLS":
        assert b"AUTH" not in hop.heard and b"MAIL" not in hop.heard


def test_clients_that_never_finish_a_handshake(start_server: Callable[..., Server]) -> None:
    """They are cut off in time, and hold up nobody."""
    server = start_server("smarthost.conf", T_HOP="1", T_AUTHORITY="/nonexistent", T_RECEIVE="2s")
    with contextlib.ExitStack() as stack:
        stalled = []
        for octets in (
            b"",
            b"\x16\x03\x01\x02\x00",
            b"\x16\x03\x01\xff\xff" + bytes(9000),
            b"EHLO x\r\n",
        ):
            client = stack.enter_context(
                socket.create_connection(("127.0.0.1", server.smtp_port), 20)
            )
            client.recv(500)
            client.sendall(b"EHLO x\r\n")
            client.recv(2000)
            client.sendall(b"STARTTLS\r\n")
            assert client.recv(500).startswith(b"220 ")
            client.sendall(octets)
            stalled.append(client)
        with server.client() as other:
            assert other.noop()[0] == 250
        begun = time.monotonic()
        for client in stalled:
            with contextlib.suppress(ConnectionError):
                while client.recv(1000):
                    pass
        assert time.monotonic() - begun < 8
    assert not server.log("panic")

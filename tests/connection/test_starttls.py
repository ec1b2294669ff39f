"""Tests of STARTTLS with real TLS in memory, and of mailsrv.net.tls."""

import os
import subprocess

from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion.template import compile_string
from mailsrv.net.tls import KeyStore, ServerTls, TlsOptions
from tests.connection.server import Server


class Client(Protocol):
    def __init__(self) -> None:
        self.got = b""

    def dataReceived(self, data: bytes) -> None:
        self.got += data


class Wire(StringTransport):
    """One end of a connection in memory, with Twisted's real TLS above it after ``startTLS``."""

    def __init__(self, protocol: Protocol) -> None:
        super().__init__()
        self.above, self.other = protocol, self
        self.over = False

    def startTLS(self, context: object, normal: bool = True) -> None:
        factory = TLSMemoryBIOFactory(context, not normal, Factory())
        protocol = self.above
        self.above = TLSMemoryBIOProtocol(factory, protocol, False)
        protocol.transport = self.above
        self.above.makeConnection(self)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def deliver(self) -> bool:
        """Bring what was written to the other end; tell whether there was anything."""
        octets = self.value()
        self.clear()
        if octets and not self.other.over:
            self.other.above.dataReceived(octets)
        if self.disconnecting and not self.over:
            self.over = self.other.over = True
            for end in (self, self.other):
                end.above.connectionLost(Failure(ConnectionDone()))
        return bool(octets)


class StartTlsTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = os.path.abspath(self.mktemp())
        os.makedirs(folder)
        self.pem = os.path.join(folder, "cert.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-subj", "/CN=mx.example.com", "-days", "2", "-keyout", self.pem, "-out",
             self.pem + ".crt"], check=True, capture_output=True,
        )  # fmt: skip
        with open(self.pem + ".crt") as crt, open(self.pem, "a") as pem:
            pem.write(crt.read())

    def connect(self, certificate: str = "", **options: str) -> None:
        made = TlsOptions(tls_certificate=compile_string(certificate or self.pem))
        for name, value in options.items():
            setattr(made, name, compile_string(value))
        self.server = Server(tls=ServerTls(made, KeyStore()))
        self.server_side = self.server.factory.buildProtocol(None)
        self.client = Client()
        near, far = Wire(self.client), Wire(self.server_side)
        near.other, far.other = far, near
        self.near, self.far = near, far
        self.client.makeConnection(near)
        self.server_side.makeConnection(far)
        self.flush()

    def flush(self) -> None:
        while self.near.deliver() or self.far.deliver():
            pass

    def say(self, octets: bytes) -> bytes:
        self.client.got = b""
        self.client.transport.write(octets)
        self.flush()
        return self.client.got

    def start(self) -> None:
        self.assertIn(b"250-STARTTLS\r\n", self.say(b"EHLO c.example\r\n"))
        self.assertEqual(self.say(b"STARTTLS\r\n"), b"220 TLS go ahead\r\n")
        self.near.startTLS(ssl.CertificateOptions(), False)
        self.flush()

    def test_session_begins_anew(self) -> None:
        """After STARTTLS nothing said in clear counts, and TLS is not offered again."""
        self.connect()
        self.start()
        self.assertEqual(self.say(b"MAIL FROM:<a@b>\r\n"), b"503 HELO or EHLO required\r\n")
        self.assertNotIn(b"STARTTLS", self.say(b"EHLO c.example\r\n"))
        origin = self.server_side.dialogue.connection.origin
        self.assertEqual(origin.protocol, "esmtps")
        self.assertRegex(origin.tls_cipher, r"^TLS1\.[23]:[A-Z0-9_-]+:[0-9]+$")
        self.say(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
        self.assertIn(b"250 OK id=", self.say(b"A: b\r\n\r\nx\r\n.\r\n"))

    def test_injection(self) -> None:
        """Octets in clear behind STARTTLS end the session; none of them is run."""
        self.connect()
        self.say(b"EHLO c.example\r\n")
        self.assertEqual(self.say(b"STARTTLS\r\nRSET\r\n"), b"554 SMTP synchronization error\r\n")

    def test_half_line_in_clear(self) -> None:
        self.connect()
        self.say(b"EHLO c.example\r\n")
        self.assertEqual(self.say(b"STARTTLS\r\nRS"), b"554 SMTP synchronization error\r\n")

    def test_misconfigured(self) -> None:
        """A certificate that cannot be used: 454 and a log line; the session goes on."""
        self.connect("/nonexistent/cert.pem")
        self.say(b"EHLO c.example\r\n")
        self.assertEqual(self.say(b"STARTTLS\r\n"), b"454 TLS currently unavailable\r\n")
        self.assertTrue(any("TLS error" in text for _, text in self.server.log.events))
        self.assertEqual(self.say(b"NOOP\r\n"), b"250 OK\r\n")

    def test_close_notify_within_bdat(self) -> None:
        """The end of TLS within a chunk is a lost connection: nothing is kept, nothing is run."""
        self.connect()
        self.start()
        self.say(b"EHLO c.example\r\n")
        self.say(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n")
        self.say(b"BDAT 100 LAST\r\nA: b\r\n\r\nhalf")
        self.client.transport.loseConnection()
        self.flush()
        self.assertEqual((self.server.spool.messages, self.server.spool.open), ([], 0))

    def test_cipher_string(self) -> None:
        self.connect(tls_require_ciphers="HIGH:!MD5:!SHA1:!SHA2")
        self.say(b"EHLO c.example\r\n")
        self.assertEqual(self.say(b"STARTTLS\r\n")[:4], b"220 ")

    def test_kept_and_renewed(self) -> None:
        """A context is kept until a file changes."""
        self.connect()
        tls = self.server.parts.tls
        scope = self.server.parts.scope(self.server_side.dialogue.connection)

        def context() -> SSL.Context:
            try:
                tls.context(scope).send(None)
            except StopIteration as done:
                return done.value._context

        first = context()
        self.assertIs(context(), first)
        os.utime(self.pem, (1, 1))
        self.assertIsNot(context(), first)

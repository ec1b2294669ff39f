"""A server and a client with real TLS between them, in memory."""

import os
import subprocess

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


class TlsCase(SynchronousTestCase):
    """Each test has a certificate in ``self.pem``; ``connect`` makes the two ends."""

    def setUp(self) -> None:
        folder = os.path.abspath(self.mktemp())
        os.makedirs(folder)
        self.folder = folder
        self.pem = self.certificate("mx.example.com")

    def certificate(self, name: str) -> str:
        """Make a key with a certificate that it signed itself; return the path of both."""
        path = os.path.join(self.folder, name + ".pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-subj", f"/CN={name}", "-days", "2", "-keyout", path, "-out",
             path + ".crt"], check=True, capture_output=True,
        )  # fmt: skip
        with open(path + ".crt") as crt, open(path, "a") as pem:
            pem.write(crt.read())
        return path

    def connect(self, certificate: str = "", **options: str) -> None:
        made = TlsOptions(tls_certificate=compile_string(certificate or self.pem))
        for name, value in options.items():
            setattr(made, name, compile_string(value))
        self.server = Server(tls=ServerTls(made, KeyStore()))
        self.reconnect()

    def reconnect(self) -> None:
        """Make another connection to the same server."""
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

    def start(self, context: object = None) -> None:
        """Say STARTTLS and shake hands; ``context`` is the client's."""
        self.assertIn(b"250-STARTTLS\r\n", self.say(b"EHLO c.example\r\n"))
        self.assertEqual(self.say(b"STARTTLS\r\n"), b"220 TLS go ahead\r\n")
        self.near.startTLS(context or ssl.CertificateOptions(), False)
        self.flush()

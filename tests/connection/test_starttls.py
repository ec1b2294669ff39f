"""Tests of STARTTLS with real TLS in memory, and of mailsrv.net.tls."""

import contextlib
import os
import ssl as stdlib_ssl
from itertools import product
from unittest import mock

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.template import compile_string
from mailsrv.expansion.tree import drive
from mailsrv.mail.origin import Origin
from mailsrv.net import tls as net_tls
from mailsrv.net.tls import KeyStore, ServerStart, ServerTls, TlsOptions
from tests.connection.test_hostile import BARE, HARMLESS, cuts
from tests.connection.tls import TlsCase
from tests.net.authority import AUTHORITY


class StartTlsTests(TlsCase):
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

    def test_sni(self) -> None:
        """The certificate may depend on the name that the client asks for."""
        other = self.certificate("b.example")
        self.connect(f"${{if eq{{$tls_in_sni}}{{b.example}}{{{other}}}{{{self.pem}}}}}")
        for name, expected in ((b"b.example", "b.example"), (b"\\", "mx.example.com")):
            self.reconnect()
            self.start(_Asking(name))
            peer = self.client.transport.getPeerCertificate()
            self.assertEqual(peer.get_subject().CN, expected)
            self.assertEqual(self.server_side.dialogue.connection.origin.tls_sni, name.decode())

    def test_curve(self) -> None:
        for curve, reply in (("auto", b"220"), ("prime256v1", b"220"), ("nonsense", b"454")):
            self.connect(tls_eccurve=curve)
            self.say(b"EHLO c.example\r\n")
            self.assertEqual(self.say(b"STARTTLS\r\n")[:3], reply, curve)

    def test_smuggling(self) -> None:
        """Inside TLS too, nothing but CRLF.CRLF ends a message, however it is cut."""
        self.connect()
        self.start()
        self.say(b"EHLO c.example\r\n")
        spool = self.server.spool.messages
        for sequence, chunked in product(BARE + HARMLESS, (False, True)):
            text = b"A: b\r\n\r\nx" + sequence + b"MAIL FROM:<evil@x>\r\n"
            octets = text if chunked else text + b".\r\n"
            for pieces in cuts(octets):
                spool.clear()
                self.say(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n")
                self.say(b"BDAT %d LAST\r\n" % len(octets) if chunked else b"DATA\r\n")
                reply = b"".join(self.say(piece) for piece in pieces)
                bad = sequence in BARE
                self.assertTrue(reply.startswith(b"550 " if bad else b"250"), (sequence, reply))
                self.assertEqual(len(spool), not bad)


@implementer(IOpenSSLClientConnectionCreator)
class _Asking:
    """A client that names the server that it wants."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        connection = SSL.Connection(SSL.Context(SSL.SSLv23_METHOD), None)
        connection.set_tlsext_host_name(self._name)
        return connection


class ClientCertificateTests(TlsCase):
    def shake(self, with_certificate: bool, **options: str) -> bool:
        """Connect; tell whether the session goes on after the handshake."""
        own = self.certificate("client.example")
        self.connect(tls_verify_certificates=own + ".crt", **options)
        context = SSL.Context(SSL.SSLv23_METHOD)
        if with_certificate:
            context.use_certificate_file(own)
            context.use_privatekey_file(own)
        self.start(_Given(context))
        return self.say(b"EHLO c.example\r\n").startswith(b"250")

    def origin(self) -> object:
        return self.server_side.dialogue.connection.origin

    def test_demanded(self) -> None:
        self.assertTrue(self.shake(True, tls_verify_hosts="*"))
        self.assertIs(self.origin().tls_certificate_verified, True)
        self.assertEqual(self.origin().tls_peer_dn, "CN=client.example")
        self.assertFalse(self.shake(False, tls_verify_hosts="*"))

    def test_asked_for(self) -> None:
        self.assertTrue(self.shake(True, tls_try_verify_hosts="*"))
        self.assertIs(self.origin().tls_certificate_verified, True)
        self.assertTrue(self.shake(False, tls_try_verify_hosts="*"))
        self.assertIs(self.origin().tls_certificate_verified, False)

    def test_of_nobody_we_know(self) -> None:
        """A certificate that does not verify: refused where it must, noted where it may."""
        stranger = self.certificate("stranger.example")
        for option, goes_on in (("tls_try_verify_hosts", True), ("tls_verify_hosts", False)):
            self.connect(tls_verify_certificates=self.pem + ".crt", **{option: "*"})
            context = SSL.Context(SSL.SSLv23_METHOD)
            context.use_certificate_file(stranger)
            context.use_privatekey_file(stranger)
            self.start(_Given(context))
            self.assertIs(self.say(b"EHLO c.example\r\n").startswith(b"250"), goes_on)
            self.assertIs(self.origin().tls_certificate_verified, False)

    def test_revoked(self) -> None:
        """tls_crl: who is on the list is refused; a list that is not there is no licence."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = AUTHORITY.sign(key, "client.example")
        context = SSL.Context(SSL.SSLv23_METHOD)
        context.use_certificate(crypto.X509.from_cryptography(certificate))
        context.use_privatekey(crypto.PKey.from_cryptography_key(key))
        believed = {
            "tls_verify_hosts": "*",
            "tls_verify_certificates": self.write("ca.pem", AUTHORITY.pem),
        }
        for serial in (certificate.serial_number, 1):
            crl = self.write("crl.pem", AUTHORITY.revoke(serial))
            self.connect(tls_crl=crl, **believed)
            self.start(_Given(context))
            goes_on = self.say(b"EHLO c.example\r\n").startswith(b"250")
            self.assertIs(goes_on, serial == 1)
        self.connect(tls_crl="/nonexistent", **believed)
        self.say(b"EHLO c.example\r\n")
        self.assertTrue(self.say(b"STARTTLS\r\n").startswith(b"454 "))

    def write(self, name: str, octets: bytes) -> str:
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.write(octets)
        return path

    def test_not_asked_for(self) -> None:
        self.assertTrue(self.shake(True))
        self.assertIs(self.origin().tls_certificate_verified, False)

    def test_a_resumed_session_verifies_nobody(self) -> None:
        """A stranger is not verified by coming back with the session (or a ticket)."""
        stranger = self.certificate("stranger.example")
        options = TlsOptions(
            tls_certificate=compile_string(self.pem),
            tls_try_verify_hosts=compile_string("*"),
            tls_verify_certificates=compile_string(self.pem + ".crt"),
        )
        server = ServerTls(options, KeyStore())
        services = Services(clock=Clock(), settings={}, lookup=lambda name: None)
        for version in (stdlib_ssl.TLSVersion.TLSv1_2, stdlib_ssl.TLSVersion.TLSv1_3):
            client = stdlib_ssl.SSLContext(stdlib_ssl.PROTOCOL_TLS_CLIENT)
            client.check_hostname, client.verify_mode = False, stdlib_ssl.CERT_NONE
            client.minimum_version = client.maximum_version = version
            client.load_cert_chain(stranger + ".crt", stranger)
            session = None
            for _ in range(2):
                scope = Scope(services, origin=Origin(host_address="::1"))
                start = drive(server.context(scope))
                session = _handshake(start, client, session)
                self.assertIs(start.verified, False, version)


def _handshake(start: ServerStart, client: stdlib_ssl.SSLContext, session: object) -> object:
    """Shake hands in memory; return the client's session, to come back with."""
    server = start.serverConnectionForTLS(None)
    server.set_accept_state()
    to_client, to_server = stdlib_ssl.MemoryBIO(), stdlib_ssl.MemoryBIO()
    peer = client.wrap_bio(to_client, to_server, session=session)
    for _ in range(6):
        with contextlib.suppress(stdlib_ssl.SSLWantReadError):
            peer.do_handshake()
        if octets := to_server.read():
            server.bio_write(octets)
        with contextlib.suppress(SSL.WantReadError):
            server.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            to_client.write(server.bio_read(65536))
    server.send(b"hi")
    to_client.write(server.bio_read(65536))
    assert peer.read(2) == b"hi"
    return peer.session


class _Given:
    """A context as ``startTLS`` takes it on the client's side."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def getContext(self) -> SSL.Context:
        return self._context


class KeyStoreTests(SynchronousTestCase):
    def test_kept_for_when_root_is_gone(self) -> None:
        """A file that may no longer be read is as it was; one that never could is an error."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("key")
        keys = KeyStore()
        failures = keys.preload([path, path + ".missing"])
        self.assertEqual([error.filename for error in failures], [path + ".missing"])
        with mock.patch.object(net_tls, "_read", side_effect=PermissionError):
            self.assertEqual(keys.read(path), b"key")
            self.assertRaises(PermissionError, keys.read, path + ".missing")
        with open(path, "w") as file:
            file.write("renewed")
        self.assertEqual(keys.read(path), b"renewed")
        os.unlink(path)
        self.assertRaises(FileNotFoundError, keys.read, path)

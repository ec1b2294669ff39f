"""Items and conditions that ask somebody else: readsocket, saslauthd, pam; and certificates."""

from __future__ import annotations

import datetime
import hashlib
import os
import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion import conditions_services, items_socket
from mailsrv.expansion.errors import ExpansionError
from mailsrv.mail.connection import Connection, PeerCertificate
from mailsrv.mail.origin import Origin
from mailsrv.mail.taint import Tainted
from tests.expansion.setting import expand, failure, make_scope

DAY = 86400
NOW = 20784 * DAY


def a_certificate() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
            x509.NameAttribute(NameOID.COMMON_NAME, "mx.example"),
        ]
    )
    names = [x509.DNSName("mx.example"), x509.RFC822Name("a@b.example"), x509.DNSName("b.example")]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(0x1234)
        .not_valid_before(datetime.datetime(2026, 1, 2, 3, 4, 5))
        .not_valid_after(datetime.datetime(2036, 1, 2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made, key


class ServicesTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.connection = Connection(Origin())
        self.scope = make_scope(connection=self.connection, origin=self.connection.origin)
        self.clock: Any = self.scope.services.clock
        self.clock.rightNow = NOW

    def value(self, text: str) -> str:
        return expand(text, self.scope)

    def serve(self, answer: Callable[[socket.socket], None], family: int = socket.AF_UNIX) -> str:
        """Answer one peer in a thread; returns where."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        path = os.path.join(folder, "s")
        listening = socket.socket(family)
        listening.bind(path if family == socket.AF_UNIX else ("127.0.0.1", 0))
        listening.listen(1)
        listening.settimeout(20)

        def run() -> None:
            peer, _ = listening.accept()
            with listening, peer:
                peer.settimeout(20)
                answer(peer)

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join, 30)
        if family == socket.AF_UNIX:
            return path
        return f"inet:127.0.0.1:{listening.getsockname()[1]}"


def echo(peer: socket.socket) -> None:
    said = b""
    while piece := peer.recv(1000):
        said += piece
    peer.sendall(b"<" + said + b">\nmore\n")


class SocketTests(ServicesTestCase):
    def test_answers(self) -> None:
        path = self.serve(echo)
        self.assertEqual(self.value(f"${{readsocket{{{path}}}{{ab}}}}"), "<ab>\nmore\n")

    def test_lines_are_joined(self) -> None:
        name = self.serve(echo, socket.AF_INET)
        self.assertEqual(self.value(f"${{readsocket{{{name}}}{{x}}{{3s}}{{+}}}}"), "<x>+more+")

    def test_no_shutdown(self) -> None:
        path = self.serve(lambda peer: peer.sendall(peer.recv(10).upper()))
        self.assertEqual(self.value(f"${{readsocket{{{path}}}{{ab}}{{3s:shutdown=no}}}}"), "AB")

    def test_nobody_answers(self) -> None:
        ended = threading.Event()
        self.addCleanup(ended.set)
        path = self.serve(lambda peer: bool(ended.wait(20)) and None)
        with mock.patch.object(items_socket, "monotonic", side_effect=[0, 0, 100]):
            reason = failure(f"${{readsocket{{{path}}}{{}}{{1s}}}}", self.scope)
        self.assertEqual(reason, "socket read timed out")
        ended.set()

    def test_instead_of_an_answer(self) -> None:
        text = "${readsocket{/nonexistent/x}{a}{1s}{}{no ${uc:luck}}}"
        self.assertEqual(self.value(text), "no LUCK")

    def test_tls(self) -> None:
        certificate, key = a_certificate()
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        pem += key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)

        def answer(peer: socket.socket) -> None:
            with context.wrap_socket(peer, server_side=True) as secure:
                secure.sendall(secure.recv(10)[::-1])

        name = self.serve(answer, socket.AF_INET)
        self.assertEqual(self.value(f"${{readsocket{{{name}}}{{abc}}{{3s:tls=yes}}}}"), "cba")

    def test_a_peer_chooses_no_socket(self) -> None:
        self.scope = self.scope.within({"value": Tainted("/tmp/x")})
        self.assertIn("tainted", failure("${readsocket{$value}{a}}", self.scope))
        self.scope = self.scope.within({"value": Tainted("localhost")})
        self.assertIn("tainted", failure("${readsocket{inet:$value:1}{a}}", self.scope))


class SaslauthdTests(ServicesTestCase):
    def ask(self, answer: bytes) -> str:
        heard: list[bytes] = []

        def judge(peer: socket.socket) -> None:
            heard.extend(peer.recv(int.from_bytes(peer.recv(2), "big")) for _ in range(4))
            peer.sendall(answer)

        path = self.serve(judge)
        with mock.patch.object(conditions_services, "SASLAUTHD", path):
            said = self.value("${if saslauthd{{joe}{s:e}{}{r}}{yes}{no}}")
        self.assertEqual(heard, [b"joe", b"s:e", b"exim", b"r"])
        return said

    def test_judgement(self) -> None:
        self.assertEqual(self.ask(b"\0\2OK"), "yes")
        self.assertEqual(self.ask(b"\0\12NO nothing"), "no")

    def test_garbage(self) -> None:
        self.assertRaises(ExpansionError, self.ask, b"\0\1")

    def test_pam_without_its_package(self) -> None:
        with mock.patch.dict("sys.modules", {"pam": None}):
            self.assertIn("python-pam", failure("${if pam{a:b}{yes}{no}}", self.scope))

    def test_pam(self) -> None:
        library = mock.Mock()
        library.pam().authenticate = lambda user, password, service: (user, password) == ("a", "b:")
        with mock.patch.dict("sys.modules", {"pam": library}):
            self.assertEqual(self.value("${if pam{a:b::}{yes}{no}}"), "yes")
            self.assertEqual(self.value("${if pam{a:c}{yes}{no}}"), "no")


class CertificateTests(ServicesTestCase):
    def setUp(self) -> None:
        super().setUp()
        certificate, _ = a_certificate()
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.pem = pem.decode("ascii")
        self.connection.peer_certificate = PeerCertificate(self.pem)
        self.digest = certificate.fingerprint(hashes.SHA256()).hex().upper()

    def field(self, name: str) -> str:
        return self.value(f"${{certextract{{{name}}}{{$tls_in_peercert}}{{$value}}{{none}}}}")

    def test_fields(self) -> None:
        for name, wanted in (
            ("version", "3"),
            ("serial_number", "1234"),
            ("subject", "CN=mx.example,O=Example"),
            ("issuer,O", "Example"),
            ("notbefore,int", "1767323045"),
            ("subj_altname", "DNS=mx.example\nMAIL=a@b.example\nDNS=b.example"),
            ("subj_altname,dns,>:", "mx.example:b.example"),
            ("ocsp_uri", "none"),
            ("crl_uri", "none"),
            ("nosuch", "none"),
            ("sig_algorithm", "ecdsa-with-SHA256"),
        ):
            self.assertEqual(self.field(name), wanted, name)

    def test_fingerprint(self) -> None:
        self.assertEqual(self.value("${sha256:$tls_in_peercert}"), self.digest)

    def test_text_that_looks_like_one(self) -> None:
        """What a peer writes is text, whether it can be read as a certificate or not."""
        for text in (self.pem, "-----BEGIN CERTIFICATE-----\n x"):
            self.scope = self.scope.within({"value": Tainted(text)})
            right = hashlib.md5(text.encode("ascii")).hexdigest()
            self.assertEqual(self.value("${md5:$value}"), right)

    def test_none(self) -> None:
        self.connection.peer_certificate = None
        self.assertEqual(self.field("subject"), "none")


class ResultsTests(ServicesTestCase):
    def test_what_is_known(self) -> None:
        origin = self.connection.origin
        self.assertEqual(self.value("${authresults{mx}}"), "Authentication-Results: mx")
        origin.host_address, self.connection.host_lookup_failed = "192.0.2.1", True
        origin.authenticator, origin.authenticated_id = "plain", "joe"
        self.connection.mechanism = "PLAIN"
        self.assertEqual(
            self.value("${authresults{mx}}"),
            "Authentication-Results: mx;\n\tiprev=fail smtp.remote-ip=192.0.2.1"
            ";\n\tauth=pass (PLAIN) smtp.auth=joe",
        )
        origin.authenticated_id = "joe\r\nX-Spam: no"
        self.assertTrue(self.value("${authresults{mx}}").endswith("=joe??X-Spam: no"))
        origin.host_name = "h.example"
        self.assertIn(";\n\tiprev=pass (h.example) smtp", self.value("${authresults{mx}}"))


class SrsTests(ServicesTestCase):
    """The strings are exim4's answers of day 20784."""

    def test_encode(self) -> None:
        for sender, wanted in (
            ("user@origin.example", "SRS0=41b5=jq=origin.example=user@our.example"),
            ('"a b"@c', '"SRS0=0034=jq=c=a b"@our.example'),
            ("user", "SRS0=0cf4=jq==user@our.example"),
            ("", ""),
        ):
            text = f"${{srs_encode{{secret}}{{{sender}}}{{our.example}}}}"
            self.assertEqual(self.value(text), wanted)

    def decode(self, local_part: str, secret: str = "secret") -> str:
        text = f"${{if inbound_srs{{{local_part}}}{{{secret}}}{{$srs_recipient}}{{no}}}}"
        return self.value(text)

    def test_decode(self) -> None:
        good = "SRS0=41b5=jq=origin.example=user"
        self.assertEqual(self.decode(good), "user@origin.example")
        self.assertEqual(self.decode("SRS0=0034=jq=c=a b"), '"a b"@c')
        self.assertEqual(self.decode(good, "another"), "no")
        self.assertEqual(self.decode(good.replace("jq", "JQ")), "no")
        self.assertEqual(self.decode("SRS1=41b5=jq=origin.example=user"), "no")
        self.assertEqual(self.decode("srs0=x=aa=c=d", ""), "d@c")
        self.clock.advance(10 * DAY)
        self.assertEqual(self.decode(good), "user@origin.example")
        self.clock.advance(DAY)
        self.assertEqual(self.decode(good), "no")

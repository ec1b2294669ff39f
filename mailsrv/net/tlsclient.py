"""TLS of the SMTP client, made from the ``smtp`` transport's options (specification 30.4, 43.12).

A :class:`ClientStart` is the TLS of one connection: it starts it, and afterwards tells
what came of it.  Contexts are kept by the options' values and the files' times.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from mailsrv.errors import TemporaryFailure
from mailsrv.mail.taint import Tainted, tainted
from mailsrv.net.hosts import is_ip
from mailsrv.net.tls import KeyStore, read_certificates, revoke, set_ciphers

_MOST_CONTEXTS = 256


class TlsRefused(Exception):
    """The session that TLS made is not one to be used: the certificate bears no right name."""


@dataclass(frozen=True, slots=True)
class TlsWanted:
    """The expanded options of one connection; "" = not set.

    ``try_verify`` verifies without consequences; ``verify`` refuses what cannot be verified.
    ``names`` are those of which the certificate must bear one; () checks no name.
    """

    certificate: str = ""
    key: str = ""
    ciphers: str = ""
    authorities: str = "system"
    verify: bool = False
    try_verify: bool = True
    names: tuple[str, ...] = ()
    sni: str = ""
    alpn: tuple[str, ...] = ()
    require_alpn: bool = False  # the server must agree to one of alpn
    revoked: str = ""  # file of revocation lists

    @property
    def context(self) -> tuple[object, ...]:
        """What a context depends on."""
        return (
            self.certificate,
            self.key,
            self.ciphers,
            self.authorities,
            self._mode,
            self.alpn,
            self.revoked,
        )

    @property
    def _mode(self) -> int:
        return 2 if self.verify else 1 if self.try_verify else 0


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What a handshake brought: ``cipher`` as X= of the log has it."""

    cipher: str
    bits: int
    verified: bool
    peer_dn: str = ""


class ClientTls:
    """Makes and keeps contexts of the client."""

    def __init__(self, keys: KeyStore | None = None) -> None:
        self._keys = keys or KeyStore()
        self._contexts: dict[tuple[object, ...], SSL.Context] = {}

    def start(self, wanted: TlsWanted) -> ClientStart:
        """Return the TLS of one connection.

        :raises TemporaryFailure: a certificate, key, cipher or authority cannot be used.
        """
        files = (wanted.certificate, wanted.key, wanted.authorities, wanted.revoked)
        times = [_changed(path) for path in files]
        key = (wanted.context, *times)
        context = self._contexts.get(key)
        if context is None:
            try:
                context = self._make(wanted)
            except (OSError, SSL.Error, crypto.Error, ValueError, TypeError) as error:
                raise TemporaryFailure(reason=f"TLS client cannot be set up: {error}") from error
            while len(self._contexts) >= _MOST_CONTEXTS:
                del self._contexts[next(iter(self._contexts))]
            self._contexts[key] = context
        return ClientStart(context, wanted)

    def _make(self, wanted: TlsWanted) -> SSL.Context:
        context = SSL.Context(SSL.SSLv23_METHOD)
        flags = SSL.OP_NO_SSLv2 | SSL.OP_NO_SSLv3 | SSL.OP_NO_TLSv1 | SSL.OP_NO_TLSv1_1
        flags |= SSL.OP_NO_COMPRESSION | getattr(SSL, "OP_NO_RENEGOTIATION", 0x40000000)
        context.set_options(flags)
        if wanted.certificate:
            self._identify(context, wanted)
        if wanted.ciphers:
            set_ciphers(context, wanted.ciphers)
        if wanted.alpn:
            context.set_alpn_protos([name.encode("latin-1") for name in wanted.alpn])
        if wanted.verify or wanted.try_verify:
            _trust(context, wanted.authorities)
            if wanted.revoked:
                revoke(context, wanted.revoked)
            # The answer is ours to give: what may fail is noted, and goes on.
            context.set_verify(SSL.VERIFY_PEER, _judge)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        return context

    def _identify(self, context: SSL.Context, wanted: TlsWanted) -> None:
        """Use our own certificate."""
        key = wanted.key or wanted.certificate
        for path in (wanted.certificate, key):
            if isinstance(path, Tainted) or not path.startswith("/"):
                raise ValueError(f"{path!r} is no absolute path of the configuration's own")
        chain = read_certificates(self._keys.read(wanted.certificate))
        context.use_certificate(chain[0])
        for further in chain[1:]:
            context.add_extra_chain_cert(further)
        pem = self._keys.read(key)
        context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, pem, b""))
        context.check_privatekey()


def _trust(context: SSL.Context, authorities: str) -> None:
    """Trust the system's authorities, and those of a file or folder."""
    context.set_default_verify_paths()
    if authorities in ("", "system"):
        return
    if isinstance(authorities, Tainted) or not authorities.startswith("/"):
        raise ValueError(f"{authorities!r} is no absolute path of the configuration's own")
    if os.path.isdir(authorities):
        context.load_verify_locations(None, authorities)
    else:
        with open(authorities, "rb"):  # its absence is told by name
            pass
        context.load_verify_locations(authorities)


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns if path.startswith("/") else 0
    except OSError:
        return 0


@implementer(IOpenSSLClientConnectionCreator)
class ClientStart:
    """The TLS of one connection, as ``startTLS`` takes it."""

    def __init__(self, context: SSL.Context, wanted: TlsWanted) -> None:
        self._context = context
        self.wanted = wanted
        self._fault = ""
        self._seen = False

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Make the connection object; OpenSSL's callback finds us by it."""
        connection = SSL.Connection(self._context, None)
        if self.wanted.sni and not is_ip(self.wanted.sni):
            connection.set_tlsext_host_name(self.wanted.sni.encode("latin-1"))
        connection.set_connect_state()
        _starts[connection] = self
        return connection

    def judged(self, ok: bool, error: int, depth: int) -> bool:
        """Note OpenSSL's judgement of a certificate; tell whether the handshake may go on."""
        self._seen = True
        if not ok:
            self._fault = self._fault or f"{_why(error)} (depth {depth})"
        return ok or not self.wanted.verify

    @property
    def fault(self) -> str:
        """Why the certificate was not verified; "" if it was, or nobody tried."""
        return self._fault

    def facts(self, connection: Any) -> TlsFacts:
        """Judge a handshake that is done.

        :raises TlsRefused: no name fits, and the certificate must be verified.
        """
        if self.wanted.require_alpn and not connection.get_alpn_proto_negotiated():
            raise TlsRefused("no application protocol (ALPN) was agreed to")
        certificate = connection.get_peer_certificate()
        if certificate is None:
            self._fault = self._fault or "the server has no certificate"
        elif self._seen and not self._fault and self.wanted.names:
            self._fault = _misnamed(connection, self.wanted.names)
        if self.wanted.verify and (self._fault or not self._seen):
            raise TlsRefused(self._fault or "the certificate was not verified")
        version = _VERSIONS.get(name := connection.get_protocol_version_name(), name)
        bits = connection.get_cipher_bits() or 0
        return TlsFacts(
            f"{version}:{connection.get_cipher_name()}:{bits}",
            bits,
            self._seen and not self._fault,
            _dn(certificate.get_subject().get_components()) if certificate is not None else "",
        )


_VERSIONS = {"TLSv1": "TLS1.0", "TLSv1.1": "TLS1.1", "TLSv1.2": "TLS1.2", "TLSv1.3": "TLS1.3"}
_starts: WeakKeyDictionary[SSL.Connection, ClientStart] = WeakKeyDictionary()


def _judge(connection: SSL.Connection, _cert: Any, error: int, depth: int, ok: int) -> bool:
    start = _starts.get(connection)
    return start is not None and start.judged(bool(ok), error, depth)


def _dn(components: Sequence[tuple[bytes, bytes]]) -> str:
    return tainted(b",".join(b"%s=%s" % item for item in reversed(components)))


def _misnamed(connection: SSL.Connection, names: Sequence[str]) -> str:
    """Return the fault of a certificate that bears none of ``names``, else ""."""
    if any(_bears(connection, name) for name in names):
        return ""
    return f"certificate name mismatch: it is not for {' or '.join(names)}"


def _bears(connection: SSL.Connection, name: str) -> bool:
    """Tell whether the peer's certificate is one of a host name or IP address (RFC 6125)."""
    try:
        (verify_ip_address if is_ip(name) else verify_hostname)(connection, name.rstrip("."))
    except (CertificateError, VerificationError, ValueError, UnicodeError):
        return False
    return True


_REASONS = {
    2: "unable to get issuer certificate",
    3: "unable to get certificate CRL",
    7: "certificate signature failure",
    9: "certificate is not yet valid",
    10: "certificate has expired",
    12: "CRL has expired",
    18: "self-signed certificate",
    19: "self-signed certificate in certificate chain",
    20: "unable to get local issuer certificate",
    21: "unable to verify the first certificate",
    22: "certificate chain too long",
    23: "certificate revoked",
    24: "invalid CA certificate",
    26: "unsupported certificate purpose",
}


def _why(error: int) -> str:
    """Return OpenSSL's text of a verification error."""
    return _REASONS.get(error, f"verification error {error}")

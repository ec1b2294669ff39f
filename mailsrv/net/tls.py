"""TLS contexts of the server, made from Exim's options (specification chapter 43) with OpenSSL.

Options are expanded for each connection; contexts are kept by their values and
by the files' modification times, so that a renewed certificate is used by the
next connection.  ``tls_require_ciphers`` is OpenSSL's cipher string.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.lists import match_host
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import Template
from mailsrv.mail.connection import PeerCertificate
from mailsrv.mail.origin import Origin
from mailsrv.mail.taint import Tainted, tainted

_MOST_CONTEXTS = 256
_OPTIONS = {
    name.lower(): getattr(SSL, f"OP_{name}")
    for name in (
        "ALL", "CIPHER_SERVER_PREFERENCE", "NO_COMPRESSION", "NO_SSLv2", "NO_SSLv3", "NO_TICKET",
        "NO_TLSv1", "NO_TLSv1_1", "NO_TLSv1_2", "NO_TLSv1_3", "SINGLE_DH_USE", "SINGLE_ECDH_USE",
    )
    if hasattr(SSL, f"OP_{name}")
}  # fmt: skip
_SYSTEM = ("", "system")


class KeyStore:
    """Reads certificates and keys; what only root may read was read before root was given up."""

    def __init__(self, kept: Mapping[str, bytes] | None = None) -> None:
        self._kept: dict[str, bytes] = dict(kept or {})

    @property
    def kept(self) -> Mapping[str, bytes]:
        """What was read, by path: to be handed to another process."""
        return self._kept

    def preload(self, paths: Iterable[str]) -> list[OSError]:
        """Read files while we may; return why some could not be read.

        That is no error yet: a certificate may come later, and the connection
        that needs it reads it then.
        """
        failures = []
        for path in paths:
            try:
                self._kept[path] = _read(path)
            except OSError as error:
                failures.append(error)
        return failures

    def preload_templates(self, *templates: Template | None) -> list[OSError]:
        """Read the files of options that need no expansion; see :meth:`preload`."""
        return self.preload(t.constant for t in templates if t is not None and t.constant)

    def read(self, path: str) -> bytes:
        """Return a file's octets as they are now, or as they were if it may not be read now.

        :raises OSError: neither is possible.
        """
        try:
            return _read(path)
        except PermissionError:
            if path not in self._kept:
                raise
            return self._kept[path]


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@dataclass(slots=True)
class TlsOptions:
    """Main options about TLS, by Exim's names."""

    tls_certificate: Template | None = None
    tls_privatekey: Template | None = None
    tls_require_ciphers: Template | None = None
    tls_verify_hosts: Template | None = None
    tls_try_verify_hosts: Template | None = None
    tls_verify_certificates: Template | None = None
    tls_crl: Template | None = None
    tls_dhparam: Template | None = None
    tls_eccurve: Template | None = None
    openssl_options: str = ""

    @classmethod
    def from_options(cls, main: Any) -> TlsOptions:
        """Take the values of ``configuration.main``."""
        result = cls()
        for name in cls.__slots__:
            value = getattr(main, name, None)
            if value is not None:
                setattr(result, name, value)
        return result


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The expanded options of one connection: what a context is kept by."""

    certificate: str
    key: str
    ciphers: str
    verify: int
    authorities: str
    revoked: str
    dhparam: str
    curve: str


class ServerTls:
    """Makes and keeps contexts; provides ``IServerTls`` of the connection stage."""

    def __init__(self, options: TlsOptions, keys: KeyStore) -> None:
        self.options = options
        self._keys = keys
        self._contexts: dict[tuple[_Wanted, tuple[int, ...]], SSL.Context] = {}

    @property
    def configured(self) -> bool:
        """Tell whether a certificate is configured at all."""
        return self.options.tls_certificate is not None

    async def context(self, scope: Scope) -> ServerStart:
        """Return what ``startTLS`` takes, for one connection.

        :raises TemporaryFailure: no usable certificate, key or cipher; the reason says what.
        """
        options = self.options

        async def text(template: Template | None) -> str:
            return "" if template is None else await template.expand(scope)

        certificate = await text(options.tls_certificate)
        if not certificate:
            raise TemporaryFailure(reason="no certificate is configured (tls_certificate)")
        wanted = _Wanted(
            certificate,
            await text(options.tls_privatekey) or certificate,
            await text(options.tls_require_ciphers),
            await self._verify_mode(scope),
            await text(options.tls_verify_certificates),
            await text(options.tls_crl),
            await text(options.tls_dhparam),
            "auto" if options.tls_eccurve is None else await text(options.tls_eccurve),
        )
        return ServerStart(self, scope, wanted, self.kept(wanted))

    async def _verify_mode(self, scope: Scope) -> int:
        async def listed(hosts: Template | None) -> bool:
            if hosts is None or hosts.constant == "" or scope.origin is None:
                return False
            if hosts.constant is not None and hosts.constant.strip(" ") == "*":
                return True
            return await match_host(hosts, scope.origin, scope) is not None

        if await listed(self.options.tls_verify_hosts):
            return int(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
        if await listed(self.options.tls_try_verify_hosts):
            return int(SSL.VERIFY_PEER)
        return int(SSL.VERIFY_NONE)

    def kept(self, wanted: _Wanted) -> SSL.Context:
        """Return the context for expanded options, a new one if a file has changed.

        :raises TemporaryFailure: as :meth:`context`.
        """
        files = (wanted.certificate, wanted.key, wanted.dhparam, wanted.revoked)
        key = wanted, tuple(map(_changed, files))
        context = self._contexts.get(key)
        if context is None:
            try:
                context = self._make(wanted)
            except (OSError, SSL.Error, crypto.Error, ValueError, TypeError) as error:
                raise TemporaryFailure(
                    reason=f"cannot use certificate {wanted.certificate}: {error}"
                ) from error
            while len(self._contexts) >= _MOST_CONTEXTS:
                del self._contexts[next(iter(self._contexts))]
            self._contexts[key] = context
        return context

    def _make(self, wanted: _Wanted) -> SSL.Context:
        for path in (wanted.certificate, wanted.key):
            if isinstance(path, Tainted) or not path.startswith("/"):
                raise ValueError(f"{path!r} is no absolute path of the configuration's own")
        context = SSL.Context(SSL.SSLv23_METHOD)
        flags = SSL.OP_NO_SSLv2 | SSL.OP_NO_SSLv3 | SSL.OP_NO_TLSv1 | SSL.OP_NO_TLSv1_1
        flags |= SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE
        flags |= getattr(SSL, "OP_NO_RENEGOTIATION", 0x40000000)
        context.set_options(self._flags(flags))
        # An idle session then holds none of OpenSSL's two buffers, some 17 KB each.
        context.set_mode(getattr(SSL, "MODE_RELEASE_BUFFERS", 0x10))
        chain = read_certificates(self._keys.read(wanted.certificate))
        context.use_certificate(chain[0])
        for further in chain[1:]:
            context.add_extra_chain_cert(further)
        pem = self._keys.read(wanted.key)
        context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, pem, b""))
        context.check_privatekey()
        if wanted.ciphers:
            set_ciphers(context, wanted.ciphers)
        if wanted.dhparam.startswith("/"):
            context.load_tmp_dh(os.fsencode(wanted.dhparam))
        if wanted.curve != "auto":
            context.set_tmp_ecdh(crypto.get_elliptic_curve(wanted.curve))
        if wanted.verify != SSL.VERIFY_NONE:
            self._verify(context, wanted)
        context.set_session_id(b"mailsrv")
        context.set_tlsext_servername_callback(_server_name)
        return context

    def _flags(self, flags: int) -> int:
        """Apply ``openssl_options`` (specification 14): ``+name`` sets, ``-name`` clears."""
        for word in self.options.openssl_options.split():
            flag = _OPTIONS.get(word.lstrip("+-").lower())
            if flag is None:
                raise ValueError(f"unknown openssl_options item {word!r}")
            flags = flags & ~flag if word.startswith("-") else flags | flag
        return flags

    def _verify(self, context: SSL.Context, wanted: _Wanted) -> None:
        if wanted.authorities in _SYSTEM:
            context.set_default_verify_paths()
        elif os.path.isdir(wanted.authorities):
            context.load_verify_locations(None, wanted.authorities)
        else:
            context.load_verify_locations(wanted.authorities)
        if wanted.revoked:
            revoke(context, wanted.revoked)
        # A resumed session brings its certificate along without a verification.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        must = bool(wanted.verify & SSL.VERIFY_FAIL_IF_NO_PEER_CERT)

        def judge(connection: SSL.Connection, _cert: Any, _error: int, depth: int, ok: int) -> bool:
            start = _starts.get(connection)
            if start is not None:
                start.judged(depth, bool(ok))
            return bool(ok) or not must

        context.set_verify(wanted.verify, judge)


def revoke(context: SSL.Context, path: str) -> None:
    """Believe no certificate that a file of revocation lists names, nor one without a list."""
    if isinstance(path, Tainted) or not path.startswith("/"):
        raise ValueError(f"{path!r} is no absolute path of the configuration's own")
    store = context.get_cert_store()
    assert store is not None
    store.load_locations(path)
    store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns if path.startswith("/") else 0
    except OSError:
        return 0


def read_certificates(pem: bytes) -> list[crypto.X509]:
    """Read a certificate and the chain behind it."""
    end = b"-----END CERTIFICATE-----"
    blocks = [part[part.find(b"-----BEGIN CERTIFICATE-----") :] + end for part in pem.split(end)]
    blocks = [block for block in blocks[:-1] if block.startswith(b"-----BEGIN")]
    if not blocks:
        raise ValueError("the file holds no certificate")
    return [crypto.load_certificate(crypto.FILETYPE_PEM, block) for block in blocks]


def set_ciphers(context: SSL.Context, ciphers: str) -> None:
    """Set the ciphers of TLS 1.2; names ``TLS_…`` are suites of TLS 1.3, where they can be set."""
    words = ciphers.replace(",", ":").split(":")
    suites = [word for word in words if word.startswith("TLS_")]
    rest = [word for word in words if not word.startswith("TLS_")]
    if rest and any(rest):
        context.set_cipher_list(":".join(rest).encode("latin-1"))
    if suites:
        setter = getattr(context, "set_tls13_ciphersuites", None)
        if setter is None:
            raise ValueError("this pyOpenSSL cannot choose suites of TLS 1.3")
        setter(":".join(suites).encode("latin-1"))


@implementer(IOpenSSLServerConnectionCreator)
class ServerStart:
    """The TLS of one connection, as ``startTLS`` takes it."""

    def __init__(self, tls: ServerTls, scope: Scope, wanted: _Wanted, context: SSL.Context) -> None:
        self._tls = tls
        self._scope = scope
        self._wanted = wanted
        self._context = context
        self.verified = False
        self._faulty = False

    def judged(self, depth: int, ok: bool) -> None:
        """Note OpenSSL's judgement of a certificate of the client's chain; its own has depth 0."""
        self._faulty = self._faulty or not ok
        self.verified = depth == 0 and not self._faulty

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Make the connection object; OpenSSL's callbacks find us by it."""
        connection = SSL.Connection(self._context, None)
        _starts[connection] = self
        return connection

    def named(self, connection: SSL.Connection, name: bytes) -> None:
        """The client named a server (SNI): expand what depends on ``$tls_sni`` anew."""
        value = tainted(name)
        origin = self._scope.origin
        if origin is not None:
            origin.tls_sni = value
        options = self._tls.options
        templates = (options.tls_certificate, options.tls_privatekey)
        if not any(t is not None and "tls_" in t.source and "sni" in t.source for t in templates):
            return
        scope = self._scope.within({"tls_sni": value, "tls_in_sni": value})
        certificate, key = (t.value(scope) if t is not None else "" for t in templates)
        wanted = replace(self._wanted, certificate=certificate, key=key or certificate)
        connection.set_context(self._tls.kept(wanted))


# Not the connection's "app data", which newer Twisteds use for themselves.
_starts: WeakKeyDictionary[SSL.Connection, ServerStart] = WeakKeyDictionary()


def _server_name(connection: SSL.Connection) -> None:
    start, name = _starts.get(connection), connection.get_servername()
    if not name or start is None:
        return
    try:
        start.named(connection, name)
    except (TemporaryFailure, TypeError):
        return  # the certificate of a client without SNI is offered


def tls_facts(transport: Any, origin: Origin) -> PeerCertificate | None:
    """Note in an Origin what the handshake of ``transport`` brought ($tls_in_…).

    Returns the peer's certificate; None if it gave none.
    """
    connection = transport.getHandle()
    version = {"TLSv1": "TLS1.0", "TLSv1.1": "TLS1.1", "TLSv1.2": "TLS1.2", "TLSv1.3": "TLS1.3"}
    name = connection.get_protocol_version_name()
    origin.tls_version = version.get(name, name)
    origin.tls_bits = connection.get_cipher_bits() or 0
    origin.tls_cipher = f"{origin.tls_version}:{connection.get_cipher_name()}:{origin.tls_bits}"
    certificate = connection.get_peer_certificate()
    if certificate is None:
        return None
    start = _starts.get(connection)
    origin.tls_certificate_verified = start is not None and start.verified
    names = certificate.get_subject().get_components()
    origin.tls_peer_dn = tainted(b",".join(b"%s=%s" % item for item in reversed(names)))
    pem = crypto.dump_certificate(crypto.FILETYPE_PEM, certificate)
    return PeerCertificate(pem.decode("ascii"))

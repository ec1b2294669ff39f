"""The client's TLS against servers with certificates of a test authority, in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto

from mailsrv.errors import TemporaryFailure
from mailsrv.net.tlsclient import ClientStart, ClientTls, TlsFacts, TlsRefused, TlsWanted
from tests.net.authority import AUTHORITY

NAME = "mail.example.org"
KINDS: dict[str, dict[str, object]] = {
    "right": {"name": NAME},
    "wrong name": {"name": "other.example.org"},
    "expired": {"name": NAME, "days": -1},
    "self-signed": {"name": NAME, "alone": True},
}


@pytest.fixture
def authorities(tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    path.write_bytes(AUTHORITY.pem)
    return str(path)


def server(kind: str, *protocols: bytes, serial: list[int] | None = None) -> SSL.Connection:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = AUTHORITY.sign(key, **KINDS[kind])  # type: ignore[arg-type]
    if serial is not None:
        serial.append(certificate.serial_number)
    context = SSL.Context(SSL.SSLv23_METHOD)
    if protocols:
        context.set_alpn_select_callback(
            lambda _, offered: next(
                (p for p in offered if p in protocols), SSL.NO_OVERLAPPING_PROTOCOLS
            )
        )
    context.use_certificate(crypto.X509.from_cryptography(certificate))
    context.use_privatekey(crypto.PKey.from_cryptography_key(key))
    connection = SSL.Connection(context, None)
    connection.set_accept_state()
    return connection


def handshake(client: SSL.Connection, other: SSL.Connection) -> None:
    """Let both ends shake hands.

    :raises SSL.Error: the client refuses.
    """
    for _ in range(6):
        for one, two in ((client, other), (other, client)):
            try:
                one.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                two.bio_write(one.bio_read(65536))
            except SSL.WantReadError:
                pass


def shake(kind: str, wanted: TlsWanted) -> tuple[ClientStart, TlsFacts]:
    start = ClientTls().start(wanted)
    connection = start.clientConnectionForTLS(None)
    handshake(connection, server(kind))
    return start, start.facts(connection)


def test_right_certificate_is_verified(authorities: str) -> None:
    wanted = TlsWanted(authorities=authorities, verify=True, names=(NAME,), sni=NAME)
    start, facts = shake("right", wanted)
    assert facts.verified and not start.fault
    assert facts.cipher.startswith("TLS1.3:TLS_")
    assert facts.peer_dn == f"CN={NAME}"


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("wrong name", "certificate name mismatch"),
        ("expired", "expired"),
        ("self-signed", "self-signed"),
    ],
)
def test_bad_certificates(kind: str, why: str, authorities: str) -> None:
    """Refused where they must be verified; used and told of where that is only tried."""
    refused = TlsWanted(authorities=authorities, verify=True, names=(NAME,))
    start = ClientTls().start(refused)
    connection = start.clientConnectionForTLS(None)
    with pytest.raises((SSL.Error, TlsRefused)):
        handshake(connection, server(kind))
        start.facts(connection)
    assert why in start.fault
    start, facts = shake(kind, TlsWanted(authorities=authorities, names=(NAME,)))
    assert not facts.verified and why in start.fault


def test_an_unknown_authority_is_refused() -> None:
    start = ClientTls().start(TlsWanted(verify=True, names=(NAME,)))
    with pytest.raises(SSL.Error):
        handshake(start.clientConnectionForTLS(None), server("right"))


def test_name_is_not_asked_without_names(authorities: str) -> None:
    assert shake("wrong name", TlsWanted(authorities=authorities, verify=True))[1].verified


def test_a_context_is_made_once_and_anew_for_a_new_file(authorities: str) -> None:
    tls = ClientTls()
    wanted = TlsWanted(authorities=authorities)
    assert tls.start(wanted)._context is tls.start(wanted)._context
    before = tls.start(wanted)._context
    import os

    os.utime(authorities, (1, 1))
    assert tls.start(wanted)._context is not before


@pytest.mark.parametrize(
    "wanted",
    [
        TlsWanted(authorities="/nonexistent"),
        TlsWanted(certificate="/nonexistent"),
        TlsWanted(certificate="relative.pem"),
        TlsWanted(ciphers="NO-SUCH-CIPHER"),
    ],
)
def test_unusable_options_are_temporary(wanted: TlsWanted) -> None:
    with pytest.raises(TemporaryFailure):
        ClientTls().start(wanted)


def test_application_protocol() -> None:
    """tls_alpn is offered; hosts_require_alpn refuses a server that takes none of it."""
    wanted = TlsWanted(alpn=("smtp", "esmtp"), require_alpn=True)
    start = ClientTls().start(wanted)
    connection = start.clientConnectionForTLS(None)
    handshake(connection, server("right", b"esmtp"))
    assert start.facts(connection)
    assert connection.get_alpn_proto_negotiated() == b"esmtp"
    connection = start.clientConnectionForTLS(None)
    handshake(connection, server("right"))
    with pytest.raises(TlsRefused, match="ALPN"):
        start.facts(connection)


@pytest.mark.parametrize("revoked", [True, False])
def test_revocation_list(revoked: bool, authorities: str, tmp_path: Path) -> None:
    """tls_crl: a certificate on the list is not believed, another one is."""
    serials: list[int] = []
    other = server("right", serial=serials)
    crl = tmp_path / "crl.pem"
    crl.write_bytes(AUTHORITY.revoke(serials[0] if revoked else 1))
    wanted = TlsWanted(authorities=authorities, names=(NAME,), revoked=str(crl))
    start = ClientTls().start(wanted)
    connection = start.clientConnectionForTLS(None)
    handshake(connection, other)
    assert start.facts(connection).verified != revoked
    assert ("revoked" in start.fault) == revoked

"""Options that choose, by the host, how the smtp transport talks (specification 30.4)."""

from __future__ import annotations

from typing import Any

import pytest

from mailsrv.mail.routed import Host, Result
from mailsrv.net.tlsclient import ClientStart, ClientTls, TlsWanted
from mailsrv.transport.transports.smtp import Smtp
from tests.doubles.nexthop import NextHop
from tests.transport.helpers import Resolver, World, make, message, routed

A, B = Host("a.example", "192.0.2.1", 25), Host("b.example", "192.0.2.2", 25)
EXTENSIONS = ("PIPELINING", "8BITMIME", "SIZE 10000000", "STARTTLS", "CHUNKING")


class Wishes(ClientTls):
    """Keeps what was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[TlsWanted] = []

    def start(self, wanted: TlsWanted) -> ClientStart:
        self.wanted.append(wanted)
        return super().start(TlsWanted())


def talk(host: Host, **options: str) -> tuple[list[str], list[TlsWanted]]:
    """Deliver a message; return the verbs that were said, and what TLS was to do."""
    hop, wishes = NextHop(extensions=EXTENSIONS), Wishes()
    transport: Any = make(Smtp, **options)
    resolver = Resolver(**{each.name: (each.address,) for each in (A, B)})
    world = World(transport, hop=hop, client_tls=wishes, resolver=resolver)
    assert world.results(message(), routed("u@e", hosts=(host,))) == [Result.DELIVERED]
    return [line.split()[0] for line in hop.connections[0].commands], wishes.wanted


@pytest.mark.parametrize("hosts", ["b.example", "192.0.2.2", "! a.example : *"])
@pytest.mark.parametrize("option", ["hosts_avoid_tls", "hosts_avoid_esmtp"])
def test_starttls_where_it_is_not_avoided(option: str, hosts: str) -> None:
    assert "STARTTLS" not in talk(B, **{option: hosts})[0]
    assert "STARTTLS" in talk(A, **{option: hosts})[0]


def test_hosts_avoid_esmtp_begins_with_helo() -> None:
    assert talk(A, hosts_avoid_esmtp="*")[0][:2] == ["HELO", "MAIL"]
    assert talk(A, hosts_avoid_esmtp="b.example")[0][0] == "EHLO"


def test_chunks_for_whom_they_are_to_be_tried() -> None:
    assert "BDAT" in talk(A)[0]
    assert "DATA" in talk(A, hosts_try_chunking="b.example")[0]
    assert "BDAT" in talk(B, hosts_try_chunking="b.example")[0]


@pytest.mark.parametrize(
    ("options", "must", "tries", "names"),
    [
        ({}, False, True, ("a.example",)),  # the defaults: tried, with the name, and not required
        ({"tls_verify_hosts": "a.example"}, True, True, ("a.example",)),
        ({"tls_verify_hosts": "b.example"}, False, True, ("a.example",)),
        ({"tls_try_verify_hosts": ""}, False, False, ("a.example",)),
        ({"tls_try_verify_hosts": "!a.example : *"}, False, False, ("a.example",)),
        ({"tls_try_verify_hosts": "", "tls_verify_hosts": "*"}, True, True, ("a.example",)),
        ({"tls_verify_cert_hostnames": ""}, False, True, ()),
        ({"tls_verify_cert_hostnames": "b.example"}, False, True, ()),
        ({"tls_verify_hosts": "*", "tls_verify_cert_hostnames": "!*"}, True, True, ()),
    ],
)
def test_whose_certificate_is_verified(
    options: dict[str, str], must: bool, tries: bool, names: tuple[str, ...]
) -> None:
    (wanted,) = talk(A, **options)[1]
    assert (wanted.verify, wanted.try_verify, wanted.names) == (must, tries, names)


def test_what_is_expanded_for_a_host() -> None:
    (wanted,) = talk(
        A,
        tls_sni="${if eq{$host}{a.example}{sni.$host_address}}",
        tls_verify_certificates="/etc/${host}.pem",
        tls_certificate="/etc/own.pem",
        tls_privatekey="/etc/${domain}.key",
        tls_require_ciphers="${if eq{$host}{a.example}{HIGH}fail}",
        tls_alpn="smtp : esmtp",
        tls_crl="/etc/crl",
    )[1]
    assert wanted == TlsWanted(
        "/etc/own.pem",
        "/etc/e.key",
        "HIGH",
        "/etc/a.example.pem",
        try_verify=True,
        names=("a.example",),
        sni="sni.192.0.2.1",
        alpn=("smtp", "esmtp"),
        revoked="/etc/crl",
    )


def test_no_name_is_sent_unless_one_is_set() -> None:
    assert talk(A)[1][0].sni == ""
    assert talk(A, tls_sni="${if eq{a}{b}{x}fail}")[1][0].sni == ""

"""The article's Gmail smarthost: mailsrv relays to a real exim4 with TLS, logins and a test CA."""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.net.authority import AUTHORITY, Authority
from tests.real import machine
from tests.real.eximserver import EximServer
from tests.real.nameserver import NameServer
from tests.real.server import Server

MESSAGE = b"From: me@example.org\r\nSubject: out\r\n\r\ntext\r\n"


RIGHT = {"name": "smtp.gmail.com"}
Make = Callable[..., tuple[Server, EximServer]]


@pytest.fixture
def relay(start_server: Callable[..., Server]) -> Iterator[Make]:
    """Give what starts smtp.gmail.com, with a certificate of some kind, and mailsrv before it."""
    with ExitStack() as stack:

        def start(
            kind: dict[str, object],
            login: str = "secret",
            trusted: Authority = AUTHORITY,
            network: str = "127.0.0.0/8",
        ) -> tuple[Server, EximServer]:
            address = machine.free_address()
            hop = EximServer(kind, (address, 587))
            stack.callback(hop.close)
            names = NameServer(
                {
                    "gmail.com": f"smtp IN A {address}\nclient IN A {CLIENT}\n",
                    "127.in-addr.arpa": f"{REVERSE} IN PTR client.gmail.com.\n",
                }
            )
            stack.callback(names.close)
            names.start()
            authority = hop.folder / "ca.pem"
            authority.write_bytes(trusted.pem)
            return start_server(
                "gmail.conf", T_DNS=names.option, T_AUTHORITY=str(authority),
                T_LOGIN=login, T_NETWORK=network,
            ), hop  # fmt: skip

        yield start


CLIENT, REVERSE = "127.9.8.7", "7.8.9"


def send(server: Server) -> None:
    with smtplib.SMTP("127.0.0.1", server.smtp_port, timeout=30) as client:
        client.ehlo("client.example")
        assert client.has_extn("starttls")  # +local_network
        client.sendmail("me@example.org", ["you@elsewhere.example"], MESSAGE)


def test_the_article(relay: Make) -> None:
    """A verified session, a login, and the message there."""
    server, hop = relay(RIGHT)
    send(server)
    server.wait_for_log("Completed")
    line = next(line for line in server.log().split("\n") if " => " in line)
    assert " H=smtp.gmail.com " in line and " X=TLS1.3:" in line and " CV=yes " in line, line
    assert " A=gmail_login " in line, line
    assert " P=esmtpsa " in hop.log() and " A=login:myaccount@gmail.com " in hop.log()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ({"name": "other.example"}, "certificate name mismatch"),
        ({"name": "smtp.gmail.com", "days": -1}, "expired"),
        ({"name": "smtp.gmail.com", "alone": True}, "self-signed"),
        (RIGHT, "certificate signature failure"),
    ],
)
def test_bad_certificates_defer(relay: Make, kind: dict[str, object], why: str) -> None:
    """Whatever the article says about ignoring them: the password is not sent."""
    unknown = kind is RIGHT
    server, hop = relay(kind, trusted=Authority() if unknown else AUTHORITY)
    send(server)
    server.wait_for_log(" == you@elsewhere.example")
    assert why in server.log() and "a TLS session is required" in server.log(), server.log()
    assert " <= " not in hop.log()


def test_wrong_password_defers(relay: Make) -> None:
    """It is in no log."""
    server, hop = relay(RIGHT, login="wrong")
    send(server)
    server.wait_for_log(" == you@elsewhere.example")
    assert "authentication attempt(s) failed (gmail_login: 535" in server.log(), server.log()
    assert "wrong" not in server.log() and " <= " not in hop.log()


def test_tls_is_offered_to_whom_the_list_names(relay: Make) -> None:
    """A named list, and a pattern of host names: Gmail's own hosts are found by their PTR."""
    server, _ = relay(RIGHT, network="192.0.2.0/24")
    for source, offered in ((CLIENT, True), ("127.9.8.6", False)):
        with smtplib.SMTP(
            "127.0.0.1", server.smtp_port, timeout=30, source_address=(source, 0)
        ) as client:
            client.ehlo("client.example")
            assert client.has_extn("starttls") is offered

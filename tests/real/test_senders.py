"""Real mail servers send to mailsrv over STARTTLS."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.real import machine
from tests.real.dovecot import Dovecot
from tests.real.exim import Exim
from tests.real.postfix import Postfix
from tests.real.server import Server

USERS = {"bob@example.org": "x", "carol@example.org": "x"}
MESSAGE = b"From: me@sender.example\nSubject: from another server\n\n.\n.dot\nlast\n"


@pytest.fixture
def dovecot(start_dovecot: Callable[..., Dovecot]) -> Dovecot:
    return start_dovecot(USERS)


@pytest.fixture
def server(start_server: Callable[..., Server], dovecot: Dovecot) -> Server:
    return start_server("dovecot.conf", T_AUTH=dovecot.auth_socket, T_LMTP=dovecot.lmtp_socket)


def check_arrival(server: Server, dovecot: Dovecot) -> None:
    for user in USERS:
        (message,) = dovecot.wait_for(user, 1)
        assert message.endswith(b"\r\n\r\n.\r\n.dot\r\nlast\r\n")
    assert " P=esmtps X=TLS1.3:" in server.log()


def test_exim_sends_over_starttls(server: Server, dovecot: Dovecot) -> None:
    exim = Exim(server.smtp_port, str(server.certificate))
    try:
        exim.send("me@sender.example", list(USERS), MESSAGE)
        check_arrival(server, dovecot)
        assert "=> bob@example.org" in exim.log() and " CV=yes " in exim.log()
        assert "Completed" in exim.log(), exim.log()
    finally:
        print(exim.log())
        exim.close()


def test_exim_hears_of_a_refused_relay(server: Server) -> None:
    exim = Exim(server.smtp_port, str(server.certificate))
    try:
        exim.send("me@sender.example", ["x@elsewhere.example"], MESSAGE)
        assert "550 relay not permitted" in exim.log(), exim.log()
        assert "rejected RCPT <x@elsewhere.example>: relay not permitted" in server.log()
    finally:
        exim.close()


def test_postfix_sends_over_verified_starttls(server: Server, dovecot: Dovecot) -> None:
    postfix = Postfix(server.smtp_port, str(server.certificate))
    try:
        postfix.start()
        postfix.send("me@sender.example", list(USERS), MESSAGE)
        check_arrival(server, dovecot)
        machine.wait_until(lambda: postfix.log().count("status=sent") == 2, "postfix's report")
        assert "Verified TLS connection established" in postfix.log()
    finally:
        print(postfix.log())
        postfix.close()

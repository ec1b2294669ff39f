"""Callouts to a real Dovecot: its LMTP server says at RCPT whether it knows a user."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.real.dovecot import Dovecot
from tests.real.server import Server

USERS = {"alice@example.org": "wonderland", "bob@example.org": "builder"}


@pytest.fixture
def dovecot(start_dovecot: Callable[..., Dovecot]) -> Dovecot:
    return start_dovecot(USERS)


@pytest.fixture
def server(start_server: Callable[..., Server], dovecot: Dovecot) -> Server:
    return start_server(
        "dovecot.conf",
        T_AUTH=dovecot.auth_socket,
        T_LMTP=dovecot.lmtp_socket,
        T_CALLOUT="yes",
    )


def test_unknown_users_are_refused_at_rcpt(server: Server, dovecot: Dovecot) -> None:
    """Known ones are taken and get their mail; a Dovecot that is away defers."""
    with server.client() as client:
        client.ehlo()
        client.mail("x@elsewhere.example")
        assert client.rcpt("bob@example.org")[0] == 250
        code, text = client.rcpt("nobody@example.org")
        assert code == 550 and b"Callout verification failed" in text
        assert b"5.1.1" in text and b"nobody@example.org" in text
        assert client.data("Subject: called\r\n\r\ntext\r\n")[0] == 250
        client.mail("x@elsewhere.example")
        code, text = client.rcpt("nobody@example.org")  # from memory
        assert code == 550 and b"earlier callout" in text
        dovecot.wait_for("bob@example.org", 1)
        dovecot.stop()
        assert client.rcpt("alice@example.org")[0] == 451
        assert client.rcpt("bob@example.org")[0] == 250  # from memory
    assert 'response to "RCPT TO:<nobody@example.org>" was: 550 5.1.1' in server.log()

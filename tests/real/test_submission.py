"""The main job on real servers: submission checked by Dovecot, delivery into it over LMTP."""

from __future__ import annotations

import signal
import smtplib
from collections.abc import Callable
from email.message import EmailMessage

import pytest

from tests.real.dovecot import Dovecot
from tests.real.server import Server
from tests.real.swaks import swaks

USERS = {"alice@example.org": "wonderland", "bob@example.org": "builder"}
StartDovecot = Callable[..., Dovecot]
StartServer = Callable[..., Server]


@pytest.fixture
def dovecot(start_dovecot: StartDovecot) -> Dovecot:
    return start_dovecot(USERS)


@pytest.fixture
def server(start_server: StartServer, dovecot: Dovecot) -> Server:
    return start_server("dovecot.conf", T_AUTH=dovecot.auth_socket, T_LMTP=dovecot.lmtp_socket)


def submit(server: Server, mechanism: str, password: str, *more: str, to: str = "bob@example.org"):
    return swaks(
        server.submission_port, "--tls", "--auth", mechanism, "--auth-user", "alice@example.org",
        "--auth-password", password, *more, to=to,
    )  # fmt: skip


def a_message(subject: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["Subject"] = "alice@example.org", subject
    message.set_content("text\n.\n..dots\n")
    return message


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_message_submitted_by_swaks_is_read_over_imap(
    server: Server, dovecot: Dovecot, mechanism: str
) -> None:
    """STARTTLS, AUTH, the spool, LMTP: and the message is in the mailbox as it was sent."""
    body = "first line\n.\n.. two dots\nlast line\n"
    done = submit(server, mechanism, "wonderland", "--body", body, "--h-Subject", "Grüße")
    assert done.returncode == 0, done.stdout + done.stderr
    (message,) = dovecot.wait_for("bob@example.org", 1)
    header, _, text = message.partition(b"\r\n\r\n")
    assert b"first line\r\n.\r\n.. two dots\r\nlast line\r\n" in text
    assert b"with esmtpsa" in header
    log = server.log()
    assert f" A={mechanism.lower()}:alice@example.org" in log
    server.wait_for_log("Completed")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_wrong_password_is_535(server: Server, mechanism: str) -> None:
    """swaks sees 535, and the log names the client as fail2ban's filter wants it."""
    done = submit(server, mechanism, "wrong")
    assert done.returncode != 0
    assert "<~* 535" in done.stdout or "<~  535" in done.stdout or "535" in done.stdout
    assert f"{mechanism.lower()} authenticator failed for " in server.log()
    assert "[127.0.0.1]" in server.log() and ": 535 " in server.log()
    assert "wrong" not in server.log()


def test_no_password_is_asked_for_in_clear(server: Server) -> None:
    """AUTH is offered only inside TLS, and mail without it is refused on the submission port."""
    with server.client(server.submission_port, tls=False) as client:
        assert not client.has_extn("auth")
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("alice@example.org", ["bob@example.org"], "Subject: x\r\n\r\n")


def test_a_refused_recipient_bounces_to_the_sender(server: Server, dovecot: Dovecot) -> None:
    """Dovecot's 550 becomes a delivery status notification; the good recipient has the message."""
    done = submit(server, "PLAIN", "wonderland", to="bob@example.org,nobody@example.org")
    assert done.returncode == 0, done.stdout + done.stderr
    dovecot.wait_for("bob@example.org", 1)
    (bounce,) = dovecot.wait_for("alice@example.org", 1)
    assert b"multipart/report" in bounce
    assert b"nobody@example.org" in bounce and b"550" in bounce
    assert b"Return-Path: <>" in bounce
    assert "** nobody@example.org" in server.log()


def test_fifty_recipients_travel_in_one_lmtp_transaction(
    start_dovecot: StartDovecot, start_server: StartServer
) -> None:
    """One transaction, one answer for each recipient: one ``=>`` and 49 ``->`` in the log."""
    users = {f"user{number}@example.org": "x" for number in range(50)}
    dovecot = start_dovecot(users)
    server = start_server("dovecot.conf", T_AUTH=dovecot.auth_socket, T_LMTP=dovecot.lmtp_socket)
    before = dovecot.logged().count("Connect from local")
    with server.client() as client:
        client.send_message(a_message("to all"), "alice@example.org", list(users))
    server.wait_for_log("Completed", 60)
    assert server.log().count(" => ") == 1
    assert server.log().count(" -> ") == 49
    assert dovecot.logged().count("Connect from local") == before + 1
    for user in users:
        assert len(dovecot.wait_for(user, 1)) == 1


def test_a_stopped_dovecot_costs_time_and_no_mail(server: Server, dovecot: Dovecot) -> None:
    """While Dovecot is away mail is taken and kept, and nobody can log in (454, not 535)."""
    dovecot.stop()
    with server.client() as client:
        for number in range(5):
            client.send_message(a_message(f"n{number}"), "x@client.example", ["bob@example.org"])
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            client.login("alice@example.org", "wonderland")
        assert refused.value.smtp_code == 454
    server.wait_for_log(" == bob@example.org", count=5)
    dovecot.start()
    assert len(dovecot.wait_for("bob@example.org", 5, 60)) == 5
    server.wait_for_log("Completed", 30, count=5)


def test_what_is_queued_survives_a_restart(server: Server, dovecot: Dovecot) -> None:
    """SIGTERM ends the server, its successor delivers what the spool holds; once each."""
    dovecot.stop()
    with server.client() as client:
        client.send_message(a_message("kept"), "x@client.example", ["bob@example.org"])
    server.wait_for_log(" == bob@example.org")
    assert server.stop() in (0, -signal.SIGTERM)  # twistd ends by the signal that it got
    dovecot.start()
    server.start()
    assert len(dovecot.wait_for("bob@example.org", 1, 60)) == 1
    server.wait_for_log("Completed")


def test_a_full_mailbox_bounces_with_dovecots_answer(
    start_dovecot: StartDovecot, start_server: StartServer
) -> None:
    """552 5.2.2 is relayed as it is."""
    dovecot = start_dovecot(USERS, quota_kilobytes=20)
    server = start_server("dovecot.conf", T_AUTH=dovecot.auth_socket, T_LMTP=dovecot.lmtp_socket)
    message = a_message("big")
    message.set_content("0123456789" * 6 + "\n" + ("x" * 70 + "\n") * 400)
    with server.client() as client:
        client.send_message(message, "alice@example.org", ["bob@example.org"])
    server.wait_for_log("** bob@example.org")
    assert "552 5.2.2" in server.log()

"""The article's basic configuration does in mailsrv what the article says."""

from __future__ import annotations

import os
import pwd
import shutil
import smtplib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real import machine
from tests.real.dovecot import Dovecot
from tests.real.server import Server

StartServer = Callable[..., Server]
MESSAGE = "From: alice@mydomain.tld\r\nSubject: article\r\n\r\ntext\r\n"


@pytest.fixture
def passwords() -> Iterator[Path]:
    """A dbm file as Exim's own tool makes it, with a plain password as in the article."""
    folder = machine.folder("passwords")
    source = folder / "authpwd.txt"
    source.write_text("alice: wonderland\n")
    start = "import sys; from mailsrv.commands.dbmbuild import main; sys.exit(main())"
    made = subprocess.run(
        [sys.executable, "-c", start, str(source), str(folder / "authpwd")],
        capture_output=True, cwd=machine.CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(machine.CHECKOUT)},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr.decode()
    for path in folder.iterdir():
        path.chmod(0o644)
    yield folder / "authpwd"
    shutil.rmtree(folder)


@pytest.fixture
def server(start_server: StartServer, passwords: Path) -> Server:
    server = start_server("article.conf", T_PASSWORDS=passwords)
    mail = server.folder / "mail"
    mail.mkdir()
    if os.geteuid() == 0:
        os.chown(mail, pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)
    return server


def log(server: Server) -> str:
    """The main log where the article leaves it: below the spool."""
    return (server.folder / "spool" / "log" / "mainlog").read_text("latin-1")


def test_the_banner_hides_the_version(server: Server) -> None:
    with smtplib.SMTP() as client:
        code, text = client.connect("127.0.0.1", server.smtp_port)
    assert code == 220
    assert text.startswith(b"hostname.mydomain.tld ESMTP ")
    assert b"xim" not in text and b"mailsrv" not in text


def test_local_domains_are_accepted_and_delivered_to_a_mailbox(server: Server) -> None:
    """``@`` is the host itself; the file bears the local part's name."""
    with server.client(tls=False) as client:
        client.sendmail("x@client.example", ["bob@mydomain.tld"], MESSAGE)
        client.sendmail("x@client.example", ["carol@hostname.mydomain.tld"], MESSAGE)
    for name in ("bob", "carol"):
        mailbox = server.folder / "mail" / name
        machine.wait_until(
            lambda box=mailbox: box.exists() and box.stat().st_size, f"{name}'s mail"
        )
        assert mailbox.read_text().startswith("From x@client.example ")
    machine.wait_until(lambda: log(server).count("Completed") == 2, "the end of both")


def test_it_is_no_open_relay(server: Server) -> None:
    """The quotes of ``message = "…"`` are sent, as in Exim."""
    with (
        server.client(tls=False) as client,
        pytest.raises(smtplib.SMTPRecipientsRefused) as refused,
    ):
        client.sendmail("x@client.example", ["y@elsewhere.example"], MESSAGE)
    code, text = refused.value.recipients["y@elsewhere.example"]
    assert (code, text) == (550, b'"we are not an open relay"')
    assert "rejected RCPT <y@elsewhere.example>" in log(server)


def test_authentication_is_offered_only_in_tls_and_opens_the_relay(server: Server) -> None:
    with server.client(server.submission_port, tls=False) as client:
        assert not client.has_extn("auth")
    with server.client(server.submission_port) as client:
        assert client.esmtp_features["auth"].strip() == "PLAIN"
        client.login("alice", "wonderland")
        assert client.mail("alice@mydomain.tld")[0] == 250
        assert client.rcpt("y@elsewhere.example")[0] == 250


@pytest.mark.parametrize(
    ("user", "password"), [("alice", "wrong"), ("alice", ""), ("unknown", ""), ("unknown", "x")]
)
def test_wrong_passwords_are_535(server: Server, user: str, password: str) -> None:
    """Also the empty password of an unknown user, which the article's condition takes."""
    with (
        server.client(server.submission_port) as client,
        pytest.raises(smtplib.SMTPAuthenticationError) as refused,
    ):
        client.login(user, password)
    assert refused.value.smtp_code == 535


def test_a_name_that_leads_out_of_the_folder_is_not_delivered(server: Server) -> None:
    """``file = …/$local_part`` is safe: a peer's slash never makes a path."""
    with server.client(tls=False) as client:
        client.sendmail("x@client.example", ['"../escaped"@mydomain.tld'], MESSAGE)
    machine.wait_until(lambda: " == " in log(server), "the deferral")
    assert not (server.folder / "escaped").exists()


def test_the_dovecot_section(
    start_dovecot: Callable[..., Dovecot], start_server: StartServer
) -> None:
    """Login checked by Dovecot, delivery to it by LMTP, without root's privileges."""
    dovecot = start_dovecot({"alice@mydomain.tld": "wonderland", "bob@mydomain.tld": "x"})
    server = start_server("article.conf", T_AUTH=dovecot.auth_socket, T_LMTP=dovecot.lmtp_socket)
    with server.client(server.submission_port) as client:
        client.login("alice@mydomain.tld", "wonderland")
        client.sendmail("alice@mydomain.tld", ["bob@mydomain.tld"], MESSAGE)
    (message,) = dovecot.wait_for("bob@mydomain.tld", 1)
    assert message.endswith(b"\r\n\r\ntext\r\n")
    assert " A=PLAIN:alice@mydomain.tld " in log(server)

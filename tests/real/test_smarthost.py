"""The article's smarthost: mailsrv relays to a real exim4 that has TLS."""

from __future__ import annotations

import shutil
import smtplib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.net.test_tlsclient import AUTHORITY
from tests.real import machine, sandbox
from tests.real.server import Server

_CONFIGURATION = """\
exim_path = {program}
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
primary_hostname = smarthost.example
keep_environment =
tls_advertise_hosts = *
tls_certificate = {folder}/server.pem
tls_privatekey = {folder}/server.key
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
acl_smtp_rcpt = need_login
queue_only
begin acl
need_login:
  {need}
  deny message = login first
begin authenticators
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if eq{{$auth1/$auth2}}{{myaccount@gmail.com/secret}}}}
  server_set_id = $auth1
"""
_UID = 64901
MESSAGE = b"From: me@example.org\r\nSubject: out\r\n\r\ntext\r\n"


class Smarthost:
    """An exim4 that takes mail over TLS and keeps it in its queue."""

    def __init__(self, kind: dict[str, object], *, login: bool = False) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        machine.need_root("exim4 changes to its own user")
        program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
        self.folder = machine.folder("smarthost")
        self.port = machine.free_port()
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = AUTHORITY.sign(key, **kind)  # type: ignore[arg-type]
        (self.folder / "server.pem").write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
        )
        (self.folder / "server.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self._box = sandbox.Sandbox(self.folder, {"Debian-exim": _UID}, None)
        configuration = self.folder / "exim.conf"
        need = "accept authenticated = *" if login else "accept"
        configuration.write_text(
            _CONFIGURATION.format(program=program, folder=self.folder, need=need)
        )
        (self._box.etc / "exim4").mkdir()
        (self._box.etc / "exim4" / "trusted_configs").write_text(f"{configuration}\n")
        for path in (self.folder, self.folder / "server.pem", self.folder / "server.key"):
            shutil.chown(path, _UID, _UID)
        words = [program, "-C", configuration, "-bdf", "-oX", f"127.0.0.1.{self.port}"]
        self._process = subprocess.Popen(self._box.command(words))
        machine.wait_until(lambda: machine.listens(("127.0.0.1", self.port)), "exim4's port")

    def log(self) -> str:
        path = self.folder / "mainlog"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        machine.end(self._process)
        shutil.rmtree(self.folder, ignore_errors=True)


Make = Callable[..., tuple[Server, Smarthost]]


@pytest.fixture
def relay(start_server: Callable[..., Server], tmp_path: Path) -> Iterator[Make]:
    hops: list[Smarthost] = []

    def start(kind: dict[str, object], **macros: str) -> tuple[Server, Smarthost]:
        hops.append(hop := Smarthost(kind, login="T_LOGIN" in macros))
        authority = hop.folder / "ca.pem"
        authority.write_bytes(AUTHORITY.pem)
        macros |= {"T_HOP": str(hop.port), "T_AUTHORITY": str(authority)}
        return start_server("smarthost.conf", **macros), hop

    yield start
    for hop in hops:
        hop.close()


def send(server: Server) -> None:
    with smtplib.SMTP("127.0.0.1", server.smtp_port, timeout=30) as client:
        client.ehlo("client.example")
        assert client.has_extn("starttls")  # +local_network
        client.sendmail("me@example.org", ["you@elsewhere.example"], MESSAGE)


def test_right_certificate(relay: Make) -> None:
    server, hop = relay({"name": "localhost"})
    send(server)
    server.wait_for_log("Completed")
    assert " X=TLS1.3:" in server.log() and " CV=yes " in server.log(), server.log()
    assert " P=esmtps " in hop.log()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ({"name": "other.example"}, "certificate name mismatch"),
        ({"name": "localhost", "days": -1}, "expired"),
        ({"name": "localhost", "alone": True}, "self-signed"),
    ],
)
def test_bad_certificates_defer(relay: Make, kind: dict[str, object], why: str) -> None:
    server, hop = relay(kind)
    send(server)
    server.wait_for_log(" == you@elsewhere.example")
    assert why in server.log() and "a TLS session is required" in server.log()
    assert " <= " not in hop.log()


def test_login(relay: Make) -> None:
    server, hop = relay({"name": "localhost"}, T_LOGIN="secret")
    send(server)
    server.wait_for_log("Completed")
    assert " A=gmail_login " in server.log(), server.log()
    assert " A=login:myaccount@gmail.com " in hop.log()


def test_wrong_password_defers(relay: Make) -> None:
    server, hop = relay({"name": "localhost"}, T_LOGIN="wrong")
    send(server)
    server.wait_for_log(" == you@elsewhere.example")
    assert "authentication attempt(s) failed (gmail_login: 535" in server.log(), server.log()
    assert "wrong" not in server.log() and " <= " not in hop.log()

"""The configurations of ``conf/`` are right, in mailsrv's eyes and in Exim's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.real import machine, sandbox
from tests.real.nameserver import NameServer
from tests.real.server import Server
from tests.real.sink import Sink
from tests.real.swaks import swaks

CONF = machine.CHECKOUT / "conf"
NAMES = sorted(path.name for path in CONF.glob("*.conf"))
MACROS = {"DEMO_USER": "nobody", "DEMO_GROUP": "nogroup"}


@pytest.fixture
def folder() -> Iterator[Path]:
    path = machine.folder("conf")
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("name", NAMES)
def test_mailsrv_accepts_it(name: str, folder: Path) -> None:
    """Only the user may be missing on this machine."""
    text = re.sub(r"= mailsrv$", "= nobody", (CONF / name).read_text(), flags=re.MULTILINE)
    text = text.replace("exim_group = nobody", "exim_group = nogroup")
    path = folder / name
    path.write_text(text)
    defines = [f"-D{macro}={value}" for macro, value in MACROS.items()]
    done = subprocess.run(
        [sys.executable, "-m", "mailsrv", "-C", path, *defines, f"-DDEMO_VAR={folder}", "-bV"],
        capture_output=True, timeout=60, cwd=machine.CHECKOUT, env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert b"arning" not in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_exim_accepts_it(name: str, folder: Path) -> None:
    """All but the options of ours; the real program stops at the first error."""
    machine.need_root("a private /etc for exim4")
    program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
    box = sandbox.Sandbox(folder, {"Debian-exim": 64901, "mailsrv": 64904}, None)
    text = re.sub(r"^workers.*$", "", (CONF / name).read_text(), flags=re.MULTILINE)
    for macro, value in {**MACROS, "DEMO_VAR": str(folder)}.items():
        text = text.replace(macro, value)
    path = folder / name
    path.write_text(f"exim_path = {program}\n{text}")
    done = machine.run(box.command([program, "-C", path, "-bV"]))
    assert done.returncode == 0, done.stderr.decode()


def _shown(name: str, folder: Path, *words: str) -> str:
    """What mailsrv prints with a configuration whose paths lead into a folder."""
    text = re.sub(r"= mailsrv$", "= nobody", (CONF / name).read_text(), flags=re.MULTILINE)
    text = text.replace("exim_group = nobody", "exim_group = nogroup")
    for old in ("/etc/mailsrv", "/var/spool/mailsrv", "/var/log/mailsrv"):
        text = text.replace(old, str(folder))
    path = folder / name
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mailsrv", "-C", path, *words],
        capture_output=True, timeout=60, check=False, cwd=machine.CHECKOUT, env={**os.environ},
    )  # fmt: skip
    return (done.stdout + done.stderr).decode()


def test_the_relay_redirects(folder: Path) -> None:
    (folder / "aliases").write_text("postmaster: :fail: no\n")
    shown = _shown("relay.conf", folder, "-bt", "postmaster@example.org", "nobody@example.org")
    assert "postmaster@example.org is undeliverable: no" in shown, shown
    assert "nobody@example.org is undeliverable: Unrouteable address" in shown, shown


def test_the_relay_delivers_by_mx_and_alias(folder: Path) -> None:
    """As it stands, but for its ports, its user, its paths, and a world that is on loopback."""
    text = (CONF / "relay.conf").read_text()
    port = machine.free_port()
    for old, new in (
        ("ports = 25", "ports = T_SMTP : T_SUBMISSION\ndns_servers = T_DNS"),
        ("user = mailsrv", "user = T_USER"),
        ("group = mailsrv", "group = T_GROUP"),
        ("= /etc/mailsrv", "= T_FOLDER"),
        ("= /var/spool/mailsrv", "= T_FOLDER/spool"),
        ("= /var/log/mailsrv", "= T_FOLDER/log"),
        ("0.0.0.0 : 127.0.0.0/8", "0.0.0.0"),
        ("driver = smtp", f"driver = smtp\n  port = {port}\n  allow_localhost"),
        ("  no_more", "  self = send\n  no_more"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "relay.conf").write_text(text)
    zones = {"example.net": "@ IN MX 10 mx\nmx IN A 127.0.0.1\n"}
    with ExitStack() as stack:
        sink = stack.enter_context(closing(Sink(("127.0.0.1", port))))
        names = stack.enter_context(closing(NameServer(zones))).start()
        macros = {"T_DNS": names.option}
        server = stack.enter_context(closing(Server(folder / "relay.conf", macros)))
        (server.folder / "aliases").write_text("staff: alice@example.net, bob@example.net\n")
        server.start()
        for number, to in enumerate(("staff@example.org", "carol@example.net")):
            done = swaks(server.smtp_port, "--header", f"X-Mark: m{number}", to=to)
            assert done.returncode == 0, done.stdout
        server.wait_for_log("Completed", count=2)
        assert sink.delivered == {"m0": 1, "m1": 1}
        lines = re.findall(r"[-=]> .* R=world", server.log())
        assert sorted(lines) == [
            "-> bob@example.net <staff@example.org> R=world",
            "=> alice@example.net <staff@example.org> R=world",
            "=> carol@example.net R=world",
        ]


def test_the_smarthost_is_logged_in_to(folder: Path) -> None:
    (folder / "smarthost").write_text("smtp.example.net: user=me@example.net password=secret\n")
    shown = _shown("smarthost.conf", folder, "-be", "LOGIN ${extract{password}{LOGIN}}")
    assert "user=me@example.net password=secret secret" in shown, shown
    shown = _shown("smarthost.conf", folder, "-bP", "authenticator", "plain")
    assert "client_send" in shown, shown

"""Start and end as an administrator sees them: in the foreground and the background, as root."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real import machine
from tests.real.server import Server

StartServer = Callable[..., Server]
TWISTD = "from twisted.scripts.twistd import run; run()"
MAILSRV = "import sys; from mailsrv.commands.main import main; sys.exit(main())"
WAYS = ("twistd -n", "twistd", "-bdf", "-bd")


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that is not started, in whose configuration a test may write."""
    server = Server("dovecot.conf", {"T_AUTH": "/nonexistent/auth", "T_LMTP": "/nonexistent/lmtp"})
    yield server
    pid = pid_of(server)
    if pid:
        os.kill(pid, signal.SIGKILL)
    server.close()


def pid_of(server: Server) -> int:
    """The process that the pid file names; 0 without one."""
    path = server.folder / "pid"
    return int(path.read_text()) if path.exists() else 0


def attempt(server: Server, way: str) -> subprocess.CompletedProcess[bytes]:
    """Start it in one of the four ways, and return when the command does."""
    path = str(server.configuration)
    pidfile = server.folder / "pid"
    if way.startswith("twistd"):
        defines = [w for name, value in server.macros.items() for w in ("-D", f"{name}={value}")]
        words = ["-n", "--pidfile="] if way == "twistd -n" else [f"--pidfile={pidfile}"]
        words += [f"--logfile={server.folder}/output"] if way == "twistd" else []
        command = ["-c", TWISTD, *words, "mailsrv", "--config", path, *defines]
    else:
        defines = [f"-D{name}={value}" for name, value in server.macros.items()]
        command = ["-c", MAILSRV, "-C", path, *defines, way]
    return subprocess.run(
        [sys.executable, *command], stdin=subprocess.DEVNULL, capture_output=True, timeout=30,
        cwd=server.folder, env={**os.environ, "PYTHONPATH": str(machine.CHECKOUT)},
    )  # fmt: skip


def refused(server: Server, way: str) -> list[str]:
    """Start it in vain; return the lines of its own on the standard error."""
    done = attempt(server, way)
    assert done.returncode == 1, done
    lines = done.stderr.decode().split("\n")
    assert "Traceback" not in done.stderr.decode()
    return [line for line in lines if line.startswith("mailsrv: ")]


def configure(server: Server, text: str) -> None:
    """Put main options at the beginning of the configuration."""
    path = server.configuration
    path.write_text(text + path.read_text())


@pytest.mark.parametrize("way", WAYS)
def test_a_faulty_configuration(server: Server, way: str) -> None:
    """Every fault is a line."""
    configure(server, "nosuch_option = 3\nsmtp_accept_max = x\n")
    lines = refused(server, way)
    assert len(lines) == 2
    assert "line 1 of " in lines[0] and "nosuch_option" in lines[0]
    assert "line 2 of " in lines[1] and "smtp_accept_max" in lines[1]


@pytest.mark.parametrize("way", WAYS)
def test_a_port_in_use(server: Server, way: str) -> None:
    """The address and the port are named, in the background too."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.smtp_port))
        taken.listen()
        assert refused(server, way) == [
            f"mailsrv: cannot listen on [127.0.0.1]:{server.smtp_port}: Address already in use"
        ]


@pytest.mark.parametrize("way", ["twistd -n", "-bd"])
def test_a_missing_user(server: Server, way: str) -> None:
    """The line names who is missing, and the option."""
    server.macros["T_USER"] = "nosuchuser"
    (line,) = refused(server, way)
    assert "nosuchuser" in line and "exim_user" in line


@pytest.mark.parametrize("way", ["twistd", "-bd"])
def test_in_the_background(server: Server, way: str) -> None:
    """The command returns when the server serves; SIGTERM ends it and removes the pid file."""
    configure(server, f"pid_file_path = {server.folder}/pid\n")
    done = attempt(server, way)
    assert done.returncode == 0, done
    pid = pid_of(server)
    assert pid
    with server.client(tls=False) as client:
        assert client.noop()[0] == 250
    os.kill(pid, signal.SIGTERM)
    machine.wait_until(lambda: not pid_of(server), "the end of the server")
    assert f"ended: pid={pid}" in server.log()


def test_a_second_server_on_one_spool(server: Server) -> None:
    """It says whose the spool is not, and the first one goes on."""
    server.start()
    server.macros["T_SMTP"] = machine.free_port()
    server.macros["T_SUBMISSION"] = machine.free_port()
    (line,) = refused(server, "twistd -n")
    assert "is in use by another process" in line
    with server.client(tls=False) as client:
        assert client.noop()[0] == 250


def test_root_is_dropped_for_good(server: Server) -> None:
    """No id of the process is root's, its files are the account's; root's key still serves."""
    machine.need_root("a server that drops root")
    key = Path(str(server.macros["T_KEY"]))
    assert key.stat().st_uid == 0 and key.stat().st_mode & 0o077 == 0
    server.start()
    with server.client() as client:
        assert client.noop()[0] == 250
    pid = server.pid
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().strip().split("\n")
    )
    nobody = pwd.getpwnam("nobody")
    assert status["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert status["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert "0" not in status["Groups"].split()
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    made = [*(server.folder / "spool").rglob("*"), *(server.folder / "log").rglob("*")]
    assert made and {path.stat().st_uid for path in made} == {nobody.pw_uid}


def test_the_end_waits_for_a_message_and_sends_idle_clients_away(server: Server) -> None:
    """SIGTERM: 421 to who waits; a message in DATA is taken; then the process ends."""
    server.start()
    with socket.create_connection(("127.0.0.1", server.smtp_port), 20) as idle:
        assert idle.recv(500).startswith(b"220 ")
        client = server.client(tls=False)
        client.mail("x@client.example")
        client.rcpt("bob@example.org")
        client.putcmd("DATA")
        assert client.getreply()[0] == 354
        client.send(b"Subject: begun\r\n\r\nbefore\r\n")
        os.kill(server.pid, signal.SIGTERM)
        assert idle.recv(500).startswith(b"421 ")
        time.sleep(0.2)
        client.send(b"after\r\n.\r\n")
        assert client.getreply()[0] == 250
    server.stop()
    assert server.command("-bpc").strip() == "1"


@pytest.mark.parametrize("words", [["-bV"], ["-bP", "primary_hostname"], ["-be", "${lc:A}"]])
def test_commands_import_nothing_heavy(server: Server, words: list[str]) -> None:
    """They answer at once, because they leave the reactor and the libraries of the server alone."""
    heavy = ("twisted.internet.reactor", "twisted.mail", "OpenSSL", "ldap3", "dns", "sqlite3")
    defines = [f"-D{name}={value}" for name, value in server.macros.items()]
    program = (
        "import sys; from mailsrv.commands.main import main; status = main();"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr);"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "-C", str(server.configuration), *defines, *words],
        capture_output=True, timeout=30, cwd=server.folder,
        env={**os.environ, "PYTHONPATH": str(machine.CHECKOUT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr.decode().strip().split("\n")[-1] == "[]"


def test_a_missing_certificate_is_told_at_the_start(server: Server) -> None:
    """Without its certificate the server takes mail in clear text, and says so at once."""
    server.certificate.unlink()
    server.start()
    machine.wait_until(lambda: "TLS is not available" in server.log("panic"), "the panic log", 10)
    assert str(server.certificate) in server.log("panic")
    with server.client(tls=False) as client:
        code, _ = client.docmd("STARTTLS")
        assert code == 454
        assert client.noop()[0] == 250

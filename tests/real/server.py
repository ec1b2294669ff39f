"""mailsrv itself, started as its users start it: ``twistd -n mailsrv --config FILE``."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import signal
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.real import certificate, machine

SCENARIOS = machine.CHECKOUT / "tests" / "scenarios"
_TWISTD = "from twisted.scripts.twistd import run; run()"


class Server:
    """A mailsrv of one's own, below a folder of its own.

    ``configuration`` is the name of a file in ``tests/scenarios`` (or a path).  It finds these
    macros: ``T_FOLDER``, ``T_SMTP`` and ``T_SUBMISSION`` (ports), ``T_CERTIFICATE``, ``T_KEY``,
    ``T_USER`` and ``T_GROUP`` (whom root becomes), and those of ``macros``.
    """

    def __init__(self, configuration: str | Path, macros: Mapping[str, str | Path] = {}) -> None:
        self.folder = machine.folder("server")
        self.configuration = self.folder / "exim.conf"
        shutil.copy(SCENARIOS / configuration, self.configuration)
        self.smtp_port = machine.free_port()
        self.submission_port = machine.free_port()
        self.certificate, key = certificate.make(self.folder)
        account = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        if os.geteuid() == 0:
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self.macros = {
            "T_FOLDER": self.folder,
            "T_SMTP": self.smtp_port,
            "T_SUBMISSION": self.submission_port,
            "T_CERTIFICATE": self.certificate,
            "T_KEY": key,
            "T_USER": account.pw_name,
            "T_GROUP": grp.getgrgid(account.pw_gid).gr_name,
            **macros,
        }
        self.prefix: Sequence[str] = ()  # a command to run it under, such as strace
        self._process: subprocess.Popen[bytes] | None = None

    # --- life -----------------------------------------------------------------

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(machine.CHECKOUT), "PYTHONUNBUFFERED": "1"}

    def _defines(self) -> list[str]:
        return [word for name, value in self.macros.items() for word in ("-D", f"{name}={value}")]

    def start(self, timeout: float = 30) -> None:
        """Start it and return when it accepts on both ports.

        :raises RuntimeError: it ended instead; the text has its output and logs.
        """
        with (self.folder / "output").open("ab") as output:
            self._process = process = subprocess.Popen(
                [*self.prefix, sys.executable, "-c", _TWISTD, "--nodaemon", "--pidfile=", "mailsrv",
                 "--config", str(self.configuration), *self._defines()],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=self._environment, cwd=self.folder, start_new_session=True,
            )  # fmt: skip

        def ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"mailsrv ended with {process.returncode}\n{self.logged()}")
            ports = (self.smtp_port, self.submission_port)
            return all(machine.listens(("127.0.0.1", port)) for port in ports)

        try:
            machine.wait_until(ready, "mailsrv's ports", timeout, step=0.05)
        except TimeoutError as error:
            self.kill()
            raise RuntimeError(f"{error}\n{self.logged()}") from None

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    def stop(self, grace: float = 20) -> int:
        """Ask it to end (SIGTERM), wait, and return its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        if self.prefix:  # what it runs under ends when it does, and not before
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            for child in children.split():
                os.kill(int(child), signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        machine.end(process, grace)
        return process.returncode

    def kill(self) -> None:
        """Kill it with all its processes, as a power cut would (kill -9)."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def kill_first(self) -> None:
        """Kill the process that was started, and no other (kill -9)."""
        process, self._process = self._process, None
        assert process is not None, "it is not running"
        process.kill()
        process.wait()

    def restart(self) -> None:
        """End it and start it again on what its spool holds."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- use ------------------------------------------------------------------

    def command(self, *arguments: str) -> str:
        """Run ``mailsrv -C FILE …`` and return what it prints.

        :raises RuntimeError: it failed.
        """
        done = self.run(*arguments)
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.returncode}: {done.stderr.decode()}")
        return done.stdout.decode()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run ``mailsrv -C FILE …``."""
        defines = [f"-D{name}={value}" for name, value in self.macros.items()]
        start = "import sys; from mailsrv.commands.main import main; sys.exit(main())"
        return subprocess.run(
            [sys.executable, "-c", start, "-C", str(self.configuration), *defines, *arguments],
            capture_output=True, env=self._environment, timeout=60,
        )  # fmt: skip

    def client(self, port: int | None = None, *, tls: bool = True) -> smtplib.SMTP:
        """Return an SMTP client that has said EHLO, over STARTTLS unless told not to."""
        client = smtplib.SMTP("127.0.0.1", port or self.smtp_port, "client.example", timeout=30)
        client.ehlo()
        if tls:
            context = ssl.create_default_context(cafile=str(self.certificate))
            context.check_hostname = False
            client.starttls(context=context)
            client.ehlo()
        return client

    def log(self, stream: str = "main") -> str:
        """What a log holds now."""
        path = self.folder / "log" / f"{stream}log"
        return path.read_text("latin-1") if path.exists() else ""

    def wait_for_log(self, text: str, timeout: float = 20, count: int = 1) -> None:
        """Wait until the main log holds ``text`` ``count`` times."""
        try:
            machine.wait_until(
                lambda: self.log().count(text) >= count, f"{text!r} in the log", timeout
            )
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.logged()}") from None

    def logged(self) -> str:
        """Output and logs, for the report of a failed test."""
        output = self.folder / "output"
        text = output.read_text("latin-1") if output.exists() else ""
        return f"--- output\n{text}--- mainlog\n{self.log()}--- paniclog\n{self.log('panic')}"

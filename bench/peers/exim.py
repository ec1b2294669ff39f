"""Debian's exim4, with the same configuration as mailsrv."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

from bench.peers import family
from tests.real import machine, sandbox

_UID = 64901


class Exim:
    """See :class:`bench.peers.Peer`."""

    name = "exim4"

    def __init__(self, sink_port: int, *, deliver: bool) -> None:
        machine.need_root("exim4 changes to its own user")
        self._program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
        self.folder = machine.folder("bench-exim")
        self._sandbox = sandbox.Sandbox(self.folder, {"Debian-exim": _UID}, None)
        self._port = machine.free_port()
        macros = {
            "T_FOLDER": self.folder,
            "T_SMTP": self._port,
            "T_SUBMISSION": machine.free_port(),
            "T_SINK": sink_port,
            "T_USER": "Debian-exim",
            "T_GROUP": "Debian-exim",
            "T_EXIM": self._program,
            **({} if deliver else {"T_QUEUE_ONLY": "yes"}),
        }
        defines = "".join(f"{name} = {value}\n" for name, value in macros.items())
        self._configuration = self.folder / "exim.conf"
        self._configuration.write_text(defines + (Path(__file__).parent / "exim.conf").read_text())
        (self._sandbox.etc / "exim4").mkdir()
        (self._sandbox.etc / "exim4" / "trusted_configs").write_text(f"{self._configuration}\n")
        for name in ("spool", "log"):
            (self.folder / name).mkdir()
            shutil.chown(self.folder / name, _UID, _UID)
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self, *words: str) -> list[str]:
        return self._sandbox.command([self._program, "-C", self._configuration, *words])

    def start(self) -> int:
        """See :meth:`Peer.start`."""
        self._process = subprocess.Popen(
            self._command("-bdf"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        machine.wait_until(lambda: machine.listens(("127.0.0.1", self._port)), "exim4's port")
        return self._port

    def processes(self) -> list[int]:
        """See :meth:`Peer.processes`."""
        return family(int((self.folder / "pid").read_text()))

    def close(self) -> None:
        """See :meth:`Peer.close`."""
        if self._process is not None:
            with contextlib.suppress(OSError, ValueError):  # it is in a session of its own
                os.kill(int((self.folder / "pid").read_text()), signal.SIGKILL)
            machine.end(self._process)
        shutil.rmtree(self.folder, ignore_errors=True)

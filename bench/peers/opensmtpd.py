"""Debian's OpenSMTPD.  It does not sync what it accepts: its 250 is no promise over a crash."""

from __future__ import annotations

import shutil
import subprocess

from bench.peers import family
from tests.real import machine, sandbox

_CONFIGURATION = """\
queue ttl 4d
smtp max-message-size 60M
listen on 127.0.0.1 port {port}
action "sink" relay host lmtp://127.0.0.1:{sink}
match from any for any action "sink"
"""
_DAEMON, _QUEUE = 64904, 64905
# It insists on these places; here they are folders of its own.
_ENTER = (
    'mount --bind "$1/spool" /var/spool && mount --bind "$1/lib" /var/lib '
    '&& mount --bind "$1/run" /run && mount --bind "$2" /usr/libexec && shift 2 && exec "$@"'
)


class OpenSmtpd:
    """See :class:`bench.peers.Peer`."""

    name = "OpenSMTPD"

    def __init__(self, sink_port: int, *, deliver: bool) -> None:
        machine.need_root("OpenSMTPD changes to its own user")
        self._root = sandbox.unpacked("opensmtpd")
        self.folder = machine.folder("bench-opensmtpd")
        accounts = {"opensmtpd": _DAEMON, "opensmtpq": _QUEUE}
        self._sandbox = sandbox.Sandbox(self.folder, accounts, None)
        passwd = self._sandbox.etc / "passwd"
        passwd.write_text(passwd.read_text().replace("/nonexistent", "/var/lib/opensmtpd/empty"))
        (self._sandbox.etc / "mailname").write_text("bench.example\n")
        # It asks for the name of each client: the hosts file has it, and no time goes to the DNS.
        (self._sandbox.etc / "resolv.conf").write_text("lookup file\nnameserver 127.0.0.1\n")
        for name in ("spool", "run", "lib"):
            (self.folder / name).mkdir(mode=0o755)
        (self.folder / "lib" / "opensmtpd" / "empty").mkdir(parents=True)
        self._port = machine.free_port()
        self._deliver = deliver
        self._configuration = self.folder / "smtpd.conf"
        self._configuration.write_text(_CONFIGURATION.format(port=self._port, sink=sink_port))
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self, *words: str) -> list[str]:
        enter = ["sh", "-c", _ENTER, "sh", self.folder, self._root / "usr/libexec"]
        return self._sandbox.command([*enter, *words])

    def start(self) -> int:
        """See :meth:`Peer.start`."""
        program = str(self._root / "usr/sbin/smtpd")
        paused = [] if self._deliver else ["-P", "mta"]
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                self._command(program, "-F", *paused, "-f", str(self._configuration)),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        machine.wait_until(lambda: machine.listens(("127.0.0.1", self._port)), self._output)
        return self._port

    def _output(self) -> str:
        return (self.folder / "output").read_text()

    def processes(self) -> list[int]:
        """See :meth:`Peer.processes`."""
        assert self._process is not None
        return family(self._process.pid)

    def close(self) -> None:
        """See :meth:`Peer.close`."""
        if self._process is not None:
            machine.end(self._process)
        shutil.rmtree(self.folder, ignore_errors=True)

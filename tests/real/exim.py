"""The real exim4, as a sender: it delivers what it is given to one host over STARTTLS."""

from __future__ import annotations

import shutil
import subprocess

from tests.real import machine, sandbox

_CONFIGURATION = """\
exim_path = {program}
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
primary_hostname = sender.example
acl_not_smtp = accept
keep_environment =
begin routers
next_hop:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = next_hop
begin transports
next_hop:
  driver = smtp
  protocol = {protocol}
  port = {port}
  hosts_require_tls = *
  tls_verify_certificates = {certificate}
  tls_verify_cert_hostnames =
"""
_UID = 64901


class Exim:
    """An exim4 that sends all mail to ``port`` of 127.0.0.1, and insists on TLS."""

    def __init__(self, port: int, certificate: str, protocol: str = "smtp") -> None:
        machine.need_root("exim4 changes to its own user")
        self._program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
        self.folder = machine.folder("exim")
        self._sandbox = sandbox.Sandbox(self.folder, {"Debian-exim": _UID}, None)
        configuration = self.folder / "exim.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                program=self._program,
                folder=self.folder,
                port=port,
                certificate=certificate,
                protocol=protocol,
            )
        )
        self._configuration = configuration
        (self._sandbox.etc / "exim4").mkdir()
        (self._sandbox.etc / "exim4" / "trusted_configs").write_text(f"{configuration}\n")
        shutil.chown(self.folder, _UID, _UID)

    def send(self, sender: str, recipients: list[str], message: bytes) -> None:
        """Send a message and wait for the attempt to end; :meth:`log` tells how it went."""
        words = [self._program, "-C", self._configuration, "-odf", "-oi", "-f", sender, *recipients]
        done = subprocess.run(
            self._sandbox.command(words), input=message, capture_output=True, timeout=60
        )
        assert done.returncode == 0, (done.stdout, done.stderr, self.log())

    def log(self) -> str:
        """Its main log."""
        path = self.folder / "mainlog"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        """Remove its folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

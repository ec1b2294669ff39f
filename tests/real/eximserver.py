"""The real exim4, as a receiver."""

from __future__ import annotations

import shutil
import subprocess

from tests.net.authority import AUTHORITY
from tests.real import machine, sandbox

_CONFIGURATION = """\
exim_path = {program}
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
primary_hostname = receiver.example
keep_environment =
tls_advertise_hosts = *
tls_certificate = {folder}/server.pem
tls_privatekey = {folder}/server.key
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
acl_smtp_rcpt = check
dsn_advertise_hosts = *
log_selector = +8bitmime +received_recipients
queue_only
begin acl
check:
  accept {accept}
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


class EximServer:
    """An exim4 at an IP address and port that offers TLS, and keeps what it takes in its queue.

    ``certificate`` is what the test authority's one says (:meth:`Authority.sign`).  Whoever
    ``accept`` describes may send: by default, who has logged in over TLS as
    ``myaccount@gmail.com`` with ``secret``.
    """

    def __init__(
        self,
        certificate: dict[str, object],
        address: tuple[str, int],
        accept: str = "authenticated = *",
    ) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        machine.need_root("exim4 changes to its own user")
        program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
        self.folder = machine.folder("receiver")
        key = ec.generate_private_key(ec.SECP256R1())
        signed = AUTHORITY.sign(key, **certificate)  # type: ignore[arg-type]
        (self.folder / "server.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        (self.folder / "server.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self._box = sandbox.Sandbox(self.folder, {"Debian-exim": _UID}, None)
        configuration = self.folder / "exim.conf"
        configuration.write_text(
            _CONFIGURATION.format(program=program, folder=self.folder, accept=accept)
        )
        (self._box.etc / "exim4").mkdir()
        (self._box.etc / "exim4" / "trusted_configs").write_text(f"{configuration}\n")
        for path in (self.folder, self.folder / "server.pem", self.folder / "server.key"):
            shutil.chown(path, _UID, _UID)
        words = [program, "-C", configuration, "-bdf", "-oX", f"{address[0]}.{address[1]}"]
        self._process = subprocess.Popen(self._box.command(words))
        machine.wait_until(lambda: machine.listens(address), "exim4's port")

    def log(self) -> str:
        """Its main log."""
        path = self.folder / "mainlog"
        return path.read_text() if path.exists() else ""

    def queued(self) -> str:
        """All that its queue holds: envelopes, headers and bodies."""
        files = sorted((self.folder / "spool" / "input").glob("*-[HD]"))
        return "\n".join(path.read_bytes().decode("latin-1") for path in files)

    def close(self) -> None:
        """End it and remove its folder."""
        machine.end(self._process)
        shutil.rmtree(self.folder, ignore_errors=True)

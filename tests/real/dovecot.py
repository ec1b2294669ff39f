"""A private Dovecot: auth-client socket, LMTP socket and IMAP on loopback, below one folder.

It runs as root (mail belongs to ``nobody`` then) and as an ordinary user.  Nothing of it is
shared: several run side by side.  Users have plain passwords in a passwd-file; any other address
is refused by LMTP with 550.
"""

from __future__ import annotations

import contextlib
import grp
import imaplib
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from tests.real import machine

_CONFIGURATION = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
auth_verbose = yes
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
auth_username_format = %Lu
default_internal_user = {internal}
default_internal_group = {internal_group}
default_login_user = {login}
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:{folder}/mail/%u
mail_fsync = never
lmtp_save_to_detail_mailbox = no
lmtp_user_concurrency_limit = 0
mail_plugins = {plugins}
plugin {{
  quota = maildir:User quota
  quota_rule = *:storage={quota}
}}
passdb {{
  driver = passwd-file
  args = scheme=plain username_format=%u {folder}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users
  default_fields = uid={uid} gid={gid} home={folder}/mail/%u
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0  # no growing delays after wrong passwords from one address
  }}
}}
service stats {{
  chroot =
}}
service imap-login {{
  chroot =
  process_min_avail = 0
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  client_limit = 1
  process_limit = 20
  unix_listener {folder}/lmtp {{
    mode = 0666
  }}
}}
service auth {{
  unix_listener {folder}/auth {{
    mode = 0666
  }}
}}
"""


class Dovecot:
    """A real Dovecot of one's own; make it with the users' passwords by address.

    ``quota_kilobytes`` sets a limit for each mailbox (0: none).  Started by :meth:`start`,
    ended for good by :meth:`close`.
    """

    def __init__(self, users: dict[str, str], quota_kilobytes: int = 0) -> None:
        self._program = machine.need("dovecot", "dovecot-core")
        for service in ("imap", "lmtp"):
            if not Path(f"/usr/lib/dovecot/{service}").exists():
                machine.missing(f"Dovecot has no {service} (apt-get install dovecot-{service}d)")
        self.users = dict(users)
        self.folder = machine.folder("dovecot")
        self.auth_socket = self.folder / "auth"
        self.lmtp_socket = self.folder / "lmtp"
        self.log = self.folder / "dovecot.log"
        self.imap_port = machine.free_port()
        self._quota = quota_kilobytes
        self._process: subprocess.Popen[bytes] | None = None
        self._write()

    def _write(self) -> None:
        """Write the configuration and the users."""
        me = pwd.getpwuid(os.geteuid())
        mail, internal, login = me, me.pw_name, me.pw_name
        if me.pw_uid == 0:
            mail, internal, login = pwd.getpwnam("nobody"), "dovecot", "dovenull"
        mailboxes = self.folder / "mail"
        mailboxes.mkdir()
        os.chown(mailboxes, mail.pw_uid, mail.pw_gid)
        mailboxes.chmod(0o755)
        self._configuration = self.folder / "dovecot.conf"
        self._configuration.write_text(
            _CONFIGURATION.format(
                folder=self.folder,
                internal=internal,
                internal_group=grp.getgrgid(pwd.getpwnam(internal).pw_gid).gr_name,
                login=login,
                uid=mail.pw_uid,
                gid=mail.pw_gid,
                imap_port=self.imap_port,
                plugins="quota" if self._quota else "",
                quota=f"{self._quota}k" if self._quota else "0",
            )
        )
        self.write_users()

    def write_users(self) -> None:
        """Write ``users`` anew; Dovecot reads the file again when it has changed."""
        lines = [f"{name}:{{PLAIN}}{password}::::::\n" for name, password in self.users.items()]
        users = self.folder / "users"
        users.write_text("".join(lines))
        users.chmod(0o644)

    def start(self) -> None:
        """Start it and return when all its sockets accept."""
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._program, "-F", "-c", str(self._configuration)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        sockets = (self.auth_socket, self.lmtp_socket, ("127.0.0.1", self.imap_port))
        try:
            machine.wait_until(lambda: all(map(machine.listens, sockets)), "Dovecot's sockets")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.logged()}") from None

    def stop(self) -> None:
        """End it; its sockets refuse then, its mail stays."""
        if self._process is not None:
            machine.end(self._process)
            self._process = None

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()

    def signal(self, number: int) -> None:
        """Send a signal to all its processes, such as SIGSTOP to let them hang."""
        assert self._process is not None, "it is not running"
        for process in _family(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def close(self) -> None:
        """End it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def logged(self) -> str:
        """What it wrote: for the report of a failed test."""
        files = (self.folder / "output", self.log)
        return "".join(path.read_text(errors="replace") for path in files if path.exists())

    def imap(self, user: str) -> imaplib.IMAP4:
        """Return a connection logged in as ``user`` with INBOX selected."""
        client = imaplib.IMAP4("127.0.0.1", self.imap_port, timeout=20)
        client.login(user, self.users[user])
        client.select("INBOX")
        return client

    def messages(self, user: str) -> list[bytes]:
        """All messages of a user's INBOX, read over IMAP."""
        client = self.imap(user)
        try:
            numbers = client.search(None, "ALL")[1][0].split()
            found: list[bytes] = []
            for number in numbers:
                answer = client.fetch(number.decode(), "(BODY.PEEK[])")[1]
                found.append(next(part[1] for part in answer if isinstance(part, tuple)))
            return found
        finally:
            client.logout()

    def wait_for(self, user: str, count: int, timeout: float = 30) -> list[bytes]:
        """Wait until a user's INBOX holds ``count`` messages and return them."""
        new = self.folder / "mail" / user / "new"
        cur = self.folder / "mail" / user / "cur"

        def arrived() -> bool:
            return sum(len(list(place.glob("*"))) for place in (new, cur)) >= count

        try:
            machine.wait_until(arrived, f"{count} messages for {user}", timeout)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.logged()}") from None
        return self.messages(user)


def _family(pid: int) -> list[int]:
    """A process and its children, and theirs."""
    found = [pid]
    for parent in found:
        for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, tasks.read_text().split())
    return found

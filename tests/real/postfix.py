"""The real postfix: it delivers what it is given to one host, and takes mail if told to."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict, dataclass

from tests.real import machine, sandbox

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = {root}/usr/sbin
daemon_directory = {root}/usr/lib/postfix/sbin
shlib_directory = {root}/usr/lib/postfix
meta_directory = {folder}/etc/postfix
sendmail_path = {root}/usr/sbin/sendmail
newaliases_path = {root}/usr/bin/newaliases
mailq_path = {root}/usr/bin/mailq
mail_owner = postfix
setgid_group = postdrop
myhostname = sender.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
relayhost = [127.0.0.1]:{port}
smtp_tls_security_level = {security}
smtp_tls_CAfile = {certificate}
smtp_tls_verify_cert_match = mail.example.org
smtp_tls_loglevel = 1
smtp_host_lookup = native
smtp_connection_cache_on_demand = no
smtp_connection_cache_destinations = static:all
smtputf8_enable = {utf8}
maillog_file = {folder}/log/maillog
maillog_file_prefixes = {folder}
"""
_MASTER = """\
pickup     unix  n - n 1 1 pickup
cleanup    unix  n - n - 0 cleanup
qmgr       unix  n - n 60 1 qmgr
tlsmgr     unix  - - n 1000? 1 tlsmgr
rewrite    unix  - - n - - trivial-rewrite
bounce     unix  - - n - 0 bounce
defer      unix  - - n - 0 bounce
trace      unix  - - n - 0 bounce
smtp       unix  - - n - - smtp
error      unix  - - n - - error
anvil      unix  - - n - 1 anvil
scache     unix  - - n - 1 scache
postlog    unix-dgram n - n - 1 postlogd
"""
_RECEIVER = """\
relay_domains = {domain}
relay_transport = discard:
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_loglevel = 1
"""
_SMTPD = """\
{address}:{port} inet n - n - - smtpd
discard    unix  - - n - - discard
"""
_QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming",
           "private", "saved", "trace")  # fmt: skip
_POSTFIX, _POSTDROP = 64902, 64903


@dataclass(frozen=True)
class Receiving:
    """Where a postfix takes mail for ``domain``, which it throws away; its certificate and key."""

    address: str
    port: int
    domain: str
    certificate: str
    key: str


class Postfix:
    """A postfix that sends all mail to ``port`` of 127.0.0.1, and insists on verified TLS.

    One that receives does not insist.
    """

    def __init__(self, port: int, certificate: str, receiving: Receiving | None = None) -> None:
        machine.need_root("postfix changes to its own user")
        self._root = sandbox.unpacked("postfix")
        self.folder = machine.folder("postfix")
        accounts = {"postfix": _POSTFIX, "postdrop": _POSTDROP}
        self._sandbox = sandbox.Sandbox(self.folder, accounts, self._root / "usr/lib/postfix")
        etc = self._sandbox.etc / "postfix"
        etc.mkdir()
        main = _MAIN.format(
            folder=self.folder,
            root=self._root,
            port=port,
            certificate=certificate,
            security="verify" if receiving is None else "may",
            utf8="no" if receiving is None else "yes",
        )
        services = _MASTER
        if receiving is not None:
            main += _RECEIVER.format(**asdict(receiving))
            services += _SMTPD.format(**asdict(receiving))
        (etc / "main.cf").write_text(main)
        (etc / "master.cf").write_text(services)
        self._make_queue()
        self._process: subprocess.Popen[bytes] | None = None

    def _make_queue(self) -> None:
        queue = self.folder / "queue"
        (queue / "pid").mkdir(parents=True)
        for name in _QUEUES:
            (queue / name).mkdir(mode=0o700)
            shutil.chown(queue / name, _POSTFIX, 0)
        for name, mode in (("maildrop", 0o1730), ("public", 0o2710)):
            (queue / name).mkdir()
            shutil.chown(queue / name, _POSTFIX, _POSTDROP)
            (queue / name).chmod(mode)
        data = self.folder / "data"
        data.mkdir(mode=0o700)
        shutil.chown(data, _POSTFIX, 0)
        (self.folder / "log").mkdir()

    def start(self) -> None:
        """Start it and return when it takes mail."""
        master = self._root / "usr/lib/postfix/sbin/master"
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                self._sandbox.command([master, "-d"]), stdout=output, stderr=output
            )
        pickup = self.folder / "queue" / "public" / "pickup"
        machine.wait_until(pickup.exists, f"postfix: {self.log()}")

    def send(self, sender: str, recipients: list[str], message: bytes) -> None:
        """Give it a message; it sends in the background."""
        sendmail = self._root / "usr/sbin/sendmail"
        done = subprocess.run(
            self._sandbox.command([sendmail, "-oi", "-f", sender, *recipients]),
            input=message, capture_output=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, (done.stdout, done.stderr, self.log())

    def log(self) -> str:
        """Its mail log and its output."""
        files = (self.folder / "log" / "maillog", self.folder / "output")
        return "".join(path.read_text() for path in files if path.exists())

    def close(self) -> None:
        """End it and remove its folder."""
        if self._process is not None:
            machine.end(self._process)
        shutil.rmtree(self.folder, ignore_errors=True)

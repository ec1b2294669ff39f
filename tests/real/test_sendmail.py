"""``mailsrv-sendmail`` as local users call it, with a real server up and down.

Needs root: the users are uids of their own.
"""

from __future__ import annotations

import os
import pwd
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from unittest import SkipTest

from twisted.trial.unittest import TestCase

from tests.real import machine

USERS = ("daemon", "games")
_TWISTD = "from twisted.scripts.twistd import run; run()"
# It becomes the user when it is loaded: the checkout may be where they may not read.
_SENDMAIL = """
import ctypes, encodings.ascii, encodings.latin_1, os, sys, threading  # while it may
from mailsrv.commands.sendmail import main
uid, gid = int(sys.argv.pop(1)), int(sys.argv.pop(1))
os.setgroups([]); os.setgid(gid); os.setuid(uid)
sys.exit(main(sys.argv[1:]))
"""

CONFIGURATION = """\
primary_hostname = mx.example.com
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
exim_user = nobody
exim_group = nogroup
workers = 2
trusted_users = games
queue_only
acl_smtp_rcpt = rcpt
acl_not_smtp = local
begin acl
rcpt:
  accept
local:
  deny recipients = forbidden@example.com
       log_message = AL01: Local submission denied.
  accept
"""


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what must come."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not come")
        time.sleep(0.05)


class SendmailTests(TestCase):
    def setUp(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("needs root")
        self.folder = machine.folder("sendmail")
        os.chmod(self.folder, 0o755)
        nobody = pwd.getpwnam("nobody")
        self.spool = self.folder / "spool"
        self.config = self.folder / "exim.conf"
        self.port = machine.free_port()
        self.config.write_text(CONFIGURATION.format(folder=self.folder, port=self.port))
        (self.folder / "log").mkdir()
        os.chown(self.folder / "log", nobody.pw_uid, nobody.pw_gid)
        self.process: subprocess.Popen[bytes] | None = None
        self.addCleanup(self.stop)
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(machine.CHECKOUT)}
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _TWISTD, "--nodaemon", "--pidfile=", "mailsrv",
                 "--config", str(self.config)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
                cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        until(lambda: self.count("daemon started") >= 2 or self.process.poll() is not None)
        self.assertIsNone(self.process.poll(), (self.folder / "output").read_text())

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None
            log = self.folder / "log" / "mainlog"
            with log.open("a") as file:
                file.write("(stopped)\n")

    def log(self) -> str:
        path = self.folder / "log" / "mainlog"
        return path.read_text("latin-1").rpartition("(stopped)")[2] if path.exists() else ""

    def count(self, text: str) -> int:
        return self.log().count(text)

    def call(
        self,
        *words: str,
        text: bytes = b"Subject: x\n\nbody\n",
        user: str = "daemon",
        name: str = "sendmail",
    ) -> subprocess.CompletedProcess[bytes]:
        entry = pwd.getpwnam(user)
        return subprocess.run(
            [sys.executable, "-c", _SENDMAIL, str(entry.pw_uid), str(entry.pw_gid), name,
             f"-C{self.config}", *words],
            input=text, capture_output=True, timeout=60, check=False, cwd="/",
            env={"PYTHONPATH": str(machine.CHECKOUT), "PATH": os.environ["PATH"]},
        )  # fmt: skip

    def accepted(self, *words: str, **more: object) -> str:
        """Submit; returns the log's line of the message."""
        before = self.count("<= ")
        done = self.call(*words, **more)  # type: ignore[arg-type]
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        until(lambda: self.count("<= ") == before + 1)
        return [line for line in self.log().splitlines() if "<= " in line][-1]

    def test_forms_with_the_server_up(self) -> None:
        line = self.accepted("x@example.com")
        self.assertIn("<= daemon@mx.example.com U=daemon P=local", line)
        self.assertIn("<= daemon@", self.accepted("-f", "boss@example.com", "x@example.com"))
        self.assertIn("<= <> ", self.accepted("-f", "<>", "-i", "x@example.com"))
        line = self.accepted("-fboss@example.com", "-oi", "x@example.com", user="games")
        self.assertIn("<= boss@example.com U=games P=local", line)
        self.accepted("-t", "-oi", "-odq", text=b"To: a@example.com\nBcc: b\n\nx\n")
        self.accepted("-bm", "-oem", "-F", "Full Name", "--", "x@example.com")
        self.assertIn(b"250 OK id=", self.call("-v", "x@example.com").stdout)

    def test_acl_denies(self) -> None:
        done = self.call("forbidden@example.com")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"Administrative prohibition", done.stderr)
        until(lambda: self.count("AL01: Local submission denied.") == 1)
        self.assertIn("rejected by non-SMTP ACL: AL01", self.log())

    def test_smtp_session_and_batch(self) -> None:
        session = (
            b"EHLO me\r\nMAIL FROM:<boss@example.com>\r\nRCPT TO:<x@example.com>\r\nDATA\r\n"
            b"Subject: s\r\n\r\nx\r\n.\r\nQUIT\r\n"
        )
        done = self.call("-bs", text=session)
        self.assertIn(b"250 OK id=", done.stdout)
        self.assertIn(b"221 ", done.stdout)
        until(lambda: self.count("U=daemon P=local-esmtp") == 1)
        self.assertIn("<= daemon@mx.example.com U=daemon P=local-esmtp", self.log())
        batch = b"MAIL FROM:<x@y.example>\nRCPT TO:<a@example.com>\nDATA\nSubject: x\n\nx\n.\n"
        done = self.call("-bS", text=batch * 2)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))
        done = self.call("-bS", text=batch + b"RUBBISH\n")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"line 8: RUBBISH", done.stderr)
        before = self.count("<= ")
        done = self.call("-bS", text=batch[:-2])
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"line 6: DATA\nunexpected end of file", done.stderr)
        self.assertEqual(self.count("<= "), before)

    def test_dropped_while_the_server_is_down_and_taken_once(self) -> None:
        self.stop()
        self.assertEqual(self.call("x@example.com").returncode, 0)
        text = b"To: y@example.com\n\nx\n"
        self.assertEqual(self.call("-t", text=text, user="games").returncode, 0)
        mode = stat.S_IMODE((self.spool / "drop").stat().st_mode)
        self.assertEqual(mode, 0o3733)
        files = list((self.spool / "drop").iterdir())
        self.assertEqual([stat.S_IMODE(f.stat().st_mode) for f in files], [0o640, 0o640])
        self.start()
        until(lambda: self.count("<= ") == 2)
        self.assertEqual(self.count("<= daemon@mx.example.com U=daemon P=local"), 1)
        self.assertEqual(self.count("<= games@mx.example.com U=games P=local"), 1)
        until(lambda: not list((self.spool / "drop").iterdir()))
        self.assertEqual(list((self.spool / "0" / "taken").iterdir()), [])

    def test_what_is_no_submission_is_put_aside(self) -> None:
        self.stop()
        drop = self.spool / "drop"
        (drop / "a.msg").symlink_to("/etc/passwd")
        (drop / "b.msg").write_bytes(b"rubbish")
        os.chmod(drop / "b.msg", 0o640)
        os.link(self.config, drop / "c.msg")
        (drop / "d.msg").mkdir()
        os.mkfifo(drop / "e.msg", 0o640)
        self.call("x@example.com")
        self.start()
        until(lambda: self.count("<= ") == 1)
        until(lambda: len(list((self.spool / "0" / "taken").iterdir())) == 4)
        self.assertEqual(sorted(p.name for p in drop.iterdir()), ["d.msg"])
        self.assertTrue(self.config.exists())

    def test_users_see_and_remove_nothing_of_others(self) -> None:
        self.stop()
        self.call("x@example.com", user="games")
        (path,) = (self.spool / "drop").iterdir()
        entry = pwd.getpwnam("daemon")
        for command in (["ls", path.parent], ["cat", path], ["rm", "-f", path], ["ls", self.spool]):
            done = subprocess.run(
                command, capture_output=True, check=False, user=entry.pw_uid,
                group=entry.pw_gid, extra_groups=[],
            )  # fmt: skip
            self.assertNotEqual(done.returncode, 0, command)
        self.assertTrue(path.exists())

    def test_killed_servers_lose_and_double_nothing(self) -> None:
        self.stop()
        for number in range(20):
            self.assertEqual(self.call(f"u{number}@example.com").returncode, 0)
        for delay in (0.0, 0.02, 0.05):
            self.start()
            time.sleep(delay)
            self.stop(signal.SIGKILL)
        self.start()
        until(lambda: not list((self.spool / "drop").iterdir()))
        until(lambda: not list((self.spool / "0" / "taken").iterdir()))
        self.stop()
        listed = subprocess.run(
            [sys.executable, "-m", "mailsrv", f"-C{self.config}", "-bp"], capture_output=True,
            text=True, check=True, env={**os.environ, "PYTHONPATH": str(machine.CHECKOUT)},
        ).stdout  # fmt: skip
        for number in range(20):
            self.assertEqual(listed.count(f" u{number}@example.com"), 1, listed)

    def test_names(self) -> None:
        """The program does what the names that it is linked to say."""
        self.accepted("x@example.com")
        for name, words, shown in (
            ("mailq", [], b"          x@example.com\n"),
            ("newaliases", [], b""),
            ("runq", ["-v"], b"1 message to be attempted\n"),
        ):
            done = self.call(*words, user="root", name=name)
            self.assertEqual((done.returncode, done.stderr), (0, b""), name)
            self.assertIn(shown, done.stdout)
        batch = b"MAIL FROM:<>\nRCPT TO:<a@example.com>\nDATA\nSubject: x\n\nx\n.\n"
        self.assertEqual(self.call(text=batch, name="rsmtp").returncode, 0)
        self.stop()
        self.assertIn(b"a@example.com", self.call(user="root", name="mailq").stdout)
        done = self.call("-bs", text=batch)
        self.assertEqual(done.returncode, 75)
        self.assertIn(b"421 no server", done.stdout)
        self.assertEqual(self.call("-bS", text=batch).returncode, 0)
        self.assertEqual(len(list((self.spool / "drop").iterdir())), 1)

    def test_hostile_input(self) -> None:
        """Each costs its own call alone, and says why; what was taken is whole."""
        huge = b"X: " + b"x" * 100 + b"\n"
        for text, words in (
            (huge * 20_000 + b"\nbody\n", ["x@example.com"]),  # a header of 2 MB
            (b"To: " + b"a@b.example,\n " * 100_000 + b"c@d.example\n\n\n", ["-t"]),
        ):
            done = self.call(*words, text=text)
            self.assertEqual(done.returncode, 1)
            self.assertNotEqual(done.stderr, b"")
        done = self.call("x@example.com", text=b"Subject: \0\n\nbody\0\n")
        self.assertIn(done.returncode, (0, 1))
        self.assertNotIn(b"Traceback", done.stderr)
        self.assertIn("<= ", self.accepted("x@example.com"))
        panic = self.folder / "log" / "paniclog"
        self.assertFalse(panic.exists() and panic.read_text())

    def test_slow_and_killed(self) -> None:
        """A slow writer keeps nobody from submitting; one that is killed sends nothing."""
        entry = pwd.getpwnam("daemon")
        slow = subprocess.Popen(
            [sys.executable, "-c", _SENDMAIL, str(entry.pw_uid), str(entry.pw_gid),
             "sendmail", f"-C{self.config}", "slow@example.com"],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
            env={"PYTHONPATH": str(machine.CHECKOUT), "PATH": os.environ["PATH"]},
        )  # fmt: skip
        assert slow.stdin is not None
        slow.stdin.write(b"Subject: half\n")
        slow.stdin.flush()
        self.accepted("x@example.com")
        slow.kill()
        slow.communicate()
        self.assertEqual(self.count("<= "), 1)
        self.assertEqual(list((self.spool / "drop").iterdir()), [])

    def test_no_drop_folder(self) -> None:
        """Down, and no way to leave it: a temporary failure that says so."""
        self.stop()
        drop = self.spool / "drop"
        os.chmod(drop, 0o700)
        done = self.call("x@example.com")
        self.assertEqual(done.returncode, 75)
        self.assertIn(b"Permission denied", done.stderr)
        drop.rmdir()
        self.assertEqual(self.call("x@example.com").returncode, 75)
        self.assertEqual(self.call("x@example.com", user="games").returncode, 75)

    def test_unfinished_files_are_removed(self) -> None:
        """What a killed program left goes after a day; what is being written stays."""
        old, new = self.spool / "drop" / "a.tmp", self.spool / "drop" / "b.tmp"
        for path in (old, new):
            path.touch()
        os.utime(old, (1, 1))
        until(lambda: not old.exists())
        self.assertTrue(new.exists())

    def test_usage(self) -> None:
        self.assertEqual(self.call("-zz").returncode, 1)
        self.assertEqual(self.call().returncode, 1)
        self.assertEqual(self.call("-bi").returncode, 0)
        self.assertIn(b"no recipients", self.call("-t", text=b"Subject: x\n\n").stderr)

"""Log lines for syslog."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import ConfigError
from mailsrv.logs.syslog import ALERT, INFO, Syslog, facility, pieces


class PieceTests(SynchronousTestCase):
    """Splitting as in specification 53.4."""

    def test_short_lines_stay_as_they_are(self) -> None:
        self.assertEqual(list(pieces("short", 10)), ["short"])

    def test_long_lines_are_numbered(self) -> None:
        self.assertEqual(list(pieces("abcdefgh", 3)), ["[1/3] abc", "[2/3] def", "[3/3] gh"])

    def test_newlines_have_their_own_mark(self) -> None:
        self.assertEqual(list(pieces("abcd\ne", 3)), ["[1/3] abc", "[2\\3] d", "[3/3] e"])


class SyslogTests(SynchronousTestCase):
    """The local socket."""

    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = str(Path(self.folder.name) / "log")
        self.daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.daemon.close)
        self.daemon.bind(self.path)
        self.daemon.settimeout(2)

    def make(self, **options: bool) -> Syslog:
        log = Syslog("local3", "exim", path=self.path, **options)
        self.addCleanup(log.close)
        return log

    def test_entry_has_priority_time_name_and_pid(self) -> None:
        self.make().write(INFO, "text", 0.0)
        self.assertRegex(
            self.daemon.recv(999).decode(),
            rf"^<{19 * 8 + 6}>(Jan|Dec) [ 0-9]\d \d\d:00:00 exim\[{os.getpid()}\]: text$",
        )

    def test_without_pid(self) -> None:
        self.make(with_pid=False).write(ALERT, "x", 0.0)
        self.assertTrue(self.daemon.recv(999).endswith(b" exim: x"))

    def test_a_restarted_daemon_is_found_again(self) -> None:
        log = self.make()
        log.write(INFO, "one", 0.0)
        self.daemon.close()
        os.unlink(self.path)
        self.daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.daemon.bind(self.path)
        self.daemon.settimeout(2)
        log.write(INFO, "two", 0.0)
        self.assertTrue(self.daemon.recv(999).endswith(b"two"))

    def test_a_daemon_that_does_not_read_is_not_waited_for(self) -> None:
        log = self.make()

        def flood() -> None:
            for _ in range(100_000):
                log.write(INFO, "x" * 800, 0.0)

        self.assertRaises(BlockingIOError, flood)

    def test_names(self) -> None:
        self.assertEqual(facility(""), 2)
        self.assertRaises(ConfigError, facility, "kernel")
        self.assertRaises(ConfigError, Syslog, "", "x" * 33)

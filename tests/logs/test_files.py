"""Where log files are and how they are written."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import ConfigError
from mailsrv.logs.files import LogFile, destinations, file_name


class DestinationTests(SynchronousTestCase):
    """``log_file_path`` as in specification 53.1."""

    def test_values(self) -> None:
        default = "/s/log/%slog"
        for setting, expected in (
            ("", (default, False)),
            ("syslog", (None, True)),
            (": syslog", (default, True)),
            ("syslog : /l/%s", ("/l/%s", True)),
            ("/l/%s : /other/%s", ("/l/%s", False)),
        ):
            self.assertEqual(destinations(setting, "/s"), expected)

    def test_bad_paths(self) -> None:
        self.assertRaises(ConfigError, destinations, "log/%s", "/s")
        self.assertRaises(ConfigError, destinations, "/log/main", "/s")

    def test_names_with_dates(self) -> None:
        """The examples of specification 53.3."""
        moment = time.strptime("20021225", "%Y%m%d")
        for path, main, panic in (
            ("/v/log/%slog-%D", "/v/log/mainlog-20021225", "/v/log/paniclog"),
            ("/v/exim-%s-%D.log", "/v/exim-main-20021225.log", "/v/exim-panic.log"),
            ("/v/log/%D-%slog", "/v/log/20021225-mainlog", "/v/log/paniclog"),
            ("/v/exim/%s.%M", "/v/exim/main.200212", "/v/exim/panic"),
        ):
            self.assertEqual(file_name(path, "main", moment), main)
            self.assertEqual(file_name(path, "panic", moment), panic)


class LogFileTests(SynchronousTestCase):
    """Appending, rotation, and what must not be written to."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = self.folder / "log" / "mainlog"
        self.file = LogFile()
        self.addCleanup(self.file.close)

    def write(self, line: bytes = b"line\n", now: float = 0.0) -> None:
        self.file.write(str(self.path), line, now)

    def test_folder_and_file_are_made_and_not_public(self) -> None:
        self.write()
        self.assertEqual(self.path.stat().st_mode & 0o137, 0)
        self.assertEqual(self.path.read_bytes(), b"line\n")

    def test_a_renamed_file_is_followed_by_a_new_one(self) -> None:
        self.write()
        self.path.rename(self.folder / "old")
        self.write(now=0.5)  # not yet noticed: it is looked at once a second
        self.write(b"new\n", now=1.5)
        self.assertEqual(self.path.read_bytes(), b"new\n")
        self.assertEqual((self.folder / "old").read_bytes(), b"line\nline\n")

    def test_another_name_is_another_file(self) -> None:
        self.write()
        self.path = self.path.with_name("mainlog-2")
        self.write(b"2\n")
        self.assertEqual(self.path.read_bytes(), b"2\n")

    def test_symbolic_links_are_refused(self) -> None:
        self.path.parent.mkdir()
        victim = self.folder / "victim"
        victim.write_text("")
        self.path.symlink_to(victim)
        self.assertRaises(OSError, self.write)
        self.assertEqual(victim.read_text(), "")

    def test_a_fifo_does_not_hang(self) -> None:
        self.path.parent.mkdir()
        os.mkfifo(self.path)
        self.assertRaises(OSError, self.write)

    def test_after_half_a_line_the_next_begins_anew(self) -> None:
        """A disk that fills up in the middle of a line costs that line alone."""
        self.write(b"one\n")
        real = os.write
        answers = iter([lambda fd, data: real(fd, data[:2]), _full])
        with mock.patch("mailsrv.logs.files.os.write", lambda fd, data: next(answers)(fd, data)):
            self.assertRaises(OSError, self.write, b"two\n")
        self.write(b"three\n")
        self.assertEqual(self.path.read_bytes(), b"one\ntw\nthree\n")


def _full(descriptor: int, data: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")

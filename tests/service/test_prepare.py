"""What is done before root is dropped."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.config.model import Configuration
from mailsrv.config.read import read
from mailsrv.errors import ConfigError
from mailsrv.service.prepare import prepare, renew
from mailsrv.spool.files import SpoolError


class FolderTests(SynchronousTestCase):
    def test_folder_that_cannot_be_made(self) -> None:
        """The option, its line and the folder are named, not the system's number alone."""
        path = Path(self.mktemp()).absolute()
        path.write_text(f"primary_hostname = h.example\nspool_directory = {os.fspath(path)}/x\n")
        with mock.patch("os.geteuid", return_value=4242):
            error = self.assertRaises(ConfigError, prepare, read(os.fspath(path)))
        self.assertIn("line 2 of ", str(error))
        self.assertIn(f"spool_directory: cannot make {os.fspath(path)}/x: ", str(error))

    def test_a_read_only_spool(self) -> None:
        """It ends the start with one line, not each worker again and again."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        path = folder / "exim.conf"
        path.write_text(f"primary_hostname = h.example\nspool_directory = {folder}\n")
        found = mock.Mock(f_flag=os.ST_RDONLY)
        with (
            mock.patch("os.geteuid", return_value=4242),
            mock.patch("os.statvfs", return_value=found),
        ):
            error = self.assertRaises(SpoolError, prepare, read(os.fspath(path)))
        self.assertEqual(str(error), f"the spool {folder} is on a read-only file system")


class RenewTests(SynchronousTestCase):
    """SIGHUP."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        listen = mock.patch("mailsrv.service.prepare.listen", return_value=[{}])
        for each in (mock.patch("os.geteuid", return_value=4242), listen):
            each.start()
            self.addCleanup(each.stop)
        self.first = self.read()
        self.prepared = prepare(self.first)
        self.addCleanup(os.close, self.prepared.lock)

    def read(self, spool: str = "spool", log: str = "log/%slog") -> Configuration:
        """A configuration."""
        path = self.folder / "exim.conf"
        path.write_text(
            f"primary_hostname = h.example\nspool_directory = {self.folder}/{spool}\n"
            f"log_file_path = {self.folder}/{log}\nworkers = 1\n"
        )
        return read(os.fspath(path))

    def test_what_needs_a_restart_is_compared_with_the_start(self) -> None:
        """A change that is taken back needs none."""
        other = self.read("other")
        changed = renew(other, self.first, self.prepared)
        self.assertEqual(changed.warnings, ["spool_directory has changed: that needs a restart"])
        self.assertEqual(renew(self.read(), other, changed).warnings, [])

    def test_folders_of_new_logs_are_made(self) -> None:
        """As at a start; where that is not possible nothing changes."""
        renewed = renew(self.read(log="a/b/%slog"), self.first, self.prepared)
        self.assertTrue((self.folder / "a" / "b").is_dir())
        self.assertEqual(renewed.log_file_path, f"{self.folder}/a/b/%slog")
        (self.folder / "file").touch()
        bad = self.read(log="file/b/%slog")
        error = self.assertRaises(ConfigError, renew, bad, self.first, self.prepared)
        self.assertIn("log_file_path: cannot make", str(error))

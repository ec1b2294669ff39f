"""What is done before root is dropped."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.config.read import read
from mailsrv.errors import ConfigError
from mailsrv.service.prepare import prepare


class FolderTests(SynchronousTestCase):
    def test_folder_that_cannot_be_made(self) -> None:
        """The option, its line and the folder are named, not the system's number alone."""
        path = Path(self.mktemp()).absolute()
        path.write_text(f"primary_hostname = h.example\nspool_directory = {os.fspath(path)}/x\n")
        with mock.patch("os.geteuid", return_value=4242):
            error = self.assertRaises(ConfigError, prepare, read(os.fspath(path)))
        self.assertIn("line 2 of ", str(error))
        self.assertIn(f"spool_directory: cannot make {os.fspath(path)}/x: ", str(error))

"""mailsrv-passwd: users in a DBM file."""

from __future__ import annotations

import io
import os
import stat
import sys
from tempfile import TemporaryDirectory
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.commands.passwd import main
from mailsrv.expansion.passwords import check_password
from mailsrv.lookup._dbmfile import fetch


class PasswdTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = os.path.join(folder.name, "users.db")

    def run_command(self, *words: str, given: str = "") -> tuple[int, str]:
        stdin = io.TextIOWrapper(io.BytesIO(given.encode()))
        out = io.StringIO()
        with (
            mock.patch.object(sys, "stdin", stdin),
            mock.patch.object(sys, "stdout", out),
            mock.patch.object(sys, "stderr", out),
        ):
            return main(words), out.getvalue()

    def stored(self, user: str) -> str | None:
        raw = fetch(self.file, user.encode() + b"\0")
        return None if raw is None else raw.rstrip(b"\0").decode()

    def test_add_and_change(self) -> None:
        """A user is added, in lower case, and gets another password."""
        self.assertEqual(self.run_command("--stdin", self.file, "Bob", given="one\n")[0], 0)
        self.assertEqual(self.run_command("--stdin", self.file, "bob", given="two\n")[0], 0)
        hashed = self.stored("bob")
        assert hashed is not None
        self.assertTrue(check_password("two", hashed))
        self.assertFalse(check_password("one", hashed))
        self.assertEqual(self.run_command("-l", self.file), (0, "bob\n"))

    def test_delete(self) -> None:
        """A user is deleted; one that is not there is an error."""
        self.run_command("--stdin", self.file, "bob", given="one\n")
        self.assertEqual(self.run_command("-d", self.file, "bob")[0], 0)
        self.assertIsNone(self.stored("bob"))
        self.assertEqual(self.run_command("-d", self.file, "bob")[0], 1)

    def test_mode(self) -> None:
        """The file's mode is kept; a new one is closed to others."""
        self.run_command("--stdin", self.file, "bob", given="one\n")
        self.assertEqual(stat.S_IMODE(os.stat(self.file).st_mode), 0o640)
        os.chmod(self.file, 0o600)
        self.run_command("--stdin", self.file, "carl", given="one\n")
        self.assertEqual(stat.S_IMODE(os.stat(self.file).st_mode), 0o600)

    def test_refused(self) -> None:
        """No empty password; no file of another format is overwritten; no trace is left."""
        self.assertIn("empty", self.run_command("--stdin", self.file, "bob", given="\n")[1])
        self.assertFalse(os.path.exists(self.file))
        with open(self.file, "w", encoding="ascii") as file:
            file.write("something else")
        self.assertEqual(self.run_command("--stdin", self.file, "bob", given="x\n")[0], 1)
        self.assertEqual(os.listdir(os.path.dirname(self.file)), ["users.db"])

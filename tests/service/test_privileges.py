"""From root to the account that serves."""

from __future__ import annotations

import os
import pwd
import resource
import subprocess
import sys
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import ConfigError
from mailsrv.service.privileges import Account, account, make_folder, raise_file_limit

NOBODY = pwd.getpwnam("nobody")
CHECKOUT = str(Path(__file__).resolve().parents[2])


class AccountTests(SynchronousTestCase):
    def test_a_missing_user_is_an_error_that_says_how_to_make_it(self) -> None:
        """The default user may not exist yet: the message holds the command."""
        error = self.assertRaises(ConfigError, account, None, None, "no-such-user-here")
        self.assertIn("adduser --system --group --no-create-home no-such-user-here", str(error))

    def test_root_is_refused(self) -> None:
        """``exim_user = root`` would keep what is to be given up."""
        self.assertRaises(ConfigError, account, 0, None, "mailsrv")

    def test_the_group_follows_the_user_unless_set(self) -> None:
        """``exim_group`` decides if it is set, else the account's own group."""
        self.assertEqual(account(NOBODY.pw_uid, None, "").gid, NOBODY.pw_gid)
        self.assertEqual(account(NOBODY.pw_uid, 12345, "").gid, 12345)

    def test_a_number_without_a_name_needs_a_group(self) -> None:
        """A bare uid is taken if the group is known too."""
        self.assertEqual(account(54321, 54322, ""), Account(54321, 54322))
        self.assertRaises(ConfigError, account, 54321, None, "")


class DropTests(SynchronousTestCase):
    @skipUnless(os.geteuid() == 0, "only root can drop privileges")
    def test_root_cannot_be_regained(self) -> None:
        """After the drop all three ids are the account's, and setuid(0) is refused."""
        program = (
            "import os; from mailsrv.service.privileges import *;"
            "drop(account(None, None, 'nobody'));"
            "print(os.getresuid(), 0 in os.getgroups());"
            "os.setuid(0)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": CHECKOUT},
        )  # fmt: skip
        uid = NOBODY.pw_uid
        self.assertEqual(done.stdout.strip(), f"({uid}, {uid}, {uid}) False")
        self.assertIn("PermissionError", done.stderr)


class FolderTests(SynchronousTestCase):
    def test_made_with_its_mode_and_left_alone_after(self) -> None:
        """A new folder has the mode asked for; one that exists keeps its own."""
        path = Path(self.mktemp()).absolute() / "spool" / "mailsrv"
        make_folder(str(path), 0o750, None)
        self.assertEqual(path.stat().st_mode & 0o777, 0o750)
        path.chmod(0o711)
        make_folder(str(path), 0o750, None)
        self.assertEqual(path.stat().st_mode & 0o777, 0o711)


class FileLimitTests(SynchronousTestCase):
    def test_the_limit_is_in_force(self) -> None:
        """What is returned is the soft limit from then on, not below the one before."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = raise_file_limit()
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE)[0], limit)
        self.assertGreaterEqual(limit, before[0])

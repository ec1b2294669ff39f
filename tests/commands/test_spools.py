"""A command that meets a spool which another process has: a server that starts or ends."""

import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.commands import spools
from mailsrv.commands.control import Control, ControlError, NotRunning
from mailsrv.spool.files import FolderLock


class SpoolInUseTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "0"
        self.folder.mkdir()
        self.now = 0.0
        self.freed = self.answers = float("inf")
        self.lock = FolderLock(self.folder)
        self.addCleanup(self.lock.release)
        self.patch(time, "monotonic", lambda: self.now)
        self.patch(time, "sleep", self.sleep)
        self.server = mock.Mock(spec=Control)
        self.server.ask.side_effect = lambda do, **values: iter([{"count": 7}])
        self.patch(spools, "Control", mock.Mock(side_effect=self.connect))

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.freed:
            self.lock.release()

    def connect(self, path: str) -> Any:
        if self.now < self.answers:
            raise NotRunning("no server")
        return self.server

    def count(self) -> int:
        opened = spools.open_worker(str(self.folder))
        try:
            return [int(piece["count"]) for _ in range(2) for piece in opened.ask("count")][-1]
        finally:
            opened.close()

    def test_a_server_that_starts(self) -> None:
        """It is asked when it answers."""
        self.answers = 2.0
        self.assertEqual(self.count(), 7)
        self.server.close.assert_called_once()

    def test_a_server_that_ends(self) -> None:
        """The spool is opened when it is free."""
        self.freed = 2.0
        self.assertEqual(self.count(), 0)

    def test_nobody_answers(self) -> None:
        with self.assertRaises(ControlError) as caught:
            self.count()
        self.assertIn(
            "is in use by another process, which has not answered for 5 seconds",
            str(caught.exception),
        )
        self.assertLess(abs(self.now - 5), 0.2)

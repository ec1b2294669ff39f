"""The drop folder, when the machine is short of something."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.connection.local.drop import EVERY, DropReader
from mailsrv.connection.local.frames import DROP_SUFFIX


class _Failing(DropReader):
    """Fails of ``faults``, one after the other, then takes the file."""

    faults: list[int]

    async def _one(self, folder: int, taken: int, name: str, *, fresh: bool) -> None:
        if self.faults:
            raise OSError(fault := self.faults.pop(0), os.strerror(fault))
        os.unlink(name, dir_fd=folder)


class DropReaderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.panics = Clock(), list[str]()
        folder = Path(tempfile.mkdtemp())
        self.file = folder / f"x{DROP_SUFFIX}"
        self.file.touch()

        async def in_thread(work: Any, *arguments: Any) -> Any:
            return work(*arguments)

        parts: Any = SimpleNamespace(
            clock=self.clock,
            services=SimpleNamespace(in_thread=in_thread),
            log=SimpleNamespace(panic=lambda text, _=None: self.panics.append(text)),
        )
        self.reader = _Failing(lambda: parts, str(folder), str(folder / "taken"))

    def start(self, *faults: int) -> None:
        self.reader.faults = list(faults)
        self.reader.start()
        self.clock.pump([EVERY] * 3)

    def test_what_the_machine_lacks_now_costs_no_file(self) -> None:
        """It is told, and the file is taken as soon as there is enough again."""
        open_before = len(os.listdir("/proc/self/fd"))
        self.start(errno.EMFILE, errno.ENOSPC)
        self.assertFalse(self.file.exists())
        self.assertEqual(len(self.panics), 2)
        self.assertEqual(len(os.listdir("/proc/self/fd")), open_before)

    def test_what_is_the_file_s_own_fault_is_told_once(self) -> None:
        """It is not looked at again."""
        self.start(errno.EACCES)
        self.assertTrue(self.file.exists())
        self.assertEqual(len(self.panics), 1)

"""The drop folder, when the machine is short of something."""

from __future__ import annotations

import errno
import os
import pwd
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.commands.submit.message import drop
from mailsrv.connection.local.drop import EVERY, DropReader
from mailsrv.connection.local.frames import DROP_SUFFIX, Request
from mailsrv.interfaces import AclPhase, Action, Verdict
from mailsrv.mail.message import InlineBody, Message, Recipient
from mailsrv.mail.origin import Origin
from mailsrv.mail.status import Status
from tests.connection.server import Server


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


class RefusedTests(SynchronousTestCase):
    """A dropped message that the server refuses: its sender was told that it is sent."""

    def setUp(self) -> None:
        self.server = Server()
        self.told: list[tuple[str, str, bytes]] = []
        self.server.parts.failure = self.failure
        self.server.parts.services = SimpleNamespace(in_thread=self.in_thread)  # type: ignore
        root = Path(tempfile.mkdtemp())
        self.folder, self.taken = root / "drop", root / "taken"
        self.folder.mkdir()

    async def in_thread(self, work: Any, *arguments: Any) -> Any:
        return work(*arguments)

    async def failure(
        self, to: str, subject: str, lines: Sequence[str], original: bytes
    ) -> Message | None:
        self.told.append((to, "\n".join(lines), original))
        return Message("1rrrrr-000001-00", "", (Recipient(to),), Origin(), [], InlineBody(b""), 0.0)

    def drop(self, **more: Any) -> None:
        drop(str(self.folder), Request(recipients=("x@y.example",), **more), b"Subject: s\n\nb\n")
        reader = DropReader(lambda: self.server.parts, str(self.folder), str(self.taken))
        self.server.policy.verdicts = {
            AclPhase.NOT_SMTP: Verdict(Action.DENY, Status(550, 0, 0, "AL01"))
        }
        self.successResultOf(Deferred.fromCoroutine(reader.look()))

    def test_the_sender_is_told(self) -> None:
        self.drop()
        ((to, lines, original),) = self.told
        self.assertEqual(to, f"{pwd.getpwuid(os.geteuid()).pw_name}@example.com")
        self.assertIn("\n  AL01\n", lines)
        self.assertEqual(original, b"Subject: s\r\n\r\nb\r\n")
        self.assertEqual(self.server.queue.ids, ["1rrrrr-000001-00"])
        self.assertEqual(os.listdir(self.taken), [])

    def test_nobody_to_tell(self) -> None:
        """With a null sender it is kept for the administrator."""
        self.drop(sender="<>")
        self.assertEqual(self.told, [])
        (name,) = os.listdir(self.taken)
        self.assertTrue(name.endswith(".bad"))

"""Disks that fill up or fail, and a spool whose log was cut anywhere: nothing is half there."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import TemporaryFailure
from mailsrv.mail.message import Message
from mailsrv.net.threads import InlineThreads
from mailsrv.spool.bodies import Bodies, Disk
from mailsrv.spool.sqlite import SqliteSpool
from mailsrv.spool.writer import InlineTurns
from tests.spool.test_contract import a_message, result


class FaultyDisk(Disk):
    """A disk whose ``where`` (write, sync, folder) fails with an errno, after ``good`` calls."""

    def __init__(self, where: str, number: int, good: int = 0) -> None:
        self.where = where
        self.number = number
        self.good = good

    def _try(self, what: str) -> None:
        if what == self.where:
            self.good -= 1
            if self.good < 0:
                raise OSError(self.number, os.strerror(self.number))

    def write(self, descriptor: int, octets: memoryview) -> int:
        self._try("write")
        return super().write(descriptor, octets[:1000])  # short writes, too

    def sync(self, descriptor: int) -> None:
        self._try("sync")
        super().sync(descriptor)

    def sync_folder(self, path: Path) -> None:
        self._try("folder")
        super().sync_folder(path)


class FolderTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)


class BodyTests(FolderTestCase):
    def receive(self, disk: Disk) -> Any:
        """Receive a body of 5,000 octets in a file; give it up if it fails, as reception does."""
        bodies = Bodies(self.folder / "bodies", InlineThreads(), self.spawn, 1000, disk)
        writer = bodies.new()

        async def work() -> Any:
            try:
                for _ in range(5):
                    waiting = writer.write(b"x" * 1000)
                    if waiting is not None:
                        await waiting
                return await writer.finish()
            except TemporaryFailure:
                writer.abort()
                raise

        return work()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        result(self, work)

    def test_a_fault_refuses_the_message_and_leaves_no_file(self) -> None:
        """A full disk is 452, an I/O error 451, wherever it happens."""
        for where in ("write", "sync", "folder"):
            for number, code in ((errno.ENOSPC, 452), (errno.EDQUOT, 452), (errno.EIO, 451)):
                for good in (0, 3) if where == "write" else (0,):
                    with self.subTest(where=where, number=number, good=good):
                        work = Deferred.fromCoroutine(self.receive(FaultyDisk(where, number, good)))
                        failure = self.failureResultOf(work, TemporaryFailure)
                        self.assertEqual(failure.value.status.code, code)
                        self.assertEqual(os.listdir(self.folder / "bodies"), [])

    def test_short_writes_are_continued(self) -> None:
        body = result(self, self.receive(FaultyDisk("", 0)))
        self.assertEqual(body.path.read_bytes(), b"x" * 5000)


class CutTests(FolderTestCase):
    def spool(self, folder: Path, **options: Any) -> SqliteSpool:
        self.panics: list[str] = []
        threads = InlineThreads()
        spool = SqliteSpool(
            None, folder, self.panics.append, turns=InlineTurns(), reads=threads, files=threads,
            **options,
        )  # fmt: skip
        self.addCleanup(lambda: result(self, spool.close()))
        return spool

    def test_log_cut_anywhere(self) -> None:
        """A spool that ends at any octet of its log has each message that was stored before."""
        spool = self.spool(self.folder / "0")
        wal = self.folder / "0" / "spool.sqlite3-wal"
        stored: list[tuple[int, Message]] = []
        for number in range(12):
            message = a_message(f"16VDhn-0001b{number:x}-D3")
            result(self, spool.store(message, 1.0))
            stored.append((wal.stat().st_size, message))
        size = wal.stat().st_size
        for cut in range(0, size + 1, size // 200):
            copy = self.folder / "copy"
            shutil.copytree(self.folder / "0", copy)
            os.truncate(copy / wal.name, cut)
            whole = [message for end, message in stored if end <= cut]
            self.assertEqual(self.found(copy), whole, f"cut at {cut}")
            self.assertEqual(self.panics, [])
            shutil.rmtree(copy)

    def test_busy(self) -> None:
        """While another program holds the database a message is refused for now, then taken."""

        def connect(path: Path) -> sqlite3.Connection:
            return sqlite3.connect(path, isolation_level=None, timeout=0)

        spool = self.spool(self.folder / "0", connect=connect)
        other = connect(self.folder / "0" / "spool.sqlite3")
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        refused = Deferred.fromCoroutine(spool.store(a_message(), 1.0))
        failure = self.failureResultOf(refused, TemporaryFailure)
        self.assertEqual(failure.value.status.code, 451)
        other.execute("ROLLBACK")
        result(self, spool.store(a_message(), 1.0))
        self.assertEqual(result(self, spool.count()), 1)

    def test_checkpoint_that_fails(self) -> None:
        """Nothing is lost by it, the writer goes on, and the panic log says so."""

        class Failing(sqlite3.Connection):
            def execute(self, query: str, *values: Any) -> Any:  # type: ignore[override]
                if "TRUNCATE" in query:
                    raise sqlite3.DatabaseError("database disk image is malformed")
                return super().execute(query, *values)

        def connect(path: Path) -> sqlite3.Connection:
            connection = sqlite3.connect(path, isolation_level=None, factory=Failing)
            connection.execute("PRAGMA journal_mode=WAL")
            return connection

        spool = self.spool(self.folder / "0", connect=connect, wal_limit=0)
        for number in range(3):
            result(self, spool.store(a_message(f"16VDhn-0001{number:02x}-D3"), 1.0))
        spool._writer.between(lambda connection: 1 / 0)
        result(self, spool.store(a_message("16VDhn-000103-D3"), 1.0))
        self.assertEqual(result(self, spool.count()), 4)
        self.assertIn("malformed", self.panics[0])
        self.assertTrue(any("ZeroDivisionError" in text for text in self.panics))

    def test_checkpoints_that_fail_are_told_once(self) -> None:
        """Each commit tries again, and fails of the same until somebody mends it."""
        spool = self.spool(self.folder / "0")
        good = spool._open

        def lacking(path: Path) -> sqlite3.Connection:
            raise sqlite3.OperationalError("unable to open database file")

        for opened in (lacking, lacking, lacking, good, lacking):
            spool._open, spool._checkpointer = opened, None
            result(self, spool._check())
        spool._open = good
        told = "spool: checkpoint failed: unable to open database file"
        self.assertEqual(self.panics, [told] * 2)

    def found(self, folder: Path) -> list[Message | None]:
        """Open a spool and load all that it has."""
        spool = self.spool(folder)

        async def load() -> list[Message | None]:
            return [await spool.load(entry.id) async for entry in spool.listing()]

        messages = result(self, load())
        result(self, spool.close())
        return messages

    def test_log_is_bounded(self) -> None:
        """Between transactions the writer empties a log that is larger than its limit."""
        spool = self.spool(self.folder / "0", wal_limit=200_000)
        wal = self.folder / "0" / "spool.sqlite3-wal"
        largest = 0
        for number in range(100):
            result(self, spool.store(a_message(f"16VDhn-0001{number:02x}-D3"), 1.0))
            largest = max(largest, wal.stat().st_size)
        self.assertLess(largest, 300_000)
        self.assertEqual(result(self, spool.count()), 100)

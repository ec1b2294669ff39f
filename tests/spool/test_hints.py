"""Hints are kept in memory and on disk, and are losable."""

import shutil
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.interfaces import RetryHint
from mailsrv.mail.status import Status
from mailsrv.net.threads import InlineThreads
from mailsrv.spool.files import SpoolError
from mailsrv.spool.hints import SqliteHints

HINT = RetryHint(1, 2, 3, "refused", "t\xe9xt", True, Status(451, 4, 7, "x\ny"))


class HintsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.clock = Clock()
        self.lines: list[str] = []

    def make(self) -> SqliteHints:
        hints = SqliteHints(
            self.clock, self.folder / "hints.sqlite3", InlineThreads(), self.lines.append
        )
        self.addCleanup(lambda: self.close(hints))
        return hints

    def close(self, hints: SqliteHints) -> None:
        self.successResultOf(Deferred.fromCoroutine(hints.close()))

    def test_survives(self) -> None:
        hints = self.make()
        hints.set_retry("T:a", HINT)
        self.assertEqual(hints.retry("T:a"), HINT)
        self.clock.advance(2)
        self.assertEqual(self.make().retry("T:a"), HINT)

    def test_shared(self) -> None:
        """What one worker learns, and forgets, the others know some seconds later."""
        one, two = self.make(), self.make()
        one.set_retry("T:a", HINT)
        self.clock.pump([1] * 15)
        self.assertEqual(two.retry("T:a"), HINT)
        two.set_retry("T:a", None)
        self.clock.pump([1] * 15)
        self.assertIsNone(one.retry("T:a"))

    def test_one_worker_tries_a_failing_host(self) -> None:
        """When a hint is due, the first to claim it goes; others see a later time, then news."""
        one, two = self.make(), self.make()
        one.set_retry("T:a", HINT)
        self.clock.pump([1] * 15)

        def claim(hints: SqliteHints) -> bool:
            return self.successResultOf(Deferred.fromCoroutine(hints.claim("T:a", 315.0)))

        self.assertTrue(claim(one))
        self.assertFalse(claim(two))
        self.clock.pump([1] * 15)
        self.assertEqual(two.retry("T:a"), replace(HINT, next_try=315.0))
        self.assertEqual(one.retry("T:a"), HINT)  # who has it computes from what was before
        one.set_retry("T:a", None)
        self.clock.pump([1] * 15)
        self.assertIsNone(two.retry("T:a"))

    def test_claim_of_a_host_that_another_found_working(self) -> None:
        one, two = self.make(), self.make()
        one.set_retry("T:a", HINT)
        self.clock.pump([1] * 15)
        two.set_retry("T:a", None)
        self.clock.advance(2)
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(one.claim("T:a", 99.0))))
        self.assertIsNone(one.retry("T:a"))

    def test_claim_before_it_was_written(self) -> None:
        hints = self.make()
        hints.set_retry("T:a", HINT)
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(hints.claim("T:a", 99.0))))
        self.clock.advance(2)
        self.assertEqual(self.make().retry("T:a"), HINT)

    def test_expires(self) -> None:
        """retry_data_expire after the last attempt a hint is ignored."""
        hints = self.make()
        hints.set_retry("T:a", HINT)
        self.clock.advance(7 * 86400 + 3)
        self.assertIsNone(hints.retry("T:a"))

    def test_expired_hints_cost_no_memory(self) -> None:
        """A hint that nobody asks for again is dropped all the same; a newer one stays."""
        hints = self.make()
        for number in range(100):
            hints.set_retry(f"R:u{number}@x:s", replace(HINT, last_tried=self.clock.seconds()))
        self.clock.pump([86400.0] * 6)
        hints.set_retry("T:new", replace(HINT, last_tried=self.clock.seconds()))
        self.clock.pump([86400.0] * 2)
        self.assertEqual(list(hints._retry), ["T:new"])

    def test_damaged_file(self) -> None:
        """A file that is no database is put aside, reported, and begun anew."""
        (self.folder / "hints.sqlite3").write_bytes(b"garbage" * 999)
        hints = self.make()
        hints.set_retry("T:a", HINT)
        self.clock.advance(2)
        self.assertEqual(len(self.lines), 1)
        self.assertEqual(len(list(self.folder.glob("*.bad-*"))), 1)

    def test_a_good_file_that_cannot_be_used_now_is_left(self) -> None:
        """On a full disk nothing is put aside, at each start of a worker anew."""
        hints = self.make()
        hints.set_retry("T:a", HINT)
        self.clock.advance(2)
        full = sqlite3.OperationalError("database or disk is full")
        full.sqlite_errorcode = sqlite3.SQLITE_FULL
        with mock.patch("mailsrv.spool.hints.open_database", side_effect=full):
            error = self.assertRaises(SpoolError, self.make)
        self.assertIn("hints.sqlite3: database or disk is full", str(error))
        self.assertEqual(list(self.folder.glob("*.bad-*")), [])
        self.assertEqual(self.make().retry("T:a"), HINT)

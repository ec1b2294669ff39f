"""A large body is written beside the reception of its next pieces."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import TemporaryFailure
from mailsrv.spool.bodies import AHEAD, PIECE, Bodies, Disk


class Held:
    """Threads that do nothing until they are told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def run(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.waiting.append((done, lambda: function(*arguments, **named)))
        return done

    def go(self) -> None:
        while self.waiting:
            done, work = self.waiting.pop(0)
            try:
                done.callback(work())
            except Exception as error:
                done.errback(error)


class Full(Disk):
    """A disk without room."""

    def write(self, descriptor: int, octets: memoryview) -> int:
        raise OSError(28, "No space left on device")


class WritingAheadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.threads = Held()

    def bodies(self, disk: Disk | None = None) -> Bodies:
        threads: Any = self.threads
        return Bodies(self.folder / "bodies", threads, Deferred.fromCoroutine, 10, disk)

    def test_bounded(self) -> None:
        """While one piece is written others are taken, up to AHEAD octets; then one waits."""
        writer = self.bodies().new()
        first = writer.write(b"x" * PIECE)
        assert first is not None
        self.successResultOf(Deferred.fromCoroutine(first))  # type: ignore[arg-type]
        taken = 0
        while (waiting := writer.write(b"y" * PIECE)) is None:
            taken += PIECE
        self.assertLessEqual(taken, AHEAD)
        blocked: Deferred[None] = Deferred.fromCoroutine(waiting)  # type: ignore[arg-type]
        self.assertNoResult(blocked)
        self.threads.go()
        self.successResultOf(blocked)
        finished = Deferred.fromCoroutine(writer.finish())
        self.threads.go()
        self.assertEqual(self.successResultOf(finished).size, taken + 2 * PIECE)

    def test_failure_is_not_lost(self) -> None:
        """What could not be written fails the body, though nobody waited for that piece."""
        writer = self.bodies(Full()).new()
        first = writer.write(b"x" * PIECE)
        assert first is not None
        self.successResultOf(Deferred.fromCoroutine(first))  # type: ignore[arg-type]
        self.threads.go()
        finished = Deferred.fromCoroutine(writer.finish())
        self.threads.go()
        self.failureResultOf(finished, TemporaryFailure)

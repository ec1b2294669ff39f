"""Files that are parsed once and kept: many lookups at a time."""

from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import TemporaryFailure
from mailsrv.lookup._files import _BIG, FileCache


class Threads:
    """Runs what it was given when it is told to."""

    def __init__(self) -> None:
        self.given: list[tuple[Deferred[Any], Any]] = []

    def __call__(self, function: Any, *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.given.append((done, lambda: function(*arguments)))
        return done

    def run(self) -> None:
        done, work = self.given.pop(0)
        try:
            result = work()
        except TemporaryFailure as failure:
            done.errback(failure)
        else:
            done.callback(result)


class BigFileTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.path.write_bytes(b"a" * (_BIG + 1))
        self.threads = Threads()
        self.cache: FileCache[bytes] = FileCache(lambda content: content[:1], "test", self.threads)

    def get(self) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self.cache.get(str(self.path)))

    def test_lookups_that_come_together_load_it_once(self) -> None:
        asked = [self.get() for _ in range(3)]
        self.assertEqual(len(self.threads.given), 1)
        self.threads.run()
        self.assertEqual([self.successResultOf(each) for each in asked], [b"a"] * 3)
        self.assertEqual(self.threads.given, [])

    def test_who_waits_never_gets_what_was_there_before_it_asked(self) -> None:
        first = self.get()
        done, work = self.threads.given.pop()
        loaded = work()
        self.path.write_bytes(b"b" * (_BIG + 2))
        second = self.get()
        done.callback(loaded)
        self.assertEqual(self.successResultOf(first), b"a")
        self.threads.run()
        self.assertEqual(self.successResultOf(second), b"b")

    def test_a_lookup_that_is_given_up_leaves_the_load_to_another(self) -> None:
        first, second, third = self.get(), self.get(), self.get()
        second.cancel()
        self.failureResultOf(second, CancelledError)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.threads.given.pop(0)
        self.threads.run()
        self.assertEqual(self.successResultOf(third), b"a")

    def test_a_failure_is_that_of_each(self) -> None:
        first, second = self.get(), self.get()
        self.path.unlink()
        self.threads.run()
        self.failureResultOf(first, TemporaryFailure)
        self.failureResultOf(second, TemporaryFailure)

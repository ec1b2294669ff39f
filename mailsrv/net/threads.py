"""The one door to threads: what must block runs here, never on the reactor thread.

Each kind of work (SQLite, dbm, LDAP ...) has a :class:`Threads` of its own, so
that a hanging LDAP server holds up neither the spool nor the reactor's own
pool, which resolves names.  The functions that run in a thread must not touch
anything that the reactor thread owns.

Twisted is imported when a pool starts, so that drivers which only name
:class:`IThreads` stay cheap to import.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from mailsrv.errors import TemporaryFailure

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure
    from twisted.python.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")


class IThreads(Protocol):
    """Runs functions that block."""

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` in a thread and return its result, on the reactor thread.

        What the function raises is raised here.  If the waiting coroutine is
        cancelled, a call that has not begun never begins; the result of one
        that has is thrown away.

        :raises TemporaryFailure: too many calls wait already, or the pool is stopped.
        """


class Threads:
    """A pool of threads for one kind of work.

    ``name`` shows in the threads' names; ``workers`` is the most threads at a
    time, ``waiting`` the most calls that wait for one.  Threads start when they
    are needed and never keep the process alive.  Whoever made the pool stops
    it.  ``reactor`` provides ``callFromThread`` and ``callLater``.
    """

    def __init__(self, reactor: Any, name: str, *, workers: int = 4, waiting: int = 1000) -> None:
        self.name = name
        self._reactor = reactor
        self._workers = workers
        self._limit = workers + waiting
        self._calls = 0  # begun or waiting
        self._pool: ThreadPool | None = None
        self._stopped = False
        self._idle: list[Deferred[None]] = []

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See :meth:`IThreads.run`."""
        from twisted.internet.defer import Deferred

        if self._stopped:
            raise TemporaryFailure(reason=f"{self.name} threads are stopped")
        if self._calls >= self._limit:
            raise TemporaryFailure(reason=f"too many calls wait for {self.name} threads")
        cancelled: list[bool] = []
        done: Deferred[T] = Deferred(lambda _: cancelled.append(True))

        def call() -> T | None:
            return None if cancelled else function(*args, **kwargs)

        def finished(success: bool, result: Any) -> None:  # in the pool's thread
            self._reactor.callFromThread(self._finish, done, success, result)

        self._calls += 1
        self._started().callInThreadWithCallback(finished, call)
        return await done

    async def stop(self, grace: float | None = None) -> None:
        """Take no more calls; wait until those accepted are done, at most ``grace`` seconds.

        A call that is still under way then is left to itself.
        """
        from twisted.internet.defer import Deferred

        self._stopped = True
        if self._calls:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            if grace is not None:
                timer = self._reactor.callLater(grace, self._give_up, idle)
                idle.addBoth(lambda _: timer.active() and timer.cancel())
            await idle
        pool, self._pool = self._pool, None
        if pool is not None and not self._calls:
            pool.stop()  # joins threads that have nothing to do

    def _started(self) -> ThreadPool:
        """Return the pool, started at the first call: no thread is made before a fork."""
        if self._pool is None:
            self._pool = _daemon_pool(self._workers, self.name)
            self._pool.start()
        return self._pool

    def _finish(self, done: Deferred[T], success: bool, result: T | Failure) -> None:
        """Hand a result over; on the reactor thread."""
        self._calls -= 1
        if done.called:
            pass  # cancelled meanwhile: nobody waits for it
        elif success:
            done.callback(result)  # success: never a Failure
        else:
            done.errback(result)  # type: ignore[arg-type]
        if not self._calls:
            waiting, self._idle = self._idle, []
            for idle in waiting:
                idle.callback(None)

    def _give_up(self, idle: Deferred[None]) -> None:
        self._idle.remove(idle)
        idle.callback(None)


class InlineThreads:
    """Calls at once, in the calling thread: the twin of :class:`Threads` for tests."""

    def __init__(self) -> None:
        self.stopped = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See :meth:`IThreads.run`."""
        if self.stopped:
            raise TemporaryFailure(reason="threads are stopped")
        return function(*args, **kwargs)

    async def stop(self, grace: float | None = None) -> None:
        """See :meth:`Threads.stop`."""
        self.stopped = True


def _daemon_pool(workers: int, name: str) -> ThreadPool:
    """Make a pool whose threads do not keep the process from ending."""
    from threading import Thread

    from twisted.python.threadpool import ThreadPool

    def daemon(*args: Any, **kwargs: Any) -> Thread:
        return Thread(*args, **kwargs, daemon=True)

    class DaemonPool(ThreadPool):
        threadFactory = staticmethod(daemon)  # type: ignore[assignment]

    return DaemonPool(0, workers, name)

"""Group commit: all that waits when a commit ends shares the next one (design, decision 4).

An :class:`Operation` is a function of the connection.  Its caller resumes only
when the transaction that it was part of is on stable storage.  When a
transaction fails it is rolled back and its operations are tried one by one, so
that only the culprit fails; after an I/O error (a failed fsync among them) none
is tried again, because the kernel may have dropped what it could not write:
all of them count as not written and the connection is opened anew.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mailsrv.errors import TemporaryFailure
from mailsrv.spool.bodies import IO_ERROR, NO_SPACE

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

T = TypeVar("T")
BATCH = 500  # operations in one transaction: bounds the time that the first of them waits


class ITurns(Protocol):
    """Calls the writer's ``work`` where it may block, one call at a time."""

    def start(self, work: Callable[[], bool]) -> None:
        """``work`` does what waits and tells whether more does."""

    def wake(self) -> None:
        """Something waits: call ``work`` soon."""

    def hand_back(self, function: Callable[[], None]) -> None:
        """Call ``function`` on the reactor thread."""

    def stop(self) -> None:
        """Return when all that waits is done, and never call ``work`` again."""


class ThreadTurns:
    """A thread of the writer's own.

    It is woken at the end of the reactor's turn: what the events of one turn write
    shares a commit, and the thread does not take the interpreter from them.
    """

    def __init__(self, reactor: Any, name: str = "spool writer") -> None:
        self._reactor = reactor
        self._name = name
        self._soon = False  # it is woken at the end of this turn
        self._wakeup = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self, work: Callable[[], bool]) -> None:
        """See :meth:`ITurns.start`."""
        self._thread = threading.Thread(target=self._run, args=(work,), name=self._name)
        self._thread.daemon = True
        self._thread.start()

    def wake(self) -> None:
        """See :meth:`ITurns.wake`; on the reactor thread."""
        if not self._soon:
            self._soon = True
            self._reactor.callLater(0, self._wake)

    def _wake(self) -> None:
        self._soon = False
        self._wakeup.set()

    def hand_back(self, function: Callable[[], None]) -> None:
        """See :meth:`ITurns.hand_back`."""
        self._reactor.callFromThread(function)

    def stop(self) -> None:
        """See :meth:`ITurns.stop`."""
        self._stopping = True
        self._wakeup.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, work: Callable[[], bool]) -> None:
        while True:
            self._wakeup.wait()
            self._wakeup.clear()
            while work():
                pass
            if self._stopping:
                return


class InlineTurns:
    """Works at once, in the calling thread; with ``paused`` only when :meth:`turn` is called."""

    def __init__(self, *, paused: bool = False) -> None:
        self.paused = paused
        self._work: Callable[[], bool] = bool
        self._working = False

    def start(self, work: Callable[[], bool]) -> None:
        """See :meth:`ITurns.start`."""
        self._work = work

    def wake(self) -> None:
        """See :meth:`ITurns.wake`."""
        if not self.paused:
            self.turn()

    def turn(self) -> None:
        """Do all that waits."""
        if self._working:
            return
        self._working = True
        try:
            while self._work():
                pass
        finally:
            self._working = False

    def hand_back(self, function: Callable[[], None]) -> None:
        """See :meth:`ITurns.hand_back`."""
        function()

    def stop(self) -> None:
        """See :meth:`ITurns.stop`."""
        self.turn()


@dataclass(slots=True, eq=False)
class Operation:
    """One change, its caller's Deferred, and how it ended."""

    function: Callable[[sqlite3.Connection], Any]
    done: Deferred[Any]
    result: Any = None
    error: Exception | None = field(default=None)


class GroupWriter:
    """Does operations in order, many in one transaction.

    ``connect`` opens the database, in the writer's thread; ``afterwards`` is
    called there between transactions, when their callers know how they ended: as
    long as it takes, nothing is written.  ``panic`` is told, on the reactor thread,
    what such functions raise; the database is opened anew after it.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        turns: ITurns,
        afterwards: Callable[[sqlite3.Connection], None] = lambda connection: None,
        panic: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._connect = connect
        self._turns = turns
        self._afterwards = afterwards
        self._panic = panic
        self._lock = threading.Lock()
        self._waiting: list[Operation] = []
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._between: Callable[[sqlite3.Connection], object] | None = None
        turns.start(self._work)

    def run(self, function: Callable[[sqlite3.Connection], T]) -> Awaitable[T]:
        """Let ``function`` change the database as a part of the next transaction.

        It may be called again after a failure of the group, so it must have no
        other effect.

        :raises TemporaryFailure: nothing of it is on stable storage.
        """
        from twisted.internet.defer import Deferred, fail

        if self._closed:
            return fail(TemporaryFailure(IO_ERROR, "the spool is closed"))
        operation = Operation(function, Deferred(_not_cancelled))
        with self._lock:
            self._waiting.append(operation)
        self._turns.wake()
        return operation.done

    def between(self, function: Callable[[sqlite3.Connection], object]) -> None:
        """Call ``function`` once in the writer's thread before its next transaction.

        For what needs the database without a writer: the only writer would
        hardly ever leave it to another connection.
        """
        self._between = function

    @property
    def interrupted(self) -> bool:
        """Whether a function of :meth:`between` has yet to be called."""
        return self._between is not None

    @property
    def idle(self) -> bool:
        """Whether nothing waits for the next transaction."""
        return not self._waiting

    def close(self) -> None:
        """Finish what waits and close the database."""
        if not self._closed:
            self._closed = True
            self._turns.stop()
            self._disconnect()

    # --- in the writer's thread ---

    def _work(self) -> bool:
        """Do one transaction; tell whether more operations wait."""
        with self._lock:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        if not batch:
            return False
        self._do(batch)
        self._turns.hand_back(lambda: _finish(batch))
        if self._connection is not None:
            self._beside(self._afterwards, self._connection)
        return bool(self._waiting)

    def _do(self, batch: list[Operation]) -> None:
        try:
            self._transaction(batch)
        except Exception as error:
            alone = len(batch) == 1 or _is_io_error(error)
            if not self._roll_back() or _is_io_error(error):
                self._disconnect()
            if alone:
                for operation in batch:
                    operation.error = _failure(error)
                return
            for operation in batch:
                self._do([operation])

    def _transaction(self, batch: list[Operation]) -> None:
        connection = self._connected()
        if self._between is not None:
            between, self._between = self._between, None
            self._beside(between, connection)
            connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        for kind, operations in _by_kind(batch):
            if kind is None:
                for operation in operations:
                    operation.result = operation.function(connection)
                continue
            results = kind(connection, [operation.function for operation in operations])
            for operation, result in zip(operations, results, strict=True):
                operation.result = result
        connection.execute("COMMIT")

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _beside(
        self, function: Callable[[sqlite3.Connection], object], connection: sqlite3.Connection
    ) -> None:
        """Call what is no transaction's part: its error costs no transaction, nor the thread."""
        try:
            function(connection)
        except Exception as error:
            text = f"spool: checkpoint failed: {error!r}"
            self._turns.hand_back(lambda: self._panic(text))
            self._disconnect()

    def _roll_back(self) -> bool:
        """Undo a failed transaction; False if the connection cannot be used any more."""
        if self._connection is None:
            return True
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            return False
        return True

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it is given up because it does not work
                connection.close()


Kind = Callable[[sqlite3.Connection, list[Any]], list[Any]]


def _by_kind(batch: list[Operation]) -> Iterator[tuple[Kind | None, list[Operation]]]:
    """Group operations that are done together (a static method ``together`` of their function).

    Operations of one message never wait side by side: whoever changes it waits for
    each.  So the order between groups is free; within a group it is kept.
    """
    groups: dict[Kind | None, list[Operation]] = {}
    for operation in batch:
        groups.setdefault(getattr(operation.function, "together", None), []).append(operation)
    yield from groups.items()


def _finish(batch: list[Operation]) -> None:
    """Resume the callers; on the reactor thread."""
    for operation in batch:
        if operation.error is not None:
            operation.done.errback(operation.error)
        else:
            operation.done.callback(operation.result)


def _not_cancelled(done: Deferred[Any]) -> None:
    """A write cannot be taken back: its caller is gone, it is done nevertheless."""


def _primary(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_io_error(error: BaseException) -> bool:
    return isinstance(error, OSError) or _primary(error) == sqlite3.SQLITE_IOERR


def _failure(error: Exception) -> TemporaryFailure:
    """Return what the caller is told of an error of the database (or of a bug)."""
    if isinstance(error, TemporaryFailure):
        return error
    status = NO_SPACE if _primary(error) == sqlite3.SQLITE_FULL else IO_ERROR
    failure = TemporaryFailure(status, f"spool: {error}")
    failure.__cause__ = error
    return failure

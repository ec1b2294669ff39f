"""Rates of senders, and when something was last seen: the past, for ACLs (44.38, 44.39).

All workers share one database; each measurement is one transaction in a thread,
so that a limit means the whole server.  What waits together is written together.
The content is losable.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import IClock, RateEvent, RateMode
from mailsrv.net.threads import IThreads
from mailsrv.spool.files import make_folder, make_private
from mailsrv.spool.sqlite import open_database

T = TypeVar("T")

FORGOTTEN = 20  # periods after which the rest of a rate is nothing
SEEN_KEPT = 14 * 86400.0  # seconds that a sighting is kept; the default refresh is 10 days
SWEEP = 3600.0  # seconds between removals of what is too old

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rate (
    key TEXT PRIMARY KEY, at REAL NOT NULL, rate REAL NOT NULL, epoch REAL NOT NULL,
    until REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rate_event (
    key TEXT NOT NULL, event TEXT NOT NULL, PRIMARY KEY (key, event)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Rate:
    """What is kept of one key: the rate at a time, and the events of the period since ``epoch``."""

    at: float
    rate: float
    epoch: float
    events: set[str] = field(default_factory=set)


def measured(kept: Rate | None, event: RateEvent, now: float) -> tuple[float, Rate | None]:
    """Return the rate with an event, and what is to be kept; None: nothing changes.

    The rate is an exponential moving average: with i = interval / period and
    a = e^-i it is (1 - a) * count / i + a * before, and never less than the
    count itself, so that the first event after a silence is what it is.  Above
    the limit a leaky bucket keeps what it had.
    """
    count = 0.0 if event.mode is RateMode.READONLY else event.count
    epoch, events = now, set[str]()
    if kept is not None and now < kept.epoch + event.period:
        epoch, events = kept.epoch, kept.events
    if event.unique is not None and event.mode is not RateMode.READONLY:
        if event.unique in events:
            count = 0.0
        else:
            events = events | {event.unique}
    if kept is None:
        rate = count
    else:
        interval = max(now - kept.at, 1e-9) / event.period
        decay = math.exp(-interval)
        rate = -math.expm1(-interval) * count / interval + decay * kept.rate
        rate = max(rate, count)
    within = rate < event.limit
    if event.mode is RateMode.STRICT or (event.mode is RateMode.LEAKY and within):
        return rate, Rate(now, rate, epoch, events)
    return rate, None


class MemoryRates:
    """Provides ``IRates`` for one process."""

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._rates: dict[str, Rate] = {}
        self._seen: dict[str, float] = {}

    async def measure(self, event: RateEvent) -> float:
        """See :meth:`IRates.measure`."""
        rate, kept = measured(self._rates.get(event.key), event, self._clock.seconds())
        if kept is not None:
            self._rates[event.key] = kept
        return rate

    async def seen(self, key: str) -> float | None:
        """See :meth:`IRates.seen`."""
        return self._seen.get(key)

    async def set_seen(self, key: str, at: float) -> None:
        """See :meth:`IRates.set_seen`."""
        self._seen[key] = at


class SqliteRates:
    """Provides ``IRates`` for all workers; the database is opened when it is first asked."""

    def __init__(self, clock: IClock, path: Path | str, threads: IThreads) -> None:
        self._clock = clock
        self._path = Path(path)
        self._threads = threads
        self._connection: sqlite3.Connection | None = None
        self._swept = clock.seconds()

    async def measure(self, event: RateEvent) -> float:
        """See :meth:`IRates.measure`."""
        return await self._run(lambda to: _measure(to, event, self._clock.seconds()))

    async def seen(self, key: str) -> float | None:
        """See :meth:`IRates.seen`."""

        def read(connection: sqlite3.Connection) -> float | None:
            row = connection.execute("SELECT at FROM seen WHERE key = ?", (key,)).fetchone()
            return None if row is None else float(row[0])

        return await self._run(read)

    async def set_seen(self, key: str, at: float) -> None:
        """See :meth:`IRates.set_seen`."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO seen VALUES (?, ?)", (key, at))

        await self._run(write)

    async def close(self) -> None:
        """Close the database."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._threads.run(connection.close)

    async def _run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function in a transaction, in the thread.

        :raises TemporaryFailure: the database cannot be used.
        """
        try:
            return await self._threads.run(self._transaction, function, self._clock.seconds())
        except (sqlite3.Error, OSError) as error:
            raise TemporaryFailure(reason=f"ratelimit database not available: {error}") from error

    def _transaction(self, function: Callable[[sqlite3.Connection], T], now: float) -> T:
        connection = self._connection = self._connection or self._opened()
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = function(connection)
            if now >= self._swept + SWEEP:
                self._swept = now
                _sweep(connection, now)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        return result

    def _opened(self) -> sqlite3.Connection:
        make_folder(self._path.parent)
        make_private(self._path)
        connection = open_database(self._path, durable=False)
        try:
            connection.execute("PRAGMA wal_autocheckpoint=1000")
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection


def _measure(connection: sqlite3.Connection, event: RateEvent, now: float) -> float:
    query = "SELECT at, rate, epoch FROM rate WHERE key = ?"
    row = connection.execute(query, (event.key,)).fetchone()
    kept = None if row is None else Rate(*row)
    one = "SELECT event FROM rate_event WHERE key = ? AND event = ?"
    if kept is not None and event.unique is not None:  # of the events only that in hand matters
        kept.events = {text for (text,) in connection.execute(one, (event.key, event.unique))}
    rate, new = measured(kept, event, now)
    if new is not None:
        values = (event.key, new.at, new.rate, new.epoch, now + FORGOTTEN * event.period)
        connection.execute("INSERT OR REPLACE INTO rate VALUES (?,?,?,?,?)", values)
        if kept is not None and new.epoch != kept.epoch:
            connection.execute("DELETE FROM rate_event WHERE key = ?", (event.key,))
        if event.unique is not None:
            pair = (event.key, event.unique)
            connection.execute("INSERT OR IGNORE INTO rate_event VALUES (?,?)", pair)
    return rate


def _sweep(connection: sqlite3.Connection, now: float) -> None:
    connection.execute("DELETE FROM rate WHERE until < ?", (now,))
    connection.execute("DELETE FROM rate_event WHERE key NOT IN (SELECT key FROM rate)")
    connection.execute("DELETE FROM seen WHERE at < ?", (now - SEEN_KEPT,))

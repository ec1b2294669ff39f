"""Retry hints in SQLite, shared by all workers; losable (design, decision 12).

Reads come from memory.  Writes are gathered and reach the disk in batches, in
a thread; what other workers wrote is read with each batch.  A database that
cannot be read is renamed aside and begun anew: hints cost time, never mail.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import IClock, RetryHint
from mailsrv.mail.status import Status
from mailsrv.net.threads import IThreads
from mailsrv.spool.files import SpoolError, make_folder, make_private
from mailsrv.spool.sqlite import open_database

INTERVAL = 2.0  # seconds from a change to its batch
REFRESH = 10.0  # seconds between looks at what other workers wrote
SWEEP = 3600.0  # seconds between looks for hints that are too old

_DAMAGED = (0, 1, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)  # 1: other tables

_SCHEMA = """
CREATE TABLE IF NOT EXISTS retry (
    key TEXT PRIMARY KEY, hint TEXT, changed REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS changed ON retry (changed);
"""


class SqliteHints:
    """Provides ``IHints``.

    ``expire`` is retry_data_expire in seconds; ``log`` reports what was lost;
    ``threads`` runs what blocks (one worker).  The constructor reads the
    database, and never fails because of what is in it.

    :raises SpoolError: it cannot be used for now.
    """

    def __init__(
        self,
        clock: IClock,
        path: Path | str,
        threads: IThreads,
        log: Callable[[str], None],
        *,
        expire: float = 7 * 86400,
    ) -> None:
        self._clock = clock
        self._path = Path(path)
        self._threads = threads
        self._log = log
        self._expire = expire
        self._retry: dict[str, RetryHint] = {}
        self._changed: dict[str, RetryHint | None] = {}
        self._claimed: set[str] = set()  # what others read of these is not what we know
        self._seen = 0.0  # the time up to which other workers' changes are known
        self._timer: Any = None
        self._swept = clock.seconds()
        self._busy = False
        self._closed = False
        make_folder(self._path.parent)
        self._connection = self._begin()
        self._arm(REFRESH)

    def retry(self, key: str) -> RetryHint | None:
        """See :meth:`IHints.retry`; what was last tried longer than ``expire`` ago is ignored."""
        hint = self._retry.get(key)
        return None if hint is None or self._expired(hint) else hint

    def set_retry(self, key: str, hint: RetryHint | None) -> None:
        """See :meth:`IHints.set_retry`."""
        if hint is None and key not in self._retry and key not in self._claimed:
            return  # as for nearly every delivery
        self._claimed.discard(key)
        if hint is None:
            if self._retry.pop(key, None) is None:
                return
        else:
            self._retry[key] = hint
        self._changed[key] = hint
        self._arm(INTERVAL)

    async def claim(self, key: str, until: float) -> bool:
        """See :meth:`IHints.claim`; a database that fails stops no mail."""
        hint = self._retry.get(key)
        if hint is None:
            return True
        ours = key in self._changed  # nobody else knows of it yet
        self._claimed.add(key)
        shown = _encode(replace(hint, next_try=until))
        now = self._clock.seconds()
        try:
            claimed, theirs = await self._threads.run(self._claim, key, hint, ours, shown, now)
        except (sqlite3.Error, TemporaryFailure) as error:
            self._log(f"hints: {error}")
            return True
        if not claimed:
            self._claimed.discard(key)
            self._take(key, theirs)
        return claimed or theirs is None

    def _claim(
        self, key: str, hint: RetryHint, ours: bool, shown: str | None, now: float
    ) -> tuple[bool, str | None]:
        """Write what others are to see, unless one of them has written meanwhile; in a thread."""
        connection = self._connection
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute("SELECT hint FROM retry WHERE key = ?", (key,)).fetchone()
            if row is not None and not ours:
                theirs = _decode(row[0])
                if theirs is None or theirs.last_tried > hint.last_tried or theirs.next_try > now:
                    return False, row[0]
            connection.execute("INSERT OR REPLACE INTO retry VALUES (?,?,?)", (key, shown, now))
        return True, None

    async def close(self) -> None:
        """Write what is not written yet, and close the database."""
        self._closed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        changed, self._changed = self._changed, {}
        try:
            await self._threads.run(self._exchange, changed, self._clock.seconds())
            await self._threads.run(self._connection.close)
        except (sqlite3.Error, TemporaryFailure) as error:
            self._log(f"hints: {error}")

    async def flush(self) -> None:
        """Write the changes, and take over those of other workers."""
        if self._busy:
            return
        self._busy = True
        self._sweep()
        changed, self._changed = self._changed, {}
        try:
            news = await self._threads.run(self._exchange, changed, self._clock.seconds())
            for key, hint in news:
                if key not in self._changed and key not in self._claimed:
                    self._take(key, hint)
        except (sqlite3.Error, TemporaryFailure) as error:
            self._log(f"hints: {error}")
            self._changed = {**changed, **self._changed}
        finally:
            self._busy = False
        self._arm(REFRESH)

    def _expired(self, hint: RetryHint) -> bool:
        return hint.last_tried < self._clock.seconds() - self._expire

    def _sweep(self) -> None:
        """Drop from memory what nobody will be told any more; the database does so by itself."""
        if self._clock.seconds() >= self._swept + SWEEP:
            self._swept = self._clock.seconds()
            self._retry = {key: h for key, h in self._retry.items() if not self._expired(h)}

    def _arm(self, delay: float) -> None:
        """See that a batch is written in ``delay`` seconds at the latest."""
        if self._closed:
            return
        timer = self._timer
        if timer is not None and timer.active():
            if timer.getTime() <= self._clock.seconds() + delay:
                return
            timer.cancel()
        self._timer = self._clock.callLater(delay, self._flush)

    def _flush(self) -> None:
        from twisted.internet.defer import Deferred

        Deferred.fromCoroutine(self.flush()).addErrback(
            lambda failure: self._log(f"hints: {failure.getErrorMessage()}")
        )

    def _take(self, key: str, text: str | None) -> None:
        hint = _decode(text)
        if hint is None:
            self._retry.pop(key, None)
        else:
            self._retry[key] = hint

    def _begin(self) -> sqlite3.Connection:
        """Open the database and read it; a damaged one is put aside.

        :raises SpoolError: it cannot be used for now (the disk is full, another has locked it).
        """
        try:
            return self._opened()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                raise SpoolError(f"cannot use {self._path}: {error}") from error
            aside = self._path.with_name(f"{self._path.name}.bad-{int(self._clock.seconds())}")
            self._log(f"hints: {self._path} cannot be used ({error}): renamed to {aside.name}")
            self._path.rename(aside)
            for suffix in ("-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            self._retry.clear()
        try:
            return self._opened()
        except sqlite3.Error as error:
            raise SpoolError(f"cannot use {self._path}: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        make_private(self._path)
        connection = open_database(self._path, durable=False)
        try:
            connection.execute("PRAGMA wal_autocheckpoint=1000")
            connection.executescript(_SCHEMA)
            for key, text, changed in connection.execute("SELECT * FROM retry"):
                self._take(key, text)
                self._seen = max(self._seen, changed)
        except BaseException:
            connection.close()
            raise
        return connection

    def _exchange(
        self, changed: dict[str, RetryHint | None], now: float
    ) -> list[tuple[str, str | None]]:
        """Write ``changed`` and return what is new; in a thread."""
        connection, since = self._connection, self._seen - INTERVAL
        with connection:
            if changed:
                connection.execute("BEGIN IMMEDIATE")
                rows = [(key, _encode(hint), now) for key, hint in changed.items()]
                connection.executemany("INSERT OR REPLACE INTO retry VALUES (?,?,?)", rows)
                connection.execute("DELETE FROM retry WHERE changed < ?", (now - self._expire,))
        query = "SELECT key, hint FROM retry WHERE changed > ?"
        news = connection.execute(query, (since,)).fetchall()
        self._seen = now
        return [row for row in news if row[0] not in changed]


def _encode(hint: RetryHint | None) -> str | None:
    """Return a hint as text; None for one that is forgotten."""
    if hint is None:
        return None
    status = hint.status
    return json.dumps(
        [
            hint.first_failed,
            hint.last_tried,
            hint.next_try,
            hint.error,
            hint.text,
            hint.expired,
            None if status is None else [status.code, status.subject, status.detail, status.text],
            hint.cutoff,
        ]
    )


def _decode(text: str | None) -> RetryHint | None:
    """Return the hint; None if it is forgotten or damaged."""
    if text is None:
        return None
    try:
        first, last, following, error, said, expired, status, *cutoff = json.loads(text)
        answer = None if status is None else Status(*status)
        return RetryHint(first, last, following, error, said, expired, answer, *cutoff)
    except (ValueError, TypeError):
        return None

"""The spool in SQLite: WAL, ``synchronous=FULL``, group commit (design, decision 4).

Layout: ``FOLDER/spool.sqlite3`` and ``FOLDER/bodies/``; ``FOLDER/lock`` is
locked by the owner for life.  Three connections: the writer's
(:mod:`mailsrv.spool.writer`), one for short reads, one for checkpoints, so that
neither holds up a commit.  ``queue`` has what changes, ``content`` what does
not: a settled recipient never rewrites a body.

A row that cannot be read is quarantined: it stays, is reported once, is listed
as such, counted at each start, and never due; when a body that was missing is
there again at a start, the message is as before.  A database that is none, or of
a newer mailsrv, is a :class:`SpoolError`; nothing is ever deleted because it
cannot be read.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import FURTHEST, HISTORY, IBodyWriter, QueueEntry
from mailsrv.mail.message import InlineBody, Message, Recipient
from mailsrv.mail.parts import made_of
from mailsrv.net.threads import IThreads, Threads
from mailsrv.spool.bodies import INLINE_LIMIT, IO_ERROR, Bodies, FileBody
from mailsrv.spool.changes import Insertion, Removal
from mailsrv.spool.codec import (
    Unreadable,
    decode,
    decode_done,
    decode_recipients,
    edited_envelope,
    encode_done,
    encode_envelope,
    encode_headers,
    whole_lines,
)
from mailsrv.spool.files import FolderLock, SpoolError, make_folder, make_private
from mailsrv.spool.writer import GroupWriter, ITurns, ThreadTurns

VERSION = 1
PAGE = 100  # messages of one short read
WAL_SIZE = 4 << 20  # octets: a checkpoint begins
WAL_LIMIT = 64 << 20  # octets: the writer itself empties it, and writes nothing until then
WATCHED = 16  # writes between looks at the size of the WAL
PATIENCE = 1.0  # seconds that it waits for a reader that keeps it from that

SCHEMA = """
CREATE TABLE queue (
    id TEXT PRIMARY KEY,
    content INTEGER NOT NULL,
    next_attempt REAL NOT NULL,
    received_at REAL NOT NULL,
    size INTEGER NOT NULL,
    frozen_at REAL NOT NULL,
    warned INTEGER NOT NULL,
    done TEXT NOT NULL,
    parts TEXT NOT NULL,
    history TEXT NOT NULL,
    body_file TEXT NOT NULL,
    body_size INTEGER NOT NULL,
    body_lines INTEGER NOT NULL,
    bad TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX due ON queue (next_attempt) WHERE frozen_at = 0 AND bad = '';
CREATE TABLE content (
    number INTEGER PRIMARY KEY,
    envelope BLOB NOT NULL,
    headers BLOB NOT NULL,
    body BLOB
);
"""
_MISSING = "its body {} is missing"
_FIRST = " ORDER BY next_attempt, id LIMIT ?"
_DUE = "SELECT {} FROM queue WHERE frozen_at = 0 AND bad = '' "


class SqliteSpool:
    """Provides ``ISpool``.

    ``panic`` reports damage; ``turns``, ``reads`` and ``files`` run what blocks
    (a thread each by default).  ``inline_limit`` is the size in octets above
    which a body becomes a file.

    :raises SpoolError: locked by another process, damaged, or of another version.
    """

    def __init__(
        self,
        reactor: Any,
        folder: Path | str,
        panic: Callable[[str], None],
        *,
        turns: ITurns | None = None,
        reads: IThreads | None = None,
        files: IThreads | None = None,
        inline_limit: int = INLINE_LIMIT,
        connect: Callable[[Path], sqlite3.Connection] | None = None,
        wal_limit: int = WAL_LIMIT,
    ) -> None:
        self.folder = Path(folder)
        self._panic = panic
        self._path = self.folder / "spool.sqlite3"
        self._open = connect or open_database
        self._reader: sqlite3.Connection | None = None
        self._checkpointer: sqlite3.Connection | None = None
        self._checkpointing = False
        self._unwatched = 0  # writes since the size of the WAL was looked at
        self._check_fault = ""  # what the last checkpoint failed of
        self._wal_limit = wal_limit
        self._closed = False
        make_folder(self.folder)
        self._lock = FolderLock(self.folder)
        try:
            self._number = self._prepare()
            self._reads = reads or Threads(reactor, "spool reader", workers=1, waiting=10000)
            self._files = files or Threads(reactor, "bodies", workers=4, waiting=10000)
            self._checks = reads or Threads(reactor, "spool checkpoint", workers=1)
            self._bodies = Bodies(self.folder / "bodies", self._files, self._spawn, inline_limit)
            self._compare_bodies()
        except BaseException:
            self._lock.release()
            raise
        self._writer = GroupWriter(
            lambda: self._open(self._path),
            turns or ThreadTurns(reactor),
            self._bound_wal,
            panic,
        )

    # --- ISpool ---

    def new_body(self) -> IBodyWriter:
        """See :meth:`ISpool.new_body`."""
        return self._bodies.new()

    async def store(self, message: Message, next_attempt: float) -> None:
        """See :meth:`ISpool.store`."""
        await self._storing([message], self._insertion(message, next_attempt))

    async def settle(
        self,
        id: str,
        done: Sequence[str],
        *,
        parts: Sequence[str] = (),
        next_attempt: float | None = None,
        reports: Sequence[Message] = (),
        history: str = "",
    ) -> None:
        """See :meth:`ISpool.settle`."""
        values = (
            encode_done(list(done)),
            encode_done(list(parts)),
            history.encode("ascii", "backslashreplace").decode("ascii"),
            -HISTORY,
            next_attempt,
            id,
        )
        insert = self._insertions(reports)

        def settle(connection: sqlite3.Connection) -> None:
            insert(connection)
            connection.execute(
                "UPDATE queue SET done = done || ?, parts = parts || ?,"
                " history = substr(history || ?, ?),"
                " next_attempt = coalesce(?, next_attempt) WHERE id = ?",
                values,
            )

        await self._storing(reports, settle)

    async def update(self, message: Message, next_attempt: float) -> None:
        """See :meth:`ISpool.update`."""
        values = (message.frozen_at, message.warned, next_attempt, message.id)

        def update(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE queue SET frozen_at = ?, warned = ?, next_attempt = ? WHERE id = ?", values
            )

        await self._write(update)

    async def edit(
        self, id: str, *, sender: str | None = None, added: Sequence[Recipient] = ()
    ) -> bool:
        """See :meth:`ISpool.edit`."""

        def edit(connection: sqlite3.Connection) -> bool:
            row = connection.execute(
                "SELECT number, envelope FROM queue JOIN content ON number = content WHERE id = ?",
                (id,),
            ).fetchone()
            if row is None:
                return False
            number, envelope = row
            changed = edited_envelope(envelope, sender, added)
            query = "UPDATE content SET envelope = ? WHERE number = ?"
            connection.execute(query, (changed, number))
            return True

        try:
            return bool(await self._write(edit))
        except Unreadable as error:
            await self._quarantine(id, str(error))
            return False

    async def remove(self, id: str, *, reports: Sequence[Message] = ()) -> None:
        """See :meth:`ISpool.remove`."""
        removal = Removal(id)
        insert = self._insertions(reports)

        def remove(connection: sqlite3.Connection) -> str:
            insert(connection)
            return removal(connection)

        file = await self._storing(reports, remove if reports else removal)
        if file:
            self._bodies.discard(file)

    async def load(self, id: str) -> Message | None:
        """See :meth:`ISpool.load`; a quarantined message is None, too."""
        try:
            message: Message | None = await self._read(self._load, id)
            return message
        except Unreadable as error:
            await self._quarantine(id, str(error))
            return None

    async def due(self, now: float, limit: int, skip: frozenset[str] = frozenset()) -> list[str]:
        """See :meth:`ISpool.due`."""
        found: list[str] = []
        for when, bound in (("<=", now), (">", now + FURTHEST)):  # each by the index
            if len(found) < limit:
                query = _DUE.format("id") + f"AND next_attempt {when} ?" + _FIRST
                rows = await self._read(self._select, query, (bound, limit + len(skip)))
                found += [id for (id,) in rows if id not in skip]
        return found[:limit]

    async def next_due(self, skip: frozenset[str] = frozenset()) -> float | None:
        """See :meth:`ISpool.next_due`."""
        query = _DUE.format("id, next_attempt") + "ORDER BY next_attempt LIMIT ?"
        rows = await self._read(self._select, query, (len(skip) + 1,))
        return next((time for id, time in rows if id not in skip), None)

    async def listing(self, start: str = "") -> AsyncIterator[QueueEntry]:
        """See :meth:`ISpool.listing`."""
        last = start[:-1]  # which is before it, and after every id that is before both
        while rows := await self._read(self._select, _LISTING, (last, PAGE)):
            last = rows[-1][0]
            for id, received, size, frozen, attempt, done, bad, history, envelope, parts in rows:
                if id < start:
                    continue
                quarantined = bad != ""
                try:
                    sender, recipients = decode_recipients(envelope)
                    settled, keys = decode_done(done), decode_done(parts)
                except Unreadable as error:
                    await self._quarantine(id, str(error))
                    quarantined, sender, recipients = True, "", ()
                    settled = keys = frozenset()
                left = tuple(r for r in recipients if r not in settled)
                gone = tuple(r for r in recipients if r in settled)
                yield QueueEntry(
                    id,
                    sender,
                    size,
                    received,
                    attempt,
                    frozen > 0,
                    left,
                    gone,
                    quarantined,
                    history.rstrip("\n").rpartition("\n")[2],
                    made_of(keys, recipients),
                )

    async def count(self) -> int:
        """See :meth:`ISpool.count`."""
        rows = await self._read(self._select, "SELECT count(*) FROM queue", ())
        return int(rows[0][0])

    async def history(self, id: str) -> str | None:
        """See :meth:`ISpool.history`."""
        rows = await self._read(self._select, "SELECT history FROM queue WHERE id = ?", (id,))
        return whole_lines(str(rows[0][0])) if rows else None

    async def close(self) -> None:
        """See :meth:`ISpool.close`."""
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        for threads in {id(t): t for t in (self._reads, self._checks, self._files)}.values():
            stop = getattr(threads, "stop", None)
            if stop is not None:
                await stop(10)
        for connection in (self._reader, self._checkpointer):
            if connection is not None:
                connection.close()
        self._lock.release()

    # --- writing ---

    async def _storing(
        self, messages: Sequence[Message], change: Callable[[sqlite3.Connection], Any]
    ) -> Any:
        """Write; the bodies of ``messages`` belong to the spool from now on, unless it fails."""
        owned = [m.body for m in messages if isinstance(m.body, FileBody) and not m.body.owned]
        for body in owned:
            body.owned = True
        try:
            return await self._write(change)
        except TemporaryFailure:  # not if the caller is cancelled: the write goes on
            for body in owned:
                self._bodies.discard(body.path.name)
            raise

    async def _write(self, change: Callable[[sqlite3.Connection], Any]) -> Any:
        result = await self._writer.run(change)
        self._watch_wal()
        return result

    def _insertions(self, messages: Sequence[Message]) -> Callable[[sqlite3.Connection], None]:
        inserts = [self._insertion(message, message.received_at) for message in messages]

        def insert(connection: sqlite3.Connection) -> None:
            for one in inserts:
                one(connection)

        return insert

    def _insertion(self, message: Message, next_attempt: float) -> Insertion:
        """Return what stores a message; its encoding is done here, off the writer's thread."""
        self._number += 1
        number, body = self._number, message.body
        try:
            content = (
                number,
                encode_envelope(message),
                encode_headers(message.headers),
                body.inline,
            )
        except UnicodeEncodeError as error:
            raise TemporaryFailure(IO_ERROR, f"not an octet string: {error}") from error
        row = (
            message.id,
            number,
            next_attempt,
            message.received_at,
            message.size,
            message.frozen_at,
            message.warned,
            body.path.name if isinstance(body, FileBody) else "",
            body.size,
            body.lines if isinstance(body, FileBody) else 0,
        )

        return Insertion(content, row)

    async def _quarantine(self, id: str, why: str) -> None:
        def mark(connection: sqlite3.Connection) -> int:
            query = "UPDATE queue SET bad = ? WHERE id = ? AND bad = ''"
            return connection.execute(query, (why, id)).rowcount

        if await self._write(mark):
            self._panic(f"spool: message {id} is quarantined: {why}")

    # --- reading ---

    async def _read(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await self._reads.run(function, *arguments)
        except (sqlite3.Error, OSError) as error:
            raise TemporaryFailure(IO_ERROR, f"cannot read the spool: {error}") from error

    def _select(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        if self._reader is None:
            self._reader = self._open(self._path)
        return self._reader.execute(query, values).fetchall()

    def _load(self, id: str) -> Message | None:
        rows = self._select(_LOAD, (id,))
        if not rows:
            return None
        received, size, frozen, warned, done, parts, file, length, lines, *content = rows[0]
        envelope, headers, body = content
        if envelope is None or (body is None and not file):
            raise Unreadable("its content is missing")
        if file:
            try:
                os.stat(self._bodies.folder / file)
            except FileNotFoundError:  # any other error may pass
                raise Unreadable(_MISSING.format(file)) from None
        return decode(
            id,
            envelope,
            headers,
            self._bodies.body(file, length, lines) if file else InlineBody(body),
            done=decode_done(done),
            parts=decode_done(parts),
            received_at=received,
            size=size,
            frozen_at=frozen,
            warned=warned,
        )

    # --- the start, and the WAL ---

    def _prepare(self) -> int:
        """Make or check the database; return the highest content number."""
        make_private(self._path)
        connection: sqlite3.Connection | None = None
        try:
            connection = self._open(self._path)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                connection.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version={VERSION};COMMIT;")
            elif version != VERSION:
                raise SpoolError(f"{self._path} is of version {version}, not {VERSION}")
            row = connection.execute("SELECT coalesce(max(number), 0) FROM content").fetchone()
            return int(row[0])
        except sqlite3.Error as error:
            raise SpoolError(
                f"cannot use the spool {self._path}: {error}; it was left as it is"
            ) from error
        finally:
            if connection is not None:
                connection.close()

    def _compare_bodies(self) -> None:
        """Sweep files without a message; quarantine messages without their file."""
        before, connection = time.time(), self._open(self._path)
        try:
            query = "SELECT body_file, id, bad FROM queue WHERE body_file != ''"
            held = connection.execute(query).fetchall()
            self._bodies.sweep({name for name, _, _ in held}, before)
            found = self._bodies.names()
            for name, id, bad in held:
                missing = _MISSING.format(name)
                if bad == "" and name not in found:
                    connection.execute("UPDATE queue SET bad = ? WHERE id = ?", (missing, id))
                    self._panic(f"spool: message {id} is quarantined: {missing}")
                elif bad == missing and name in found:
                    connection.execute("UPDATE queue SET bad = '' WHERE id = ?", (id,))
                    self._panic(f"spool: message {id} is no longer quarantined: its body is back")
            count = connection.execute("SELECT count(*) FROM queue WHERE bad != ''").fetchone()[0]
            if count:
                self._panic(f"spool: quarantined messages, which nobody gets (see -bp): {count}")
        except sqlite3.Error as error:
            raise SpoolError(f"cannot use the spool {self._path}: {error}") from error
        finally:
            connection.close()

    def _watch_wal(self) -> None:
        """Begin a checkpoint if the WAL has grown; on the reactor thread, after a commit."""
        self._unwatched += 1
        if self._unwatched < WATCHED or self._checkpointing or self._closed:
            return
        self._unwatched = 0
        if self._writer.interrupted or self._wal_size() < WAL_SIZE:
            return
        self._checkpointing = True
        self._spawn(self._check())

    async def _check(self) -> None:
        try:
            await self._checks.run(self._checkpoint)
            if not self._closed and self._writer.idle:
                self._writer.between(_truncate_wal)
                await self._writer.run(_shrink)
            self._check_fault = ""
        except (sqlite3.Error, TemporaryFailure) as error:
            if not self._closed and self._check_fault != str(error):  # it is tried at each commit
                self._check_fault = str(error)
                self._panic(f"spool: checkpoint failed: {error}")
        finally:
            self._checkpointing = False

    def _checkpoint(self) -> None:
        """Copy what it can of the WAL into the database, beside the writer."""
        if self._checkpointer is None:
            self._checkpointer = self._open(self._path)
        self._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _bound_wal(self, connection: sqlite3.Connection) -> None:
        """Empty a WAL that grows faster than checkpoints; in the writer's thread.

        Beside a reader that does not end (another program's) it only slows down.
        """
        if self._wal_size() > self._wal_limit:
            _truncate_wal(connection, PATIENCE)

    def _wal_size(self) -> int:
        try:
            return os.stat(f"{self._path}-wal").st_size
        except OSError:
            return 0

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        from twisted.internet.defer import Deferred

        Deferred.fromCoroutine(work).addErrback(
            lambda failure: self._panic(f"spool: {failure.getErrorMessage()}")
        )


def _shrink(connection: sqlite3.Connection) -> None:
    """Give some free pages back to the file system."""
    connection.execute("PRAGMA incremental_vacuum(256)").fetchall()


def _truncate_wal(connection: sqlite3.Connection, patience: float = 0.1) -> None:
    """Copy what the last checkpoint left, and empty the WAL; give up beside a reader."""
    connection.execute(f"PRAGMA busy_timeout={patience * 1000:.0f}")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.OperationalError:
        pass  # tried again
    finally:
        connection.execute("PRAGMA busy_timeout=30000")


_LOAD = (
    "SELECT received_at, size, frozen_at, warned, done, parts, body_file, body_size, body_lines,"
    " envelope, headers, body FROM queue LEFT JOIN content ON number = content"
    " WHERE id = ? AND bad = ''"
)
_LISTING = (
    "SELECT id, received_at, size, frozen_at, next_attempt, done, bad, substr(history, -1000),"
    " envelope, parts"
    " FROM queue LEFT JOIN content ON number = content WHERE id > ? ORDER BY id LIMIT ?"
)


def open_database(path: Path, *, durable: bool = True) -> sqlite3.Connection:
    """Open a database of the spool; ``durable``: a commit is on stable storage when it returns.

    :raises sqlite3.Error: it is none.
    """
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=30, cached_statements=64
    )
    try:
        for pragma in _pragmas(durable):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _pragmas(durable: bool) -> Iterable[str]:
    yield "auto_vacuum=INCREMENTAL"  # before the first table, else without effect
    yield "journal_mode=WAL"
    yield f"synchronous={'FULL' if durable else 'NORMAL'}"
    yield "wal_autocheckpoint=0"
    yield "temp_store=MEMORY"
    yield f"journal_size_limit={WAL_SIZE}"
    yield "trusted_schema=OFF"
    yield "cell_size_check=ON"

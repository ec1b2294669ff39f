"""Bodies: small ones stay in memory and in the database, large ones are files of the spool.

A file is written in pieces in a thread, and is on stable storage, entry of the
folder included, before ``finish`` is done; a failed fsync is never tried again,
the file is given up.  A file that no message holds is swept at the next start.
"""

from __future__ import annotations

import errno
import os
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from mailsrv.errors import TemporaryFailure
from mailsrv.mail.lines import count_lines
from mailsrv.mail.message import Body, InlineBody
from mailsrv.mail.status import Status
from mailsrv.net.threads import IThreads
from mailsrv.spool.files import SpoolError, make_folder, sync_folder

NO_SPACE = Status(452, 3, 1, "space shortage, please try later")
IO_ERROR = Status(451, 3, 0, "Temporary local problem - please try later")
INLINE_LIMIT = 256 * 1024  # octets: larger bodies become files
PIECE = 256 * 1024  # octets handed to a thread, or read, at a time
AHEAD = 4 * PIECE  # octets that may wait while a piece is being written


class FileBody:
    """A body in a file of the spool; ``owned`` once a message in the spool holds it."""

    inline: bytes | None = None

    def __init__(self, path: Path, size: int, lines: int, threads: IThreads) -> None:
        self.path = path
        self.size = size
        self.lines = lines
        self.owned = False
        self._threads = threads

    async def chunks(self) -> AsyncIterator[bytes]:
        """See :meth:`Body.chunks`; the file is open only while a piece is read."""
        offset = 0
        while offset < self.size:
            piece = await self._threads.run(self._read, offset)
            offset += len(piece)
            yield piece

    def _read(self, offset: int) -> bytes:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                piece = os.pread(descriptor, PIECE, offset)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise TemporaryFailure(IO_ERROR, f"cannot read {self.path}: {error}") from error
        if not piece:
            raise TemporaryFailure(IO_ERROR, f"{self.path} is shorter than it was")
        return piece


class Disk:
    """The system calls that may fail while a body is written."""

    def write(self, descriptor: int, octets: memoryview) -> int:
        """Write some of the octets; return how many.  :raises OSError: disk full, I/O error."""
        return os.write(descriptor, octets)

    def sync(self, descriptor: int) -> None:
        """Bring a file to stable storage.  :raises OSError: its content is lost."""
        os.fsync(descriptor)

    def sync_folder(self, path: Path) -> None:
        """See :func:`mailsrv.spool.files.sync_folder`."""
        sync_folder(path)


class Bodies:
    """The folder of body files of one spool.

    ``threads`` runs what blocks; ``spawn`` starts a coroutine that nobody awaits;
    ``disk`` is given by tests.
    """

    def __init__(
        self,
        folder: Path,
        threads: IThreads,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        inline_limit: int = INLINE_LIMIT,
        disk: Disk | None = None,
    ) -> None:
        make_folder(folder)
        self.disk = disk or Disk()
        self.folder = folder
        self.inline_limit = inline_limit
        self.threads = threads
        self.spawn = spawn

    def new(self) -> BodyWriter:
        """Begin to receive a body."""
        return BodyWriter(self)

    def body(self, name: str, size: int, lines: int) -> FileBody:
        """Return the body of a message in the spool."""
        body = FileBody(self.folder / name, size, lines, self.threads)
        body.owned = True
        return body

    def names(self) -> set[str]:
        """Return the names of all body files."""
        return set(os.listdir(self.folder))

    def sweep(self, held: set[str], before: float) -> int:
        """Remove files that no message holds and that are older than ``before``; return how many.

        :raises SpoolError: the folder cannot be read.
        """
        removed = 0
        try:
            for name in self.names() - held:
                path = self.folder / name
                if path.lstat().st_mtime < before:
                    path.unlink()
                    removed += 1
        except OSError as error:
            raise SpoolError(f"cannot sweep {self.folder}: {error}") from error
        return removed

    def discard(self, name: str) -> None:
        """Remove a body's file, in a thread; a failure is left to the next start's sweep."""
        self.spawn(self._discard(self.folder / name))

    async def _discard(self, path: Path) -> None:
        try:
            await self.threads.run(path.unlink, missing_ok=True)
        except (OSError, TemporaryFailure):
            pass  # swept at the next start


class BodyWriter:
    """Provides ``IBodyWriter``."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._pieces: list[bytes] = []
        self._waiting = 0  # octets in _pieces
        self._size = 0
        self._lines = 0
        self._file: _File | None = None
        self._writing: Any = None  # a Deferred: a piece is being written
        self._failure: BaseException | None = None  # of a piece that was written beside others
        self._body: FileBody | None = None
        self._ended = False

    def write(self, piece: bytes) -> Awaitable[None] | None:
        """See :meth:`IBodyWriter.write`."""
        if self._ended:
            raise TemporaryFailure(IO_ERROR, "the body was given up")
        self._pieces.append(piece)
        self._waiting += len(piece)
        self._size += len(piece)
        self._lines += count_lines(piece)
        if self._waiting <= (PIECE if self._file else self._bodies.inline_limit):
            return None
        if self._writing is not None and self._waiting <= AHEAD:
            return None
        return self._begin_writing()

    async def finish(self) -> Body:
        """See :meth:`IBodyWriter.finish`."""
        if self._ended:
            raise TemporaryFailure(IO_ERROR, "the body was given up")
        if self._file is None:
            self._ended = True
            return InlineBody(b"".join(self._pieces), self._lines)
        await self._written()
        await self._flush()
        await self._bodies.threads.run(self._file.finish)
        if self._ended:  # aborted meanwhile
            raise TemporaryFailure(IO_ERROR, "the body was given up")
        self._ended = True
        self._body = FileBody(self._file.path, self._size, self._lines, self._bodies.threads)
        return self._body

    def abort(self) -> None:
        """See :meth:`IBodyWriter.abort`."""
        file, self._file = self._file, None
        self._pieces = []
        self._ended = True
        if file is not None and not (self._body is not None and self._body.owned):
            self._bodies.spawn(self._give_up(file))

    async def _begin_writing(self) -> None:
        """Write what waits, beside the next pieces; wait for what is being written before it.

        :raises TemporaryFailure: an earlier piece could not be written.
        """
        from twisted.internet.defer import Deferred

        await self._written()
        if not self._ended:
            self._writing = Deferred.fromCoroutine(self._flush())
            self._writing.addErrback(self._note)

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing
        if self._failure is not None:
            raise self._failure

    def _note(self, failure: Any) -> None:
        self._failure = failure.value

    async def _flush(self) -> None:
        pieces, self._pieces, self._waiting = self._pieces, [], 0
        if self._file is None:
            self._file = _File(self._bodies.folder / secrets.token_hex(16), self._bodies.disk)
        await self._bodies.threads.run(self._file.write, pieces)

    async def _give_up(self, file: _File) -> None:
        try:
            await self._bodies.threads.run(file.discard)
        except (OSError, TemporaryFailure):
            pass  # swept at the next start


class _File:
    """One body file while it is written; every method runs in a thread, one at a time.

    A writer may be aborted while a piece is being written: the lock keeps the
    descriptor from being closed, and its number from being used again, under it.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self._disk = disk
        self._descriptor = -1
        self._discarded = False
        self._lock = threading.Lock()

    def write(self, pieces: list[bytes]) -> None:
        with self._lock, _Failing(self.path):
            if self._discarded:
                raise TemporaryFailure(IO_ERROR, "the body was given up")
            if self._descriptor < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                self._descriptor = os.open(self.path, flags, 0o600)
            view = memoryview(b"".join(pieces))
            while view:
                view = view[self._disk.write(self._descriptor, view) :]

    def finish(self) -> None:
        with self._lock, _Failing(self.path):
            if self._discarded:
                raise TemporaryFailure(IO_ERROR, "the body was given up")
            try:
                self._disk.sync(self._descriptor)
            finally:
                descriptor, self._descriptor = self._descriptor, -1
                os.close(descriptor)
            self._disk.sync_folder(self.path.parent)

    def discard(self) -> None:
        with self._lock:
            self._discarded = True
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            self.path.unlink(missing_ok=True)


class _Failing:
    """Turns errors of the file system into temporary failures."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, type: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise TemporaryFailure(status_of(error), f"cannot write {self._path}: {error}")


def status_of(error: OSError) -> Status:
    """Return what the sender is told of a file system's error."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return NO_SPACE if full else IO_ERROR

"""The drop folder: what ``mailsrv-sendmail`` leaves while no server answers.

The folder belongs to the server's user and group and has mode 3733: anybody may
put a file in, nobody but the server can list it or remove what is not theirs
(sticky), and each file gets the server's group (setgid), which may read it.  A
file holds what the socket would have carried; its owner is the caller.

A file is moved into a folder of the server's alone, under the id of the message
that it becomes, before the message is stored, and removed before the queue knows
of it: what a kill leaves is either not in the spool and read again, or there and
only removed.  One worker, whose spool it is, reads the folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from mailsrv.connection.local.frames import (
    DROP_SUFFIX,
    FRAME_LIMIT,
    REQUEST_LIMIT,
    UNFINISHED,
    FrameError,
    request_of,
)
from mailsrv.connection.local.message import MOST_COPIED, LocalMessage
from mailsrv.connection.local.sender import caller_of
from mailsrv.connection.parts import Parts
from mailsrv.errors import MailFailure
from mailsrv.wire.data import LineEnds

EVERY = 2.0  # seconds between two looks into the folder
HOLD = 60.0  # seconds that a stored message's plan waits for the end of its file
BAD = ".bad"
LEFT_AFTER = 86400.0  # seconds after which nobody writes an unfinished file any more
MODE = 0o3733
AT_ONCE = 1000  # files that one look takes
# Faults that are not the file's: it is tried again.
_MAY_PASS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EIO)


class Refused(Exception):
    """A file that is no submission; the text says why."""


def make_folder(path: str, uid: int = -1, gid: int = -1) -> None:
    """Make the drop folder, or give an existing one its owner and mode.

    :raises OSError: it cannot be made, or something else is there.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if uid >= 0 or gid >= 0:
            os.fchown(folder, uid, gid)
        elif os.fstat(folder).st_uid != os.geteuid():
            raise PermissionError(1, "belongs to another user", path)
        os.fchmod(folder, MODE)
    finally:
        os.close(folder)


@dataclass(slots=True)
class Dropped:
    """An open file of the folder, checked and locked."""

    file: int
    uid: int
    gid: int

    def frame(self, limit: int) -> bytes:
        """Read the next frame.

        :raises Refused: the file ends before it, or it is too long.
        """
        length = int.from_bytes(self._exactly(4), "big")
        if length > limit:
            raise Refused(f"a frame of {length} octets")
        return self._exactly(length)

    def again(self, limit: int, most: int) -> bytes:
        """Read the message once more, up to some octets of it, with the line ends of the wire.

        :raises Refused: as :meth:`frame`.
        """
        os.lseek(self.file, 0, os.SEEK_SET)
        self.frame(limit)
        text = b""
        while len(text) < most and (piece := self.frame(FRAME_LIMIT)):
            text += piece
        ends = LineEnds(mend=True)
        return ends.feed(text) + ends.finish()

    def _exactly(self, count: int) -> bytes:
        pieces = []
        while count:
            piece = os.read(self.file, count)
            if not piece:
                raise Refused("it is not complete")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Close it, which ends the lock."""
        os.close(self.file)


def open_dropped(folder: int, name: str, group: int) -> Dropped | None:
    """Open a file of the folder; None: another process has it, or it is gone.

    ``group`` is the group that files get which are made in the drop folder.

    :raises Refused: it is not what its owner made here: a link, a folder, writable by others.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        file = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(error.strerror or "cannot be opened") from error
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise Refused("it is no regular file")
        if found.st_nlink == 0:
            os.close(file)
            return None
        if found.st_nlink != 1:
            raise Refused("it has more than one name")
        if found.st_mode & 0o022:
            raise Refused("others may write it")
        if found.st_gid != group:
            raise Refused("it was not made here")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except Refused:
        os.close(file)
        raise
    return Dropped(file, found.st_uid, found.st_gid)


class DropReader:
    """Takes what is in the folder, at start and every two seconds.

    ``parts`` gives those in force; ``path`` is the folder, ``taken`` the one of the
    server alone, on the same file system; it is made if it is not there.
    """

    def __init__(self, parts: Callable[[], Parts], path: str, taken: str) -> None:
        self._parts = parts
        self._path = path
        self._taken = taken
        self._ignored: set[str] = set()  # what cannot even be put aside, told once
        self._timer: Any = None
        self._work: Deferred[None] | None = None
        self._session: LocalMessage | None = None
        self._stopped = False

    def start(self) -> None:
        """Look now, and again and again."""
        self._stopped = False
        self._look()

    async def stop(self) -> None:
        """End: a file that is being taken is finished or left as it was."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._work is not None:
            work = self._work
            done: Deferred[None] = Deferred()
            work.addBoth(lambda result: done.callback(None))
            if self._session is None or not self._session.storing:
                work.cancel()
            await done

    def _look(self) -> None:
        self._timer = None
        work = self._work = Deferred.fromCoroutine(self.look())

        def ended(result: Any) -> None:
            self._work = None
            error = getattr(result, "value", None)
            if isinstance(error, OSError):
                self._parts().log.panic(f"drop folder: {error}")
            elif error is not None and not (self._stopped and isinstance(error, CancelledError)):
                self._parts().log.panic(f"drop folder: {error!r}", error)
            if not self._stopped:
                self._timer = self._parts().clock.callLater(EVERY, self._look)

        work.addBoth(ended)

    async def look(self) -> None:
        """Take all files that are there now: first what was taken before, and not finished."""
        for path in (self._taken, self._path):
            names = await self._parts().services.in_thread(self._names, path)
            for name in names:
                if self._stopped:
                    return
                await self._file(path, name)

    def _names(self, path: str) -> list[str]:
        os.makedirs(self._taken, 0o700, exist_ok=True)
        names = []
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.endswith(DROP_SUFFIX):
                    names.append(entry.name)
                elif entry.name.endswith(UNFINISHED):
                    _remove_if_left(entry)
        return sorted(set(names) - self._ignored)[:AT_ONCE]

    async def _file(self, path: str, name: str) -> None:
        parts = self._parts()
        with _opened(self._path) as folder, _opened(self._taken) as taken:
            try:
                await self._one(folder, taken, name, fresh=path == self._path)
            except OSError as error:
                if error.errno in _MAY_PASS:
                    raise
                self._ignored.add(name)
                parts.log.panic(f"drop folder: {path}/{name}: {error.strerror}")

    async def _one(self, folder: int, taken: int, name: str, *, fresh: bool) -> None:
        parts = self._parts()
        at = folder if fresh else taken
        try:
            dropped = open_dropped(at, name, os.fstat(folder).st_gid)
        except Refused as refused:
            self._put_aside(at, taken, name, str(refused))
            return
        if dropped is None:
            return
        try:
            if fresh:
                at, old, name = taken, name, f"{parts.next_id()}{DROP_SUFFIX}"
                os.rename(old, name, src_dir_fd=folder, dst_dir_fd=taken)
                os.fsync(taken)
                os.fsync(folder)
            await self._take(taken, name, dropped, fresh=fresh)
        except (Refused, FrameError) as refused:
            self._give_up()
            self._put_aside(at, taken, name, str(refused))
        except MailFailure as failure:  # it stays, and is tried again
            self._give_up()
            parts.log.main(f"drop folder: {failure.explained}")
        finally:
            self._session = None
            dropped.close()

    def _give_up(self) -> None:
        if self._session is not None:
            self._session.drop_message()

    async def _take(self, taken: int, name: str, dropped: Dropped, *, fresh: bool) -> None:
        parts = self._parts()
        id = name.removesuffix(DROP_SUFFIX)
        if not fresh and await parts.spool.load(id) is not None:
            _remove(taken, name)  # stored before the kill
            return
        request = request_of(dropped.frame(REQUEST_LIMIT))
        if request.smtp:
            raise Refused("it holds no message")
        caller = await caller_of(parts, dropped.uid, dropped.gid, request.name)
        if caller is None:
            raise Refused(f"no user name found for uid {dropped.uid}")
        session = self._session = LocalMessage(parts, caller, request, id=id, hold=HOLD)
        await session.begin()
        while session.reception is not None:
            await session.take(dropped.frame(FRAME_LIMIT))
        if session.stored is not None:
            _remove(taken, name)
            parts.queue.submit(session.stored)
        elif session.answer.startswith(b"2"):
            _remove(taken, name)  # an ACL threw it away
        elif session.answer.startswith(b"4"):
            parts.log.main(f"drop folder: {_text(session.answer)}: tried again", id)
        elif await self._told(session, dropped):
            _remove(taken, name)
        else:
            self._put_aside(taken, taken, name, _text(session.answer))

    async def _told(self, session: LocalMessage, dropped: Dropped) -> bool:
        """Tell the sender that the message is refused, which they thought was sent."""
        original = dropped.again(REQUEST_LIMIT, MOST_COPIED)
        why = [f"  {line[4:]}" for line in session.answer.decode("latin-1").split("\r\n") if line]
        lines = ["A message that you sent while the mail server did not run was refused:", "", *why]
        lines += ["", "It has not been delivered to any recipients."]
        return await session.tell_sender("Mail failure - message refused", lines, original)

    def _put_aside(self, at: int, taken: int, name: str, why: str) -> None:
        """Keep a file that is refused, for the administrator, under a name that is not read.

        :raises OSError: it cannot be moved, a folder of another user for example.
        """
        parts = self._parts()
        parts.log.panic(f"drop folder: {name} refused: {why}")
        aside = f"{parts.next_id()}{BAD}"
        os.rename(name, aside, src_dir_fd=at, dst_dir_fd=taken)
        parts.log.main(f"drop folder: {name} is kept as {self._taken}/{aside}")


@contextmanager
def _opened(folder: str) -> Iterator[int]:
    """Have a folder open."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _remove_if_left(entry: os.DirEntry[str]) -> None:
    """Remove what a program that was killed half way has left: nobody was told that it is sent."""
    with suppress(OSError):
        if time.time() - entry.stat(follow_symlinks=False).st_mtime > LEFT_AFTER:
            os.unlink(entry.path)


def _remove(folder: int, name: str) -> None:
    os.unlink(name, dir_fd=folder)
    os.fsync(folder)


def _text(answer: bytes) -> str:
    return answer.decode("latin-1").partition("\r\n")[0]

"""Appending to a mailbox file (specification 26.3).  All of it blocks: it runs in a thread.

The file is locked (a lock file and fcntl, as the options say), checked, written and synced; an
error takes the file back to its old length, so that a mailbox never ends in half a message.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from mailsrv.errors import TemporaryFailure
from mailsrv.mail.status import Status
from mailsrv.transport.maildir import (
    OverQuota,
    Turns,
    failing,
    make_directories,
    sync_directory,
    write_all,
)

_COUNTER = itertools.count()
_FULL = Status(452, 2, 2, "mailbox is full")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A delivery's destination and how it is locked; times in seconds."""

    path: str
    host: str
    create_directory: bool = True
    directory_mode: int = 0o700
    mode: int = 0o600
    mode_fail_narrower: bool = True
    check_owner: bool = True
    check_group: bool = False
    allow_symlink: bool = False
    must_exist: bool = False
    use_lockfile: bool = True
    use_fcntl: bool = True
    use_flock: bool = False
    lockfile_mode: int = 0o600
    lockfile_timeout: float = 1800.0
    quota: int = 0  # octets, 0 = none


class Busy(Exception):
    """Somebody else holds the lock."""


class MailboxWriter:
    """One message on its way into a mailbox: made, written, then finished or aborted.

    Making it takes the locks and opens the file; ``size`` is about how many
    octets will come.  All methods block.

    :raises Busy: somebody else holds a lock: try again later.
    :raises TemporaryFailure: with the reason.
    """

    def __init__(self, mailbox: Mailbox, size: int = 0) -> None:
        self._path = mailbox.path
        self._turns = Turns(mailbox.path)
        self._held = ExitStack()
        with failing(mailbox.path), ExitStack() as held:
            folder = os.path.dirname(mailbox.path)
            if mailbox.create_directory and not os.path.isdir(folder):
                make_directories(folder, mailbox.directory_mode)
            held.enter_context(_lock_file(mailbox))
            self._handle = held.enter_context(_opened(mailbox))
            _lock_open_file(mailbox, self._handle)
            self._old = os.fstat(self._handle).st_size
            if mailbox.quota and self._old + size > mailbox.quota:
                raise OverQuota(_FULL, "mailbox is full (MTA-imposed quota exceeded)")
            self._held = held.pop_all()

    def write(self, piece: bytes) -> None:
        """Write the next octets."""
        with self._turns.turn():
            write_all(self._handle, piece)

    def finish(self) -> str:
        """Make the message durable, unlock the mailbox, return its path."""
        with self._turns.turn():
            os.fsync(self._handle)
        with self._turns.last() as is_open:
            if not is_open:  # aborted meanwhile
                raise TemporaryFailure(reason=f"{self._path}: the delivery was given up")
            self._held.close()
        return self._path

    def abort(self) -> None:
        """Take the mailbox back to what it was; harmless after ``finish``."""
        with self._turns.last() as is_open:
            if is_open:
                with self._held:
                    os.ftruncate(self._handle, self._old)


# --- locks ---------------------------------------------------------------------


@contextmanager
def _lock_file(mailbox: Mailbox) -> Iterator[None]:
    """Hold ``FILE.lock``, made through a link so that it works over NFS.

    :raises Busy: another one is there.
    """
    if not mailbox.use_lockfile:
        yield
        return
    lock = f"{mailbox.path}.lock"
    post = f"{lock}.{mailbox.host.replace('/', '_')}.{os.getpid()}.{next(_COUNTER)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(post, flags, mailbox.lockfile_mode))
    try:
        try:
            os.link(post, lock)
        except OSError as error:
            # Over NFS a link may have been made although the answer was lost.
            if os.stat(post).st_nlink != 2:
                _remove_stale(mailbox, lock)
                raise Busy("lock file") from error
    finally:
        os.unlink(post)
    try:
        yield
    finally:
        os.unlink(lock)


def _remove_stale(mailbox: Mailbox, lock: str) -> None:
    """Remove a lock file that a crash has left."""
    try:
        if time.time() - os.lstat(lock).st_mtime > mailbox.lockfile_timeout:
            os.unlink(lock)
    except FileNotFoundError:
        pass


def _lock_open_file(mailbox: Mailbox, handle: int) -> None:
    try:
        if mailbox.use_fcntl:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if mailbox.use_flock:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise Busy("fcntl") from error
        raise


# --- the file ------------------------------------------------------------------


@contextmanager
def _opened(mailbox: Mailbox) -> Iterator[int]:
    """Open the mailbox, made if it is missing, and checked both before and after."""
    handle = _open(mailbox)
    try:
        _check(mailbox, os.fstat(handle))
        yield handle
    finally:
        os.close(handle)


def _open(mailbox: Mailbox) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
    for _ in range(10):
        try:
            before = os.lstat(mailbox.path)
        except FileNotFoundError:
            if mailbox.must_exist:
                raise TemporaryFailure(reason=f"mailbox {mailbox.path} does not exist") from None
            create = flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            try:
                handle = os.open(mailbox.path, create, mailbox.mode)
            except FileExistsError:
                continue
            try:
                os.fchmod(handle, mailbox.mode)  # whatever the umask is
                sync_directory(os.path.dirname(mailbox.path))
            except BaseException:
                os.close(handle)
                raise
            return handle
        return _open_existing(mailbox, before, flags)
    raise TemporaryFailure(reason=f"mailbox {mailbox.path} comes and goes")


def _open_existing(mailbox: Mailbox, before: os.stat_result, flags: int) -> int:
    if stat.S_ISLNK(before.st_mode):
        if not mailbox.allow_symlink:
            raise TemporaryFailure(reason=f"mailbox {mailbox.path} is a symbolic link")
        _check_owner(mailbox, before)
        before = os.stat(mailbox.path)
    else:
        flags |= os.O_NOFOLLOW
    _check(mailbox, before)
    handle = os.open(mailbox.path, flags)
    after = os.fstat(handle)
    if (after.st_dev, after.st_ino) != (before.st_dev, before.st_ino):
        os.close(handle)
        raise TemporaryFailure(reason=f"mailbox {mailbox.path} changed while it was opened")
    if stat.S_IMODE(after.st_mode) & ~mailbox.mode:
        os.fchmod(handle, stat.S_IMODE(after.st_mode) & mailbox.mode)
    return handle


def _check(mailbox: Mailbox, found: os.stat_result) -> None:
    """Refuse what is no plain mailbox of ours (specification 26.3)."""
    path = mailbox.path
    if not stat.S_ISREG(found.st_mode):
        raise TemporaryFailure(reason=f"mailbox {path} is not a regular file")
    _check_owner(mailbox, found)
    if mailbox.check_group and found.st_gid != os.getegid():
        raise TemporaryFailure(reason=f"mailbox {path} has wrong gid ({found.st_gid})")
    if found.st_nlink > 1:  # a hard link made by another user of a sticky directory
        raise TemporaryFailure(reason=f"mailbox {path} has too many links ({found.st_nlink})")
    if mailbox.mode_fail_narrower and mailbox.mode & ~stat.S_IMODE(found.st_mode):
        raise TemporaryFailure(
            reason=f"mailbox {path} has the wrong mode 0{stat.S_IMODE(found.st_mode):o} "
            f"(0{mailbox.mode:o} expected)"
        )


def _check_owner(mailbox: Mailbox, found: os.stat_result) -> None:
    if mailbox.check_owner and found.st_uid != os.geteuid():
        raise TemporaryFailure(reason=f"mailbox {mailbox.path} has wrong uid ({found.st_uid})")

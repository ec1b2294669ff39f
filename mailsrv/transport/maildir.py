"""Delivery into a Maildir (specification 26.5).  All of it blocks: it runs in a thread.

A message is written to ``tmp``, synced, and linked to ``new``, whose folder is
synced too: success is reported only when a crash cannot take the message away.
Its name there is made of the message's id and the address, so that an attempt
after one whose success nobody recorded (a kill, a power cut) finds the file.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from mailsrv.errors import TemporaryFailure
from mailsrv.mail.status import LOCAL_PROBLEM, Status
from mailsrv.transport.maildirsize import Quota

_FULL = Status(452, 3, 1, "Insufficient storage")
_COUNTER = itertools.count()


class OverQuota(TemporaryFailure):
    """The mailbox would grow beyond its quota."""


@dataclass(frozen=True, slots=True)
class Maildir:
    """A delivery's destination: its directory, and how missing things are made."""

    directory: str
    host: str
    create: bool = True
    directory_mode: int = 0o700
    mode: int = 0o600
    tag: str = ""
    retries: int = 10
    quota: Quota = field(default_factory=Quota)
    name: str = ""  # of the file in ``new``, the same at each attempt; "" = any
    again: bool = False  # it may be in ``cur`` since another attempt


class Turns:
    """One call at a time for the open file of one message, and none after its last.

    A delivery may be aborted while a thread still writes: this keeps the descriptor
    from being closed, and its number from being used again, under the writing.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._over = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Work on the file.  :raises TemporaryFailure: it is closed, or the work failed."""
        with self._lock, failing(self._place):
            if self._over:
                raise TemporaryFailure(reason=f"{self._place}: the delivery was given up")
            yield

    @contextmanager
    def last(self) -> Iterator[bool]:
        """Close the file; gives whether it is still open."""
        with self._lock:
            before, self._over = self._over, True
            yield not before


class MaildirWriter:
    """One message on its way into a Maildir: made, written, then finished or aborted.

    ``size`` is about how many octets will come.  All methods block.

    :raises OverQuota: there is no room for them.
    :raises TemporaryFailure: with the reason.
    """

    def __init__(self, maildir: Maildir, now: float, size: int = 0) -> None:
        self._maildir = maildir
        self._turns = Turns(maildir.directory)
        with failing(maildir.directory):
            _prepare(maildir)
            self._there = _delivered(maildir)
            if not self._there and maildir.quota.exceeded(maildir.directory, size):
                raise OverQuota(_FULL, "mailbox is full (MTA-imposed quota exceeded)")
            self._name, self._handle = _create(maildir, now)
        self._temporary = os.path.join(maildir.directory, "tmp", self._name)

    def write(self, piece: bytes) -> None:
        """Write the next octets."""
        with self._turns.turn():
            write_all(self._handle, piece)

    def finish(self) -> str:
        """Make the message visible and durable; return its path."""
        with self._turns.turn():
            if self._there:
                sync_directory(os.path.dirname(self._there))
            else:
                os.fsync(self._handle)
                self._there = self._linked()
        self.abort()
        return self._there

    def _linked(self) -> str:
        new = os.path.join(self._maildir.directory, "new")
        final = os.path.join(new, (self._maildir.name or self._name) + self._maildir.tag)
        made = True
        try:
            os.link(self._temporary, final)  # unlike rename, it never replaces another message
        except FileExistsError:
            if not self._maildir.name:
                raise
            made = False  # by another attempt that came this far meanwhile
        try:
            sync_directory(new)
        except OSError:
            if made:
                os.unlink(final)
            raise
        return final

    def abort(self) -> None:
        """Remove what was written for the message; harmless after ``finish``."""
        with self._turns.last() as is_open:
            if is_open:
                os.close(self._handle)
                with suppress(OSError):
                    os.unlink(self._temporary)


@contextmanager
def failing(place: str) -> Iterator[None]:
    """Turn an error of the system into a temporary failure that names ``place``."""
    try:
        yield
    except OSError as error:
        code = error.errno
        status = _FULL if code in (errno.ENOSPC, errno.EDQUOT) else LOCAL_PROBLEM
        raise TemporaryFailure(status, f"{place}: {error.strerror or error}") from error


def _prepare(maildir: Maildir) -> None:
    """Make sure that the three folders are there."""
    for name in ("tmp", "new", "cur"):
        folder = os.path.join(maildir.directory, name)
        if not os.path.isdir(folder):
            if not maildir.create:
                raise TemporaryFailure(reason=f"{folder} does not exist")
            make_directories(folder, maildir.directory_mode)


def make_directories(path: str, mode: int) -> None:
    """Make a directory and those above it that are missing, all with ``mode``; each is synced."""
    parent = os.path.dirname(path.rstrip("/"))
    if parent and not os.path.isdir(parent):
        make_directories(parent, mode)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
        return
    os.chmod(path, mode)  # whatever the umask is
    sync_directory(parent or "/")


def sync_directory(path: str) -> None:
    """Put a directory's entries on stable storage."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _delivered(maildir: Maildir) -> str:
    """Return the path of the message's file if an attempt before has made it, else ""."""
    if not maildir.name:
        return ""
    final = os.path.join(maildir.directory, "new", maildir.name + maildir.tag)
    if os.path.lexists(final):
        return final
    if maildir.again:
        read = os.path.join(maildir.directory, "cur")
        for name in os.listdir(read):
            if name.startswith(maildir.name):  # flags follow
                return os.path.join(read, name)
    return ""


def host_part(host: str) -> str:
    """Return a host's name as a file name in a Maildir has it."""
    return host.replace("/", "\\057").replace(":", "\\072")


def _create(maildir: Maildir, now: float) -> tuple[str, int]:
    """Open a new file in ``tmp`` under a name that no delivery on any host has used."""
    host = host_part(maildir.host)
    for _ in range(max(maildir.retries, 1)):
        unique = f"H{int(now % 1 * 1e6)}P{os.getpid()}Q{next(_COUNTER)}"
        name = f"{int(now)}.{unique}.{host}"
        path = os.path.join(maildir.directory, "tmp", name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(path, flags, maildir.mode)
        except FileExistsError:
            continue
        os.fchmod(handle, maildir.mode)  # whatever the umask is
        return name, handle
    raise TemporaryFailure(reason=f"{maildir.directory}: no unique file name was found")


def write_all(handle: int, data: bytes) -> None:
    """Write all of ``data``: the system may take it in parts."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]

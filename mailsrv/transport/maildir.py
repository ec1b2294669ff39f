"""Delivery into a Maildir (specification 26.5).  All of it blocks: it runs in a thread.

A message is written to ``tmp``, synced, and renamed to ``new``, whose folder is
synced too: success is reported only when a crash cannot take the message away.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass

from mailsrv.errors import TemporaryFailure

_COUNTER = itertools.count()


@dataclass(frozen=True, slots=True)
class Maildir:
    """A delivery's destination: its directory, and how missing things are made.

    ``quota`` is in octets, 0 = none.
    """

    directory: str
    host: str
    create: bool = True
    directory_mode: int = 0o700
    mode: int = 0o600
    tag: str = ""
    retries: int = 10


def deliver(maildir: Maildir, pieces: Iterable[bytes], now: float) -> str:
    """Write a message and return its path.

    :raises TemporaryFailure: with the reason; nothing of the message is left then.
    """
    try:
        _prepare(maildir)
        return _write(maildir, pieces, now)
    except OSError as error:
        raise TemporaryFailure(reason=f"{maildir.directory}: {error.strerror or error}") from error


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


def _write(maildir: Maildir, pieces: Iterable[bytes], now: float) -> str:
    name, handle = _create(maildir, now)
    temporary = os.path.join(maildir.directory, "tmp", name)
    new = os.path.join(maildir.directory, "new")
    final = os.path.join(new, name + maildir.tag)
    try:
        try:
            os.fchmod(handle, maildir.mode)
            for piece in pieces:
                write_all(handle, piece)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.link(temporary, final)  # unlike rename, it never replaces another message
    except BaseException:
        os.unlink(temporary)
        raise
    try:
        sync_directory(new)
    except OSError:
        os.unlink(final)
        raise
    finally:
        os.unlink(temporary)
    return final


def _create(maildir: Maildir, now: float) -> tuple[str, int]:
    """Open a new file in ``tmp`` under a name that no delivery on any host has used."""
    host = maildir.host.replace("/", "\\057").replace(":", "\\072")
    for _ in range(max(maildir.retries, 1)):
        unique = f"H{int(now % 1 * 1e6)}P{os.getpid()}Q{next(_COUNTER)}"
        name = f"{int(now)}.{unique}.{host}"
        path = os.path.join(maildir.directory, "tmp", name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return name, os.open(path, flags, maildir.mode)
        except FileExistsError:
            continue
    raise TemporaryFailure(reason=f"no unique file name found in {maildir.directory}/tmp")


def write_all(handle: int, data: bytes) -> None:
    """Write all of ``data``: the system may take it in parts."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]

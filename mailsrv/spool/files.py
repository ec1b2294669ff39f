"""Folders, locks and space of the spool: the small things that must be done just so.

Everything is made with mode 0600 or 0700, without following a symbolic link in
the last component, and is closed when another program is executed.
"""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SpoolError(Exception):
    """The spool cannot be used at all: what is wrong and where, for the administrator."""


def make_folder(path: Path) -> None:
    """Make a folder of the spool with mode 0700 unless it is there.

    :raises SpoolError: it cannot be made, or is no folder, or a symbolic link.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            pass
        else:
            sync_folder(path.parent)
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise SpoolError(f"{path} is not a directory")
    except OSError as error:
        raise SpoolError(f"cannot make the spool directory {path}: {error.strerror}") from error


def sync_folder(path: Path) -> None:
    """Bring a folder's entries to stable storage.

    :raises OSError: treat the entries as not written; never try again on the same file.
    """
    descriptor = os.open(path, FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private(path: Path) -> None:
    """Make an empty file with mode 0600 unless it is there; refuse a symbolic link.

    :raises SpoolError: it cannot be opened for writing, or is not a plain file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise SpoolError(f"cannot open {path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SpoolError(f"{path} is not a plain file")
    finally:
        os.close(descriptor)


class SpoolInUse(SpoolError):
    """Another process has the spool."""

    def __init__(self, folder: Path | str) -> None:
        super().__init__(f"the spool {folder} is in use by another process")


class FolderLock:
    """An exclusive lock on a folder, held until :meth:`release` or the process's end.

    :raises SpoolError: it cannot be taken; :class:`SpoolInUse`: another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise SpoolError(f"cannot open {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise SpoolInUse(folder) from error

    def release(self) -> None:
        """Give the folder free; harmless when it is free already."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@dataclass(frozen=True, slots=True)
class Space:
    """What a partition has left for us ($spool_space, $spool_inodes); -1 = it does not say."""

    kilobytes: int
    inodes: int

    def enough(self, octets: int, inodes: int) -> bool:
        """Tell whether that much is left (check_spool_space, check_spool_inodes; 0 = no check)."""
        return not (octets and -1 < self.kilobytes * 1024 < octets) and not (
            inodes and -1 < self.inodes < inodes
        )


def space(path: Path | str) -> Space:
    """Measure the partition that ``path`` is on.

    :raises OSError: it is not there.
    """
    found = os.statvfs(path)
    inodes = found.f_favail if found.f_files else -1
    return Space(found.f_bavail * found.f_frsize // 1024, inodes)

"""Redirection lists in files: what ``file`` and ``:include:`` name (specification 22.1, 22.6).

All functions block.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from mailsrv.errors import TemporaryFailure

LARGEST = 16 << 20  # octets of a list
LARGEST_OF_A_USER = 256 << 10  # of one that is read as another user


@dataclass(frozen=True, slots=True)
class Demands:
    """What a file must be like; ``owners`` and ``groups`` are None where any will do."""

    owners: frozenset[int] | None = None
    groups: frozenset[int] | None = None
    modemask: int = 0o022
    ignore_eacces: bool = False
    ignore_enotdir: bool = False


@dataclass(frozen=True, slots=True)
class ListFile:
    """A file to read: one that ``file`` names, or one that is ``included``."""

    path: str
    demands: Demands = Demands()
    included: bool = False
    directory: str | None = None  # include_directory

    def read(self) -> str | None:
        """Return its contents; None if it is not there, and need not be.

        :raises TemporaryFailure: it cannot be had.
        """
        if self.included:
            return read_included(self.path, self.directory)
        return read_file(self.path, self.demands)


def read_file(path: str, demands: Demands) -> str | None:
    """Return the contents of the file of a ``file`` option; None if there is none.

    :raises TemporaryFailure: it cannot be read, or is not as it must be.
    """
    try:
        descriptor = _opened(path)
    except OSError as error:
        _absent(path, error, demands)
        return None
    try:
        _check(path, os.fstat(descriptor), demands)
        return _contents(path, descriptor)
    finally:
        os.close(descriptor)


def _opened(path: str) -> int:
    return os.open(path.encode("latin-1"), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def _absent(path: str, error: OSError, demands: Demands) -> None:
    """Return if it is as if there were no file.

    :raises TemporaryFailure: it is not.
    """
    if error.errno == errno.ENOENT:
        folder = os.path.dirname(path)
        if not demands.ignore_enotdir:  # a folder that is not there may not be mounted
            try:
                os.stat(folder.encode("latin-1"))
            except OSError as missing:
                if not (missing.errno == errno.EACCES and demands.ignore_eacces):
                    raise TemporaryFailure(
                        reason=f"failed to stat {folder}/. ({missing.strerror})"
                    ) from missing
        return
    if error.errno == errno.EACCES and demands.ignore_eacces:
        return
    if error.errno == errno.ENOTDIR and demands.ignore_enotdir:
        return
    raise TemporaryFailure(reason=f"failed to open {path}: {error.strerror}") from error


def _check(path: str, facts: os.stat_result, demands: Demands) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise TemporaryFailure(reason=f"{path} is not a regular file")
    if facts.st_mode & demands.modemask:
        raise TemporaryFailure(
            reason=f"bad mode ({facts.st_mode:07o}) for {path}: "
            f"{facts.st_mode & demands.modemask:03o} bit(s) unexpected"
        )
    if demands.owners is not None and facts.st_uid not in demands.owners:
        raise TemporaryFailure(reason=f"bad owner for {path}")
    if demands.groups is not None and facts.st_gid not in demands.groups:
        raise TemporaryFailure(reason=f"bad group for {path}")


def _contents(path: str, descriptor: int) -> str:
    """Read a whole file.

    :raises TemporaryFailure: it is too large, or cannot be read.
    """
    pieces: list[bytes] = []
    length = 0
    while True:
        try:
            piece = os.read(descriptor, 1 << 20)
        except OSError as error:
            raise TemporaryFailure(
                reason=f"failed to read from {path}: {error.strerror}"
            ) from error
        if not piece:
            return b"".join(pieces).decode("latin-1")
        pieces.append(piece)
        length += len(piece)
        if length > LARGEST:
            raise TemporaryFailure(reason=f"{path} is too large")


def read_included(path: str, directory: str | None) -> str:
    """Return the contents of an included file, which must be below ``directory`` if there is one.

    :raises TemporaryFailure: it cannot be had.
    """
    if not path.startswith("/") or "\0" in path:
        raise TemporaryFailure(reason=f'included file "{path}" is not an absolute path')
    if directory is not None and not _is_below(path, directory):
        raise TemporaryFailure(reason=f"included file {path} is not in directory {directory}")
    try:
        descriptor = _opened(path)
    except OSError as error:
        reason = f"failed to open included file {path}: {error.strerror}"
        raise TemporaryFailure(reason=reason) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TemporaryFailure(reason=f"included file {path} is not a regular file")
        return _contents(path, descriptor)
    finally:
        os.close(descriptor)


def _is_below(path: str, directory: str) -> bool:
    """Tell whether a file is below a directory, also when symbolic links are followed."""
    if not path.startswith(f"{directory.rstrip('/')}/"):
        return False
    base = os.path.realpath(directory.encode("latin-1")).rstrip(b"/") + b"/"
    return os.path.realpath(path.encode("latin-1")).startswith(base)

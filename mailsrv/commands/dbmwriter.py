"""Writing DBM files: SQLite in the schema of Python's ``dbm.sqlite3``, replaced in one step."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Mapping
from contextlib import closing

from mailsrv.errors import TemporaryFailure
from mailsrv.lookup._dbmfile import SQLITE_MAGIC

_SCHEMA = "CREATE TABLE IF NOT EXISTS Dict (key BLOB UNIQUE NOT NULL, value BLOB NOT NULL)"


def read_all(path: str) -> dict[bytes, bytes]:
    """Read a file that this module wrote; a missing or empty one has no records.

    :raises TemporaryFailure: it is of another format.
    :raises OSError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        return {}
    if not head:
        return {}
    if head != SQLITE_MAGIC:
        raise TemporaryFailure(
            reason=f"{path} is not a file of mailsrv-passwd or mailsrv-dbmbuild: rebuild it"
        )
    try:
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("SELECT key, value FROM Dict").fetchall()
    except sqlite3.Error as error:
        raise TemporaryFailure(reason=f"{path}: {error}") from None
    return {bytes(key): bytes(value) for key, value in rows}


def write_all(path: str, records: Mapping[bytes, bytes], mode: int = 0o640) -> None:
    """Replace the file at once, durably; mode and owner are kept, a new file gets ``mode``.

    :raises OSError: it cannot be written; then the old file is as it was.
    """
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=folder)
    os.close(descriptor)
    try:
        with closing(sqlite3.connect(temporary)) as connection, connection:
            connection.execute(_SCHEMA)
            connection.executemany("INSERT INTO Dict VALUES (?, ?)", records.items())
        _keep_attributes(path, temporary, mode)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(folder)
    except BaseException:
        os.unlink(temporary)
        raise


def _keep_attributes(path: str, temporary: str, mode: int) -> None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        os.chmod(temporary, mode)
        return
    own = os.stat(temporary)
    if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
        shutil.chown(temporary, status.st_uid, status.st_gid)
    os.chmod(temporary, stat.S_IMODE(status.st_mode))


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

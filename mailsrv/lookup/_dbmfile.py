"""Reading a record of a DBM file (specification 9.3).

The file is NAME, or NAME.db.  Its format is known by its first octets: an
SQLite database in the schema of Python's ``dbm.sqlite3`` (what
``mailsrv-dbmbuild`` and ``mailsrv-passwd`` write), a Berkeley DB hash or btree
where a binding is installed, GDBM where Python has it.  Each lookup opens the
file anew, in a thread: a file replaced meanwhile gives the old or new data.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from mailsrv.errors import TemporaryFailure
from mailsrv.lookup._files import unusable

_WHAT = "DBM lookup"
SQLITE_MAGIC = b"SQLite format 3\0"
_BERKELEY = (0x00061561, 0x00053162)  # hash, btree, at offset 12
_GDBM = (0x13579ACD, 0x13579ACE, 0x13579ACF)


def locate(path: str) -> str:
    """NAME, or NAME.db if there is no NAME.

    :raises TemporaryFailure: there is neither.
    """
    for name in (path, f"{path}.db"):
        if os.path.isfile(name):
            return name
    raise unusable(path, _WHAT, OSError(errno.ENOENT, os.strerror(errno.ENOENT)))


def _format(path: str) -> str:
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError as error:
        raise unusable(path, _WHAT, error) from None
    if head == SQLITE_MAGIC:
        return "sqlite"
    for order in ("little", "big"):
        if int.from_bytes(head[12:16], order) in _BERKELEY:
            return "berkeley"
        if int.from_bytes(head[:4], order) in _GDBM:
            return "gdbm"
    return "unknown"


def _from_sqlite(path: str, key: bytes) -> bytes | None:
    import sqlite3
    from urllib.parse import quote

    try:
        # immutable: the file is replaced, never written in place; so no lock is needed
        uri = f"file:{quote(path, encoding='latin-1')}?mode=ro&immutable=1"
        connection = sqlite3.connect(uri, uri=True)
        try:
            row = connection.execute(
                "SELECT value FROM Dict WHERE key = CAST(? AS BLOB)", (key,)
            ).fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise TemporaryFailure(reason=f"{path}: {error}; rebuild with mailsrv-dbmbuild") from None
    return None if row is None else bytes(row[0])


def _from_berkeley(path: str, key: bytes) -> bytes | None:
    try:
        from berkeleydb import db
    except ImportError:
        try:
            from bsddb3 import db
        except ImportError:
            raise _no_binding(path, "Berkeley DB (python3-berkeleydb)") from None
    database = db.DB()
    try:
        database.open(os.fsencode(path), flags=db.DB_RDONLY)
        value: bytes | None = database.get(key)
        return value
    except db.DBError as error:
        raise TemporaryFailure(reason=f"{path}: {error}") from None
    finally:
        database.close()


def _from_gdbm(path: str, key: bytes) -> bytes | None:
    try:
        import _gdbm
    except ImportError:
        raise _no_binding(path, "GDBM (python3-gdbm)") from None
    try:
        with _gdbm.open(path, "ru") as database:
            return database.get(key)
    except _gdbm.error as error:
        raise TemporaryFailure(reason=f"{path}: {error}") from None


def _no_binding(path: str, what: str) -> TemporaryFailure:
    return TemporaryFailure(
        reason=f"{path} is in a format that needs {what}: rebuild with mailsrv-dbmbuild"
    )


_READERS: dict[str, Callable[[str, bytes], bytes | None]] = {
    "sqlite": _from_sqlite,
    "berkeley": _from_berkeley,
    "gdbm": _from_gdbm,
}


def fetch(path: str, key: bytes) -> bytes | None:
    """Read one record.

    :raises TemporaryFailure: the file cannot be used.
    """
    found = locate(path)
    reader = _READERS.get(_format(found))
    if reader is None:
        raise TemporaryFailure(
            reason=f"{found} is in no known DBM format: rebuild with mailsrv-dbmbuild"
        )
    return reader(found, key)

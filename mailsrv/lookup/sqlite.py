"""``sqlite``: a query to a database in a file (specification 9.26).

The file is ``file=`` of the type, or what stands before the query, or the main
option ``sqlite_dbfile``.  Statements are run one after the other; their rows
follow each other.
"""

from __future__ import annotations

from typing import Any

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.paths import as_path
from mailsrv.lookup._backing import NO_BACKING, Backing
from mailsrv.lookup._files import Threads, in_thread
from mailsrv.lookup._rows import rows_text
from mailsrv.mail.taint import is_tainted

ABSOLUTE = 'absolute file name expected for "sqlite" lookup'
PROGRESS = 10_000  # steps of the database's machine between looks at the time
LONGEST = 60.0  # seconds that a query may take


class Lookup:
    """``sqlite`` lookups."""

    backed = True

    def __init__(self, threads: Threads | None = None, backing: Backing = NO_BACKING) -> None:
        self._threads = threads
        self._backing = backing

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Run a query (ILookup)."""
        path, query = self._divided(key, options)
        timeout = float(self._backing.setting("sqlite_lock_timeout", 5))
        return await in_thread(self._threads, _run, path, str(query), timeout)

    def _divided(self, query: str, options: str) -> tuple[str, str]:
        """Return the database's file and the query."""
        named = [o[5:] for o in options.split(",") if o.startswith("file=")]
        if named:
            return _checked(named[-1]), query
        if query.startswith("/"):
            path, _, rest = query.partition(" ")
            if is_tainted(query):
                raise TemporaryFailure(
                    reason=f'tainted file name "{path}" of an sqlite lookup: name the file with '
                    "sqlite,file=PATH or sqlite_dbfile"
                )
            return path, rest.lstrip(" ")
        path = str(self._backing.setting("sqlite_dbfile", ""))
        return _checked(path), query


def _checked(path: str) -> str:
    if not path.startswith("/"):
        raise TemporaryFailure(reason=ABSOLUTE)
    return as_path(path, "sqlite lookup")


def _run(path: str, query: str, timeout: float) -> str | None:
    """Run the statements of a query; blocks.

    :raises TemporaryFailure: the file cannot be used, or is locked for too long.
    """
    import sqlite3
    from time import monotonic

    ends = monotonic() + LONGEST
    try:
        connection = sqlite3.connect(path, timeout=timeout, isolation_level=None)
    except sqlite3.Error as error:
        raise TemporaryFailure(reason=f"sqlite: {path}: {error}") from None
    try:
        connection.text_factory = lambda octets: octets.decode("latin-1")
        connection.set_progress_handler(lambda: int(monotonic() > ends), PROGRESS)
        found: list[str] = []
        for statement in _statements(query):
            cursor = connection.execute(_utf8(statement))
            names = [column[0] for column in cursor.description or ()]
            text = rows_text(names, ([_text(v) for v in row] for row in cursor))
            found += [] if text is None else [text]
        return "\n".join(found) if found else None
    except sqlite3.OperationalError as error:
        if monotonic() > ends or "locked" in str(error) or "unable to open" in str(error):
            raise TemporaryFailure(reason=f"sqlite: {path}: {error}") from None
        return None  # Exim's lookup fails at an error in the query
    except (sqlite3.Error, sqlite3.Warning):
        return None
    finally:
        connection.close()


def _statements(query: str) -> list[str]:
    """Divide a query at the semicolons that end statements."""
    import sqlite3

    found, rest = [], ""
    for piece in query.split(";"):
        rest += piece + ";"
        if sqlite3.complete_statement(rest):
            found.append(rest)
            rest = ""
    return [text for text in [*found, rest.rstrip(";")] if text.strip(" \t\n;")]


def _utf8(text: str) -> str:
    """Return octets (a character each) as the text that they are, if they are UTF-8."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError):
        return text


def _text(value: Any) -> str | None:
    """Return a value of the database as octets: what C would make of it."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode("latin-1").partition("\0")[0]
    if isinstance(value, float):
        return f"{value:.15g}" if value != int(value) else f"{value:.1f}"
    return str(value).partition("\0")[0]

"""A large queue without hours of receiving it: one queued message's rows again and again."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from mailsrv.mail.msgid import encode

DAY = 86400.0  # seconds until the copies are due
YEAR = 365 * DAY  # their ids are so much older than those of a server that runs
Row = tuple[Any, ...]


def fill(databases: Sequence[Path], count: int) -> None:
    """Share ``count`` copies of a message that one of a stopped server's spools has among them."""
    message, content = next(found for found in map(_one, databases) if found)
    for database in databases:
        _copy(database, message, content, count // len(databases))


def _one(database: Path) -> tuple[Row, Row] | None:
    with closing(sqlite3.connect(database)) as connection:
        message = connection.execute("SELECT * FROM queue LIMIT 1").fetchone()
        if message is None:
            return None
        query = "SELECT * FROM content WHERE number = ?"
        return message, connection.execute(query, (message[1],)).fetchone()


def _copy(database: Path, message: Row, content: Row, count: int) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        query = "SELECT coalesce(max(number), 0) + 1 FROM content"
        first = connection.execute(query).fetchone()[0]
        for table, width, rows in (
            ("content", len(content), ((first + n, *content[1:]) for n in range(count))),
            ("queue", len(message), _queued(message, first, count)),
        ):
            marks = ",".join("?" * width)
            with connection:
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _queued(message: Row, first: int, count: int) -> Iterator[Row]:
    now = time.time()
    for n in range(count):
        second, fraction = divmod(n, 1000)
        id = f"{encode(int(now - YEAR) + second, 6)}-{encode(n, 6)}-{encode(fraction, 2)}"
        yield (id, first + n, now + DAY + n / 1000, *message[3:])

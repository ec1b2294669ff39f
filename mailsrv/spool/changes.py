"""What happens to every message, a row each: many of a kind in one transaction are one statement.

Each statement of Python's sqlite3 lets go of the interpreter and waits to have
it again, beside a reactor thread that is busy; so statements are what costs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

T = TypeVar("T")
_CONTENT = "INSERT INTO content VALUES ", "(?,?,?,?)"
_QUEUE = "INSERT INTO queue VALUES ", "(?,?,?,?,?,?,?,'','','',?,?,?,'')"
LARGEST = 64  # rows of one statement


@dataclass(frozen=True, slots=True)
class Insertion:
    """A new message: its rows of the tables ``content`` and ``queue``."""

    content: tuple[Any, ...]
    queue: tuple[Any, ...]

    def __call__(self, connection: sqlite3.Connection) -> None:
        """Insert it alone."""
        self.together(connection, [self])

    @staticmethod
    def together(connection: sqlite3.Connection, insertions: Sequence[Insertion]) -> list[None]:
        """Insert all of them."""
        for some in _portions(insertions):
            for (begin, values), rows in (
                (_CONTENT, [each.content for each in some]),
                (_QUEUE, [each.queue for each in some]),
            ):
                query = begin + ",".join([values] * len(some))
                connection.execute(query, tuple(chain.from_iterable(rows)))
        return [None] * len(insertions)


@dataclass(frozen=True, slots=True)
class Removal:
    """A message that is done: its rows go; the result is the name of its body's file, or ""."""

    id: str

    def __call__(self, connection: sqlite3.Connection) -> str:
        """Remove it alone."""
        return self.together(connection, [self])[0]

    @staticmethod
    def together(connection: sqlite3.Connection, removals: Sequence[Removal]) -> list[str]:
        """Remove all of them; the files' names are in their order."""
        files: dict[str, str] = {}
        for some in _portions(removals):
            ids, marks = [each.id for each in some], ",".join("?" * len(some))
            query = f"DELETE FROM queue WHERE id IN ({marks}) RETURNING id, content, body_file"  # noqa: S608 - question marks
            rows = connection.execute(query, ids).fetchall()
            files |= {id: file for id, _, file in rows}
            numbers = [number for _, number, _ in rows]
            for part in _portions(numbers):
                marks = ",".join("?" * len(part))
                connection.execute(f"DELETE FROM content WHERE number IN ({marks})", part)  # noqa: S608
        return [files.get(each.id, "") for each in removals]


def _portions(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut into lengths that are powers of two: so few statements are compiled, and then kept."""
    at, size = 0, LARGEST
    while at < len(items):
        while size > len(items) - at:
            size //= 2
        yield items[at : at + size]
        at += size

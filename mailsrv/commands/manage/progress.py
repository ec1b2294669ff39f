"""A line that tells how far a long work is, on a terminal's standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

FIRST = 1.0  # seconds before anything is told
EVERY = 0.2

T = TypeVar("T")


class Progress:
    """Tells ``what`` and a count, of ``total`` if that is not 0; nothing if it is no terminal."""

    def __init__(
        self,
        what: str,
        total: int,
        stream: TextIO,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._total = total
        self._stream = stream
        self._clock = clock
        self._count = 0
        self._next = clock() + FIRST if stream.isatty() else None
        self._shown = False

    def add(self, count: int = 1) -> None:
        """So many more are done."""
        self._count += count
        if self._next is not None and self._clock() >= self._next:
            self._next = self._clock() + EVERY
            of = f" of {self._total}" if self._total else ""
            self._stream.write(f"\r{self._what}: {self._count}{of} ")
            self._stream.flush()
            self._shown = True

    def end(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Give items, and count them."""
        try:
            for item in items:
                self.add()
                yield item
        finally:
            self.end()

"""The server's input as events, without IO: command lines, AUTH lines, DATA and BDAT.

:class:`Input` takes octets and gives one event at a time, so that its owner
decides after each command what the following octets are.  A line ends with
CRLF only.  What is buffered is bounded by the owner, which stops reading when
:attr:`Input.full`.

States::

    LINE --begin_data()--> DATA --end found--> LINE
    LINE --begin_chunk(n)--> CHUNK --n octets--> LINE
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mailsrv.wire.data import DotReader

MAX_COMMAND = 2048  # octets with CRLF; RFC 5321 4.5.3.1.4 says 512 and more with extensions
MAX_AUTH = 16384  # RFC 4954 4: 12288 octets of base64
MAX_BUFFER = 65536  # octets that wait for a command in hand


class Line(NamedTuple):
    """A line without its CRLF."""

    line: bytes


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line longer than allowed begins; its octets are thrown away."""


class Piece(NamedTuple):
    """Octets of a message; ``last``: the end of data, or of the chunk, was reached."""

    data: bytes
    last: bool


Event = Line | LongLine | Piece


class Input:
    """Turns octets into events; see the module."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0  # what is before this place in the buffer was given already
        self._dots: DotReader | None = None
        self._chunk: int | None = None
        self._skipping = False  # the rest of a line that was too long
        self.longest = MAX_COMMAND

    def receive(self, data: bytes) -> None:
        """Take octets from the peer."""
        if self._at < len(self._buffer):
            self._buffer = self._buffer[self._at :] + data
        else:
            self._buffer = data
        self._at = 0

    @property
    def waiting(self) -> bytes:
        """What the peer sent and no event has given yet."""
        return self._buffer[self._at :]

    @property
    def full(self) -> bool:
        """Tell whether reading must stop until events are taken."""
        return len(self._buffer) - self._at >= MAX_BUFFER

    @property
    def in_message(self) -> bool:
        """Tell whether the next octets belong to a message."""
        return self._dots is not None or self._chunk is not None

    def clear(self) -> None:
        """Forget what waits, for example what came in clear behind STARTTLS."""
        self._buffer = b""
        self._at = 0
        self._skipping = False

    def begin_data(self) -> None:
        """The next octets are a message that ends with a dot."""
        self._dots = DotReader()

    def begin_chunk(self, size: int) -> None:
        """The next ``size`` octets are a chunk (RFC 3030)."""
        self._chunk = size

    def next(self) -> Event | None:
        """Return the next event; None: more octets are needed."""
        if self._at == len(self._buffer) and self._chunk != 0:
            return None
        if self._dots is not None:
            return self._data()
        if self._chunk is not None:
            return self._chunk_piece()
        return self._line()

    def _take(self, end: int, next: int) -> bytes:
        taken = self._buffer[self._at : end]
        self._at = next
        return taken

    def _data(self) -> Event | None:
        assert self._dots is not None, "called in DATA only"
        waiting = self._take(len(self._buffer), len(self._buffer))
        if not waiting:
            return None
        data, rest = self._dots.feed(waiting)
        if rest is None:
            return Piece(data, False) if data else None
        self._at = len(self._buffer) - len(rest)
        self._dots = None
        return Piece(data, True)

    def _chunk_piece(self) -> Event | None:
        assert self._chunk is not None, "called in BDAT only"
        end = min(len(self._buffer), self._at + self._chunk)
        data = self._take(end, end)
        if self._chunk and not data:
            return None
        self._chunk -= len(data)
        last = self._chunk == 0
        if last:
            self._chunk = None
        return Piece(data, last)

    def _line(self) -> Event | None:
        end = self._buffer.find(b"\r\n", self._at)
        if self._skipping:
            if end < 0:
                keep = 1 if self._buffer.endswith(b"\r") else 0
                self._at = max(self._at, len(self._buffer) - keep)
                return None
            self._skipping = False
            self._at = end + 2
            end = self._buffer.find(b"\r\n", self._at)
        if end < 0:
            if len(self._buffer) - self._at < self.longest:
                return None
        elif end + 2 - self._at <= self.longest:
            line = Line(self._buffer[self._at : end])
            self._at = end + 2
            return line
        self._skipping = True
        return LongLine()

"""A message's octets as a client sends them: line ends, and the dots of DATA or chunks of BDAT."""

from __future__ import annotations

import re

from mailsrv.mail.lines import LARGE, even_lines


class LineEnds:
    """Makes every line end of a stream CRLF, whatever pieces it comes in (RFC 5321 2.3.8).

    A bare CR and a bare LF are line ends here: neither may leave us, because
    receivers do not agree about what they mean (SMTP smuggling).
    """

    _odd = re.compile(rb"\r\n|\r|\n")

    def __init__(self) -> None:
        self._held = b""  # a CR whose LF may come with the next piece

    def feed(self, data: bytes) -> bytes:
        """Return the next octets; a CR at the end waits for what follows."""
        data = self._held + data
        self._held = b""
        if data.endswith(b"\r"):
            data, self._held = data[:-1], b"\r"
        if len(data) > LARGE and even_lines(data) is not None:
            return data
        pairs = data.count(b"\r\n")
        if pairs != data.count(b"\n") or pairs != data.count(b"\r"):
            data = self._odd.sub(b"\r\n", data)
        return data

    def end(self) -> bytes:
        """Return what was held."""
        held, self._held = self._held, b""
        return b"\r\n" if held else b""


class DotStuffer:
    """Turns a message into the octets between 354 and the final reply (RFC 5321 4.5.2).

    Works on whole pieces; a dot is doubled at the start of every line, the
    first one and those that begin with a piece included.
    """

    def __init__(self) -> None:
        self._ends = LineEnds()
        self._at_start = True

    def feed(self, data: bytes) -> bytes:
        """Return the octets to send for the next piece."""
        return self._stuff(self._ends.feed(data))

    def _stuff(self, data: bytes) -> bytes:
        if not data:
            return b""
        first = b"." if self._at_start and data.startswith(b".") else b""
        self._at_start = data.endswith(b"\n")
        if b"." in data:  # as it is not in base64
            data = data.replace(b"\n.", b"\n..")
        return first + data if first else data

    def end(self) -> bytes:
        """Return the octets that end the message: a line end if it lacks one, and the dot."""
        rest = self._stuff(self._ends.end())
        return rest + (b".\r\n" if self._at_start else b"\r\n.\r\n")


class Chunker:
    """Turns a message into the chunks of BDAT (RFC 3030), each of ``least`` octets or more.

    Line ends are made as for DATA; dots are not touched.
    """

    def __init__(self, least: int = 1 << 18) -> None:
        self._ends = LineEnds()
        self._least = least
        self._held: list[bytes] = []
        self._size = 0
        self._last = b"\n"

    def feed(self, data: bytes) -> bytes | None:
        """Take the next octets; return a command with its chunk when there are enough of them."""
        self._keep(self._ends.feed(data))
        return self._chunk("") if self._size >= self._least else None

    def end(self) -> bytes:
        """Return the last command with its chunk."""
        self._keep(self._ends.end())
        if self._last != b"\n":
            self._keep(b"\r\n")
        return self._chunk(" LAST")

    def _keep(self, data: bytes) -> None:
        if data:
            self._held.append(data)
            self._size += len(data)
            self._last = data[-1:]

    def _chunk(self, mark: str) -> bytes:
        chunk = b"".join([f"BDAT {self._size}{mark}\r\n".encode(), *self._held])
        self._held, self._size = [], 0
        return chunk

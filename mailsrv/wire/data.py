"""The octets of a message on their way in, searched in whole buffers.

:class:`DotReader` ends at ``CRLF . CRLF`` and nothing else (RFC 5321 4.1.1.4),
and takes away the dots that were stuffed.  :class:`LineEnds` notes CR, LF and
NUL that stand alone, in DATA and BDAT alike: what other servers may take for
an end of data (SMTP smuggling).
"""

from __future__ import annotations

import re

from mailsrv.mail.lines import LARGE, even_lines

_END = b"\r\n.\r\n"
_OTHERS = bytes(set(range(256)) - set(b"\r\n\0"))  # all but CR, LF and NUL
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class DotReader:
    """Takes what follows ``354``; one object a message."""

    def __init__(self) -> None:
        # What may be the beginning of the end.  The end of line before the
        # first octet is imagined, so that a first line "." needs no case of its own.
        self._held = b"\r\n"
        self._imagined = True

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return the next octets of the message, and what follows its end (None: not there yet)."""
        buffer = self._held + data if self._held else data
        # A dot is searched for first, alone: base64 has none, and a single octet is found fast.
        first = buffer.find(b".")
        dot = buffer.find(b"\r\n.", max(first - 2, 0)) if first >= 0 else -1
        end = buffer.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            return self._content(buffer[: end + 2], dot), buffer[end + 5 :]
        keep = _overlap(buffer)
        self._held = buffer[len(buffer) - keep :]
        return self._content(buffer[: len(buffer) - keep], dot), None

    def _content(self, raw: bytes, dot: int) -> bytes:
        """Return content without its stuffed dots; there is none if ``dot`` is -1."""
        if not raw:
            return raw
        content = raw.replace(b"\r\n.", b"\r\n") if dot >= 0 else raw
        if self._imagined:
            self._imagined = False
            return content[2:]
        return content


def _overlap(buffer: bytes) -> int:
    """Length of the longest end of ``buffer`` that is a beginning of CRLF . CRLF."""
    for length in range(min(4, len(buffer)), 0, -1):
        if buffer.endswith(_END[:length]):
            return length
    return 0


class LineEnds:
    """Notes (or mends) ends of line that are not CRLF, wherever the pieces are cut.

    ``bad`` becomes True at the first CR or LF that stands alone, or NUL.  With
    ``mend`` such a CR or LF becomes CRLF and a NUL is dropped.
    """

    def __init__(self, mend: bool = False) -> None:
        self.bad = False
        self._mend = mend
        self._held = b""  # a CR at the end of a piece

    def feed(self, piece: bytes) -> bytes:
        """Take the next octets; return those that may go on."""
        if self._held:
            piece = self._held + piece
            self._held = b""
        if piece.endswith(b"\r"):
            self._held = b"\r"
            piece = piece[:-1]
        return self._checked(piece)

    def finish(self) -> bytes:
        """The message is complete: return what was held back."""
        piece, self._held = self._held, b""
        return self._checked(piece) if piece else piece

    def _checked(self, piece: bytes) -> bytes:
        if len(piece) > LARGE and even_lines(piece) is not None:
            return piece
        if len(piece.translate(None, _OTHERS)) == 2 * piece.count(b"\r\n"):
            return piece
        self.bad = True
        if not self._mend:
            return piece
        return _BARE.sub(b"\r\n", piece.replace(b"\0", b""))

"""Replies of an SMTP or LMTP server as its client reads them (RFC 5321 4.2)."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import NamedTuple

from mailsrv.mail.status import Status

MAX_LINE = 4096  # octets of one reply line; RFC 5321 4.5.3.1.5 says 512
MAX_LINES = 300  # lines of one reply


class ProtocolError(Exception):
    """The next hop broke the protocol; the connection cannot be used further."""


class Phase(enum.Enum):
    """What a reply answers; the value is the name that log lines use for it."""

    __hash__ = object.__hash__  # members are single objects; Enum's own costs a call each time

    GREETING = "initial connection"
    HELLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL FROM"
    RCPT = "RCPT TO"
    DATA = "DATA"
    CHUNK = "BDAT"
    FINAL = "end of data"
    RESET = "RSET"
    QUIT = "QUIT"


class Reply(NamedTuple):
    """A complete reply: its code and the texts of its lines, without code and end of line."""

    code: int
    lines: tuple[str, ...]

    @property
    def positive(self) -> bool:
        """Whether the command was done (2yz)."""
        return self.code // 100 == 2

    @property
    def refusal(self) -> bool:
        """Whether the command was refused, for now (4yz) or for good (5yz)."""
        return self.code // 100 in (4, 5)

    def __str__(self) -> str:
        """Return the reply as one printable line for a log: its lines with ``\\n`` between them."""
        marks = ["-"] * (len(self.lines) - 1) + [" "]
        lines = (f"{self.code}{m}{text}" for m, text in zip(marks, self.lines, strict=True))
        return printable("\\n".join(lines))

    @property
    def status(self) -> Status:
        """The reply with its enhanced status code, which is taken out of the text."""
        found = _ENHANCED.match(self.lines[0])
        if found is None or int(found[1]) != self.code // 100:
            return Status(self.code, 0, 0, printable("\n".join(self.lines), keep="\n"))
        prefix = found[0]
        texts = [line.removeprefix(prefix) for line in self.lines]
        return Status(
            self.code, int(found[2]), int(found[3]), printable("\n".join(texts), keep="\n")
        )


_ENHANCED = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: |$)", re.ASCII)
# Its CR is there, and neither another nor a NUL.
_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\r\0]*))?\r")
_UNPRINTABLE = re.compile(r"[^ -~\x80-\xff]")


def printable(text: str, keep: str = "") -> str:
    """Return ``text`` with control characters (but those in ``keep``) as ``\\ooo``."""
    return _UNPRINTABLE.sub(lambda m: m[0] if m[0] in keep else f"\\{ord(m[0]):03o}", text)


class ReplyParser:
    """Takes octets in pieces of any size and gives whole replies.

    Bounded: a line, a reply and the replies that wait may only be so large.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._code = 0
        self._lines: list[str] = []

    @property
    def partial(self) -> bool:
        """Whether a reply has begun that is not complete."""
        return bool(self._buffer or self._lines)

    def feed(self, data: bytes) -> Iterator[Reply]:
        """Give the replies that are complete with ``data``; to be taken to the end.

        :raises ProtocolError: what came (after those given) is no reply, or too much.
        """
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            reply = self._line(line)
            if reply is not None:
                yield reply
        if len(self._buffer) > MAX_LINE:
            raise ProtocolError("reply line too long")

    def _line(self, line: bytes) -> Reply | None:
        if len(line) > MAX_LINE:
            raise ProtocolError("reply line too long")
        found = _REPLY_LINE.fullmatch(line)
        if found is None:
            raise ProtocolError(f"malformed reply {_shown(line)}")
        digits, mark, text = found.groups(b"")
        code = int(digits)
        if self._lines and code != self._code:
            raise ProtocolError(f"malformed reply {_shown(line)}")
        self._code = code
        self._lines.append(text.decode("latin-1"))
        if mark == b"-":
            if len(self._lines) >= MAX_LINES:
                raise ProtocolError("reply has too many lines")
            return None
        reply = Reply(code, tuple(self._lines))
        self._lines = []
        return reply


def _shown(line: bytes) -> str:
    return '"' + printable(line[:80].decode("latin-1")) + '"'

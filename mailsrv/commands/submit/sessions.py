"""``-bs`` and ``-bS``: a program speaks SMTP, with an answer to each command or in a batch."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from mailsrv.commands.submit.places import Places
from mailsrv.commands.submit.server import FAILED, OK, TEMPFAIL, Unreachable, connect, tell
from mailsrv.connection.local.frames import Request


def interactive(request: Request, places: Places, stream: BinaryIO, out: BinaryIO) -> int:
    """``-bs``: the standard input and output are an SMTP client's; 0 if it ends with QUIT."""
    try:
        connected = connect(places.socket)
    except Unreachable as problem:
        out.write(b"421 no server: " + str(problem).encode("ascii", "replace") + b"\r\n")
        out.flush()
        return TEMPFAIL
    connected.settimeout(None)
    connected.sendall(request.octets())

    def upstream() -> None:
        fd = stream.fileno()
        try:
            while piece := os.read(fd, 65536):
                connected.sendall(re.sub(rb"(?<!\r)\n", b"\r\n", piece))
            connected.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server ended the session

    threading.Thread(target=upstream, daemon=True).start()
    said = b""
    try:
        while piece := connected.recv(65536):
            said = (said + piece)[-4096:]
            out.write(piece)
            out.flush()
    except ConnectionError:
        pass
    return OK if said.rstrip(b"\r\n").rpartition(b"\n")[2].startswith(b"221") else FAILED


class BatchError(Exception):
    """The batch cannot go on; the text says why."""


_ENVELOPE = re.compile(
    rb"(MAIL[ \t]+FROM|RCPT[ \t]+TO)[ \t]*:[ \t]*(<(?:\"(?:[^\"\\]|\\.)*\"|[^\">])*>|[^ \t]+)",
    re.IGNORECASE,
)
_RESET, _NOTHING = (b"HELO", b"EHLO", b"RSET"), (b"VRFY", b"EXPN", b"ETRN", b"HELP", b"NOOP")


@dataclass(slots=True)
class Batched:
    """A message of a batch: its envelope, and the message in the line ends of the system."""

    sender: str | None = None  # with "<>"
    recipients: list[str] = field(default_factory=list)
    text: bytes = b""


class Batch:
    """Reads what stands in a batch (49.11); ``number`` and ``line`` tell where it is."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.number = 0
        self.line = b""

    def messages(self) -> Iterator[Batched]:
        """Give the messages in order.

        :raises BatchError: a command is none, or comes at the wrong time.
        """
        found = Batched()
        for raw in self._stream:
            self.number += 1
            line = self.line = raw.rstrip(b"\r\n")
            verb = line[:4].upper()
            if verb == b"QUIT":
                return
            if verb in _RESET:
                found = Batched()
            elif verb == b"DATA":
                if not found.recipients:
                    raise BatchError("503 valid RCPT command must precede DATA")
                found.text = self._data()
                yield found
                found = Batched()
            elif line and verb not in _NOTHING:
                self._envelope(found, line, verb)

    def _envelope(self, found: Batched, line: bytes, verb: bytes) -> None:
        said = _ENVELOPE.match(line)
        if said is None:
            raise BatchError("501 syntax error" if verb in (b"MAIL", b"RCPT") else "500 unknown")
        address = said[2].decode("latin-1")
        address = address[1:-1] if address.startswith("<") else address
        if verb == b"MAIL":
            if found.sender is not None:
                raise BatchError("503 sender already given")
            found.sender = address or "<>"
        elif found.sender is None:
            raise BatchError("503 sender not yet given")
        else:
            found.recipients.append(address)

    def _data(self) -> bytes:
        """The lines of a message, up to the dot that must be there."""
        lines: list[bytes] = []
        for raw in self._stream:
            self.number += 1
            line = raw.rstrip(b"\r\n")
            if line == b".":
                return b"".join(lines)
            lines.append(line.removeprefix(b".") + b"\n")
        raise BatchError("unexpected end of file in a message")  # its rest never came


def batched(stream: BinaryIO, submit: Callable[[Batched], int]) -> int:
    """``-bS``: submit the messages of a batch; an error ends it (49.11).

    Returns 0 if all was accepted, 1 with some message taken before the error, else 2.
    """
    accepted = 0
    batch = Batch(stream)
    try:
        for message in batch.messages():
            if status := submit(message):
                tell(f"line {batch.number}: the message was not taken")
                break
            accepted += 1
        else:
            return OK
    except BatchError as problem:
        status = FAILED
        tell(f"line {batch.number}: {batch.line[:200].decode('latin-1')}\n{problem}")
    tell(f"{accepted} message(s) accepted before the error")
    if accepted:
        return 1
    return status if status == TEMPFAIL else 2

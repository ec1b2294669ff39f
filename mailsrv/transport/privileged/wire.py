"""What goes between a serving process and the privileged one.

A request is one datagram, a JSON object, together with one end of a stream
socket.  The stream carries the message: pieces, each behind its length in four
octets, and a length of 0 for "finish"; its end without one means "abort".
Back come two lines of JSON at most: that the file is open, and how it ended.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mailsrv.errors import TemporaryFailure
from mailsrv.mail.status import Status
from mailsrv.net.listfile import Demands, ListFile
from mailsrv.transport.command import Command
from mailsrv.transport.maildir import Maildir, OverQuota
from mailsrv.transport.maildirsize import Quota
from mailsrv.transport.mbox import Busy, Mailbox

LARGEST_REQUEST = 32 * 1024
LARGEST_PIECE = 1 << 20
LONGEST_LINE = 512 * 1024  # the output of a command is in it


@dataclass(frozen=True, slots=True)
class Request:
    """A delivery: of which transport, as whom, and where to.

    ``group`` is "" for the user's own; ``now`` is for a Maildir's file name,
    ``size`` about how many octets will come.
    """

    transport: str
    user: str
    group: str
    supplementary: bool  # initgroups: the user's further groups, too
    place: Mailbox | Maildir | Command | ListFile
    size: int = 0
    now: float = 0.0

    @property
    def path(self) -> str:
        """The file or directory, or the program."""
        if isinstance(self.place, Command):
            return self.place.program
        return self.place.directory if isinstance(self.place, Maildir) else self.place.path

    def packed(self) -> bytes:
        """Return it as a datagram."""
        values = {**asdict(self), "kind": type(self.place).__name__}
        return json.dumps(values, default=sorted).encode("ascii")

    @classmethod
    def unpacked(cls, datagram: bytes) -> Request:
        """Return the request of a datagram.

        :raises ValueError, TypeError, KeyError, AttributeError: it is none.
        """
        values = json.loads(datagram)
        kinds: dict[str, Any] = {"Mailbox": Mailbox, "Maildir": Maildir, "Command": Command,
                                 "ListFile": ListFile}  # fmt: skip
        kind, place = values.pop("kind"), values["place"]
        if kind == "Command":
            place["arguments"] = tuple(map(_text, place["arguments"]))
        if kind == "ListFile":
            place["demands"] = _demands(place["demands"])
        if kind == "Maildir":
            place["quota"] = Quota(**place["quota"])
            if "/" in _text(place["name"]) + _text(place["tag"]):
                raise ValueError("file name")
        values["place"] = kinds[kind](**place)
        request = cls(**values)
        for name in ("transport", "user", "group"):
            text = getattr(request, name)
            if not isinstance(text, str) or "\0" in text:
                raise ValueError(name)
        if not isinstance(request.path, str) or "\0" in request.path:
            raise ValueError("path")
        return request


def _demands(values: dict[str, Any]) -> Demands:
    for name in ("owners", "groups"):
        if values[name] is not None:
            values[name] = frozenset(map(int, values[name]))
    return Demands(**values)


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("argument")
    return value


def failure_line(error: BaseException) -> dict[str, Any]:
    """Return what is told of an error."""
    if isinstance(error, Busy):
        return {"error": "busy", "reason": str(error)}
    if isinstance(error, TemporaryFailure):
        kind = "quota" if isinstance(error, OverQuota) else "temporary"
        return {"error": kind, "reason": error.reason, "status": list(_fields(error.status))}
    return {"error": "temporary", "reason": f"{type(error).__name__}: {error}"}


def _fields(status: Status) -> tuple[int, int, int, str]:
    return status.code, status.subject, status.detail, status.text


def error_of(line: Mapping[str, Any]) -> Exception:
    """Return the exception that a line tells of."""
    reason = str(line.get("reason", ""))
    if line.get("error") == "busy":
        return Busy(reason)
    status = line.get("status")
    kind = OverQuota if line.get("error") == "quota" else TemporaryFailure
    if status is None:
        return kind(reason=reason)
    code, subject, detail, text = status
    return kind(Status(int(code), int(subject), int(detail), str(text)), reason)


def read_exactly(stream: socket.socket, count: int) -> bytes | None:
    """Read ``count`` octets; None if the stream ends before."""
    pieces = []
    while count:
        piece = stream.recv(min(count, 1 << 16))
        if not piece:
            return None
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def read_line(stream: socket.socket) -> dict[str, Any] | None:
    """Read a line of JSON; None if the stream ends before, or it is no such line."""
    line = bytearray()
    while not line.endswith(b"\n"):
        ahead = stream.recv(4096, socket.MSG_PEEK)
        end = ahead.find(b"\n") + 1 or len(ahead)
        piece = stream.recv(end)
        if not piece or len(line) > LONGEST_LINE:
            return None
        line += piece
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def write_line(stream: socket.socket, value: Mapping[str, Any]) -> None:
    """Write a line of JSON."""
    stream.sendall(json.dumps(value).encode("ascii") + b"\n")

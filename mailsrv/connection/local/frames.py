"""What ``mailsrv-sendmail`` and the server say to each other, and what a dropped file holds.

Frames: four octets of length, most significant first, and the octets.  The first
is a :class:`Request` as JSON, the next are the message in the line ends of the
system, an empty one is its end.  The answer is an SMTP reply (RFC 5321 4.2).  A
request for SMTP is followed by SMTP itself.  Imports nothing of twisted.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

GREETING = b"220 "  # what the server says first, before it is asked anything
FRAME_LIMIT = 65536  # octets of one frame of a message
REQUEST_LIMIT = 4 << 20  # octets of a request: the arguments of a command may be many
SOCKET = "submit"  # in the spool directory
DROP = "drop"  # the folder in the spool directory
DROP_SUFFIX = ".msg"
UNFINISHED = ".tmp"  # of a dropped file that is being written
END = b"\0\0\0\0"


class FrameError(Exception):
    """The peer does not speak this protocol."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be done: the options of the command line that the server obeys.

    All texts are octet strings of the caller, not to be believed.
    """

    smtp: bool = False  # -bs: SMTP follows
    batch: bool = False  # -bS: the envelope was read from SMTP commands
    recipients: tuple[str, ...] = ()
    sender: str | None = None  # -f
    name: str | None = None  # -F
    extract: bool = False  # -t
    queue_only: bool = False  # -odq, -odqs
    protocol: str = ""  # -oMr, -p; this and what follows is believed if the caller is trusted
    host_address: str = ""  # -oMa, with a port behind a dot or not
    host_name: str = ""  # -oMs, -p
    interface: str = ""  # -oMi, as -oMa
    ident: str = ""  # -oMt
    authenticator: str = ""  # -oMaa
    authenticated_id: str = ""  # -oMai
    authenticated_sender: str = ""  # -oMas
    qualify: bool = True  # False: -bnq
    notify: str = ""  # -N
    ret: str = ""  # -R

    def octets(self) -> bytes:
        """The frame of the request."""
        return frame(json.dumps(asdict(self)).encode("ascii"))


def frame(data: bytes) -> bytes:
    """One frame; of none but the end is ``data`` empty."""
    return len(data).to_bytes(4, "big") + data


def request_of(data: bytes) -> Request:
    """Read a request, in which what another version does not know may be missing.

    :raises FrameError: it is none.
    """
    try:
        given = json.loads(data)
        values = {field.name: given.get(field.name, field.default) for field in fields(Request)}
        _require(isinstance(values["recipients"], list | tuple))
        values["recipients"] = tuple(values["recipients"])
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise FrameError("no request") from error
    for field in fields(Request):
        value = values[field.name]
        if field.name == "recipients":
            _require(all(map(_is_octets, value)))
        elif isinstance(field.default, bool):
            _require(isinstance(value, bool))
        else:
            _require(_is_octets(value) or value is field.default is None)
    return Request(**values)


def _is_octets(text: object) -> bool:
    return isinstance(text, str) and all(character <= "\xff" for character in text)


def _require(condition: bool) -> None:
    if not condition:
        raise FrameError("no request")


class Frames:
    """Takes octets, gives frames; ``limit`` is that of the next one."""

    def __init__(self, limit: int = REQUEST_LIMIT) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take octets."""
        self._buffer += data

    def next(self) -> bytes | None:
        """Return the next frame; None: more octets are needed.

        :raises FrameError: it is longer than the limit.
        """
        if len(self._buffer) < 4:
            return None
        length = int.from_bytes(self._buffer[:4], "big")
        if length > self.limit:
            raise FrameError(f"a frame of {length} octets")
        if len(self._buffer) < 4 + length:
            return None
        data = bytes(self._buffer[4 : 4 + length])
        del self._buffer[: 4 + length]
        return data

    def rest(self) -> bytes:
        """What no frame has taken, for SMTP."""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

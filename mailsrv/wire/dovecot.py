"""Dovecot's authentication protocol, from the client's side (protocol version 1).

Pure: octets in, events out, and lines built.  Lines are fields separated by
tabs and end in LF.  Order and meaning are judged by who holds the connection;
only form is judged here.

Handshake: the client sends :func:`hello` at once.  Servers up to 2.3 speak
without being asked; servers from 2.4 on send ``VERSION`` and wait for the
client's.  Both then list ``MECH`` … ``SPID``, ``CUID``, ``COOKIE``, ``DONE``.

Unknown commands are ignored, as the protocol asks for; a known one that is
malformed raises :class:`DovecotProtocolError`, whose text never holds data of
a login.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mailsrv.wire.sasl import SaslError, decode, encode

MAX_LINE = 16384
"""Longest line in octets (Dovecot's AUTH_CLIENT_MAX_LINE_LENGTH and the server's limit)."""

MAJOR, MINOR = 1, 2
"""Version that we speak: 1.2 tells an empty initial response from none."""

_ID = re.compile(rb"[0-9]{1,10}\Z")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_ESCAPES = {"\x01": "\x011", "\0": "\x010", "\t": "\x01t", "\n": "\x01n", "\r": "\x01r"}
_UNESCAPES = {letter[1]: plain for plain, letter in _ESCAPES.items()}
_ESCAPED = re.compile("\x01(.?)", re.DOTALL)
_SPECIAL = re.compile("[\x01\0\t\n\r]")


class DovecotProtocolError(Exception):
    """The server sent, or we were asked to send, what the protocol does not allow."""


@dataclass(frozen=True, slots=True)
class Version:
    """The server's protocol version."""

    major: int
    minor: int


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A mechanism that the server offers; ``flags`` such as ``plaintext``, ``anonymous``."""

    name: str
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ServerPid:
    """``SPID``: also sent by sockets of another type, which then send no mechanisms."""

    pid: str


@dataclass(frozen=True, slots=True)
class Done:
    """The handshake is complete."""


@dataclass(frozen=True, slots=True)
class Ok:
    """Request ``id`` succeeded; ``fields`` are the user's, flags with an empty value."""

    id: int
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fail:
    """Request ``id`` failed: see ``code``, ``reason`` and ``temp`` in ``fields``."""

    id: int
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def temporary(self) -> bool:
        """Whether the backend could not answer, rather than said no."""
        return "temp" in self.fields or self.fields.get("code") == "temp_fail"


@dataclass(frozen=True, slots=True)
class Continue:
    """Request ``id`` goes on: ``challenge`` (decoded) is for the client."""

    id: int
    challenge: bytes


Event = Version | Mechanism | ServerPid | Done | Ok | Fail | Continue


class Reader:
    """Turns what the server sends, cut anywhere, into events."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[Event]:
        """Return the events of the lines that ``data`` completes.

        :raises DovecotProtocolError: an over-long or malformed line; the
            connection is of no more use then.
        """
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if any(len(line) > MAX_LINE for line in (*lines, self._buffer)):
            raise DovecotProtocolError("line too long")
        return [event for line in lines if (event := parse(line)) is not None]


def parse(line: bytes) -> Event | None:
    """Return the event of one line without its LF; None for an unknown command.

    :raises DovecotProtocolError: a known command with bad parameters.
    """
    command, *words = line.split(b"\t")
    match command:
        case b"VERSION":
            return Version(_number(words, 0), _number(words, 1))
        case b"MECH":
            name, *flags = [_text(word) for word in words] or [""]
            return Mechanism(name.upper(), frozenset(flags))
        case b"SPID":
            return ServerPid(_text(words[0]) if words else "")
        case b"DONE":
            return Done()
        case b"OK":
            return Ok(_number(words, 0), _fields(words[1:]))
        case b"FAIL":
            return Fail(_number(words, 0), _fields(words[1:]))
        case b"CONT":
            return Continue(_number(words, 0), _challenge(words[1:]))
    return None  # CUID, COOKIE and what later versions add


def hello(pid: int) -> bytes:
    """Build the client's half of the handshake."""
    return b"VERSION\t%d\t%d\nCPID\t%d\n" % (MAJOR, MINOR, pid)


def auth(
    id: int,
    mechanism: str,
    parameters: Iterable[tuple[str, str | None]],
    response: bytes | None = None,
) -> bytes:
    """Build the line that starts request ``id``.

    ``parameters`` are names with values; None makes a flag.  Values may hold
    any octets.  ``response`` is the initial response, None for none; it goes
    last, as the protocol demands.

    :raises DovecotProtocolError: an impossible name, or a line that is too long.
    """
    words = ["AUTH", str(id), _checked(mechanism)]
    for name, value in parameters:
        words.append(_checked(name) if value is None else f"{_checked(name)}={escape(value)}")
    if response is not None:
        words.append("resp=" + encode(response).decode("ascii"))
    return _line(words)


def proceed(id: int, response: bytes) -> bytes:
    """Build the client's answer to a challenge.

    :raises DovecotProtocolError: the line would be too long.
    """
    return _line(["CONT", str(id), encode(response).decode("ascii")])


def cancel(id: int) -> bytes:
    """Build the line that gives up request ``id``."""
    return b"CANCEL\t%d\n" % id


def escape(value: str) -> str:
    """Return a value in which no octet can end the field or the line."""
    return _SPECIAL.sub(lambda found: _ESCAPES[found[0]], value)


def unescape(value: str) -> str:
    """Undo :func:`escape`; an unknown escape stands for its second character."""
    return _ESCAPED.sub(lambda found: _UNESCAPES.get(found[1], found[1]), value)


def _line(words: list[str]) -> bytes:
    line = "\t".join(words).encode("latin-1")
    if len(line) > MAX_LINE:
        raise DovecotProtocolError("request too long")
    return line + b"\n"


def _checked(name: str) -> str:
    if not _NAME.match(name):
        raise DovecotProtocolError("impossible name")
    return name


def _text(word: bytes) -> str:
    return unescape(word.decode("latin-1"))


def _number(words: list[bytes], index: int) -> int:
    if index >= len(words) or not _ID.match(words[index]):
        raise DovecotProtocolError("bad number")
    return int(words[index])


def _fields(words: list[bytes]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for word in words:
        name, _, value = _text(word).partition("=")
        fields.setdefault(name, value)
    return fields


def _challenge(words: list[bytes]) -> bytes:
    try:
        return decode(words[0]) if words else b""
    except SaslError as error:
        raise DovecotProtocolError(str(error)) from None

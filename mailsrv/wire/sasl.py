"""The lines of a SASL exchange in SMTP (RFC 4954), and the message of PLAIN (RFC 4616).

Pure functions on octets.  Decoding is strict: what is not exactly base64 with
its padding raises :class:`SaslError`, so that no two readers of a line can
disagree about it.  A ``SaslError`` never holds what the client sent.
"""

from __future__ import annotations

import base64
import binascii
import re

MAX_LINE = 12288
"""Longest response in octets, without CRLF (RFC 4954, section 4)."""

CANCEL = b"*"
"""The whole line with which a client gives up an exchange (RFC 4954, section 4)."""

_MECHANISM = re.compile(rb"[A-Z0-9_-]{1,20}\Z")  # RFC 4422, section 3.1


class SaslError(ValueError):
    """A line that RFC 4954 does not allow: answered 501."""


def decode(line: bytes) -> bytes:
    """Return the octets that a response line stands for; an empty line stands for none.

    :raises SaslError: not base64, or longer than ``MAX_LINE``.
    """
    if len(line) > MAX_LINE:
        raise SaslError("response too long")
    try:
        raw = base64.b64decode(line, validate=True)
    except binascii.Error:
        raise SaslError("invalid base64 data") from None
    if base64.b64encode(raw) != line:  # padding in the middle, or bits that are thrown away
        raise SaslError("invalid base64 data")
    return raw


def decode_initial(argument: bytes) -> bytes:
    """Return the initial response of an AUTH command: ``=`` stands for an empty one.

    :raises SaslError: as :func:`decode`, and for an empty argument.
    """
    if argument == b"=":
        return b""
    if not argument:
        raise SaslError("empty initial response")
    return decode(argument)


def encode(raw: bytes) -> bytes:
    """Return a challenge or response as a line, without CRLF."""
    return base64.b64encode(raw)


def split_auth(argument: bytes) -> tuple[str, bytes | None]:
    """Split the argument of AUTH into mechanism (upper case) and decoded initial response.

    The response is None if there is none.

    :raises SaslError: no or an impossible mechanism, a third word, or bad base64.
    """
    words = argument.strip(b" \t").split(b" ", 1)
    mechanism = words[0].upper()
    if not _MECHANISM.match(mechanism):
        raise SaslError("bad mechanism name")
    response = decode_initial(words[1].strip(b" \t")) if len(words) == 2 else None
    return mechanism.decode("ascii"), response


def split_strings(raw: bytes) -> list[bytes]:
    """Split a response at NULs into the strings of the specification's chapter 34.3."""
    return raw.split(b"\0")


def parse_plain(raw: bytes) -> tuple[bytes, bytes, bytes]:
    """Return authorization identity, authentication identity and password of PLAIN.

    :raises SaslError: not exactly two NULs, or no authentication identity.
    """
    fields = split_strings(raw)
    if len(fields) != 3 or not fields[1]:
        raise SaslError("malformed PLAIN message")
    return fields[0], fields[1], fields[2]

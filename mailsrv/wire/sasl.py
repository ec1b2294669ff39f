"""The lines of a SASL exchange in SMTP (RFC 4954).

Pure functions on octets.  Decoding is strict: what is not exactly base64 with
its padding raises :class:`SaslError`, so that no two readers of a line can
disagree about it.  A ``SaslError`` never holds what the client sent.
"""

from __future__ import annotations

import base64
import binascii

MAX_LINE = 12288
"""Longest response in octets, without CRLF (RFC 4954, section 4)."""

CANCEL = b"*"
"""The whole line with which a client gives up an exchange (RFC 4954, section 4)."""


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


def split_strings(raw: bytes) -> list[bytes]:
    """Split a response at NULs into the strings of the specification's chapter 34.3."""
    return raw.split(b"\0")

"""Replies of the server as octets (RFC 5321 4.2)."""

from __future__ import annotations

from mailsrv.mail.status import LOCAL_PROBLEM, Status

# No end of line but ours, and no NUL, ever stands in a reply's text.
_CLEAN = str.maketrans({"\r": " ", "\0": " "})


def reply(code: int, text: str) -> bytes:
    """Return a reply; each line of ``text`` (separated by ``\\n``) is one line of it."""
    if "\n" not in text:
        return f"{code} {text.translate(_CLEAN)}\r\n".encode("latin-1", "replace")
    lines = text.translate(_CLEAN).split("\n")
    last = lines.pop()
    wire = "".join(f"{code}-{line}\r\n" for line in lines) + f"{code} {last}\r\n"
    return wire.encode("latin-1", "replace")


def from_status(status: Status) -> bytes:
    """Return a status as a reply.

    An enhanced code stands in it only if the administrator's own text gave
    one: Exim does not offer ENHANCEDSTATUSCODES, nor sends codes of its own.
    """
    if (status.subject, status.detail) == (0, 0) or status == LOCAL_PROBLEM:
        return reply(status.code, status.text)
    lines = status.text.split("\n")
    return reply(status.code, "\n".join(f"{status.enhanced} {line}" for line in lines))

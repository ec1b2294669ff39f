"""Replies of the server as octets (RFC 5321 4.2)."""

from __future__ import annotations

import re

from mailsrv.mail.status import LOCAL_PROBLEM, Status

_LINE = re.compile(rb"([245])([0-9]{2})([ -])(?!\1\.[0-9]{1,3}\.[0-9]{1,3}(?: |\r\n))", re.ASCII)
# What a code says of itself (RFC 3463, 5248); of 550 and 554 nobody knows the cause.
_ENHANCED = {
    421: "3.2", 450: "2.0", 451: "3.0", 452: "3.1", 454: "7.0",
    500: "5.2", 501: "5.4", 502: "5.1", 503: "5.1", 504: "5.4",
    530: "7.0", 535: "7.8", 538: "7.11", 552: "3.4", 553: "1.3",
}  # fmt: skip
_SUCCESS = {"MAIL": "1.0", "RCPT": "1.5"}
# No end of line but ours, and no NUL, ever stands in a reply's text.
_CLEAN = str.maketrans({"\r": " ", "\0": " "})


def reply(code: int, text: str) -> bytes:
    """Return a reply; each line of ``text`` (separated by ``\\n``) is one line of it."""
    if "\r" in text or "\0" in text:
        text = text.translate(_CLEAN)
    if "\n" not in text:
        return f"{code} {text}\r\n".encode("latin-1", "replace")
    lines = text.split("\n")
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


def with_enhanced(octets: bytes, verb: str) -> bytes:
    """Return replies to a command, each line with an enhanced status code if it had none.

    See RFC 2034 4; a line that has one of its reply's class keeps it.
    """

    def completed(line: bytes) -> bytes:
        found = _LINE.match(line)
        if found is None:
            return line
        general = _SUCCESS.get(verb, "0.0") if found[1] == b"2" else "0.0"
        detail = _ENHANCED.get(int(line[:3]), general)
        return b"%s%s.%s %s" % (line[:4], found[1], detail.encode("ascii"), line[4:])

    return b"".join(map(completed, octets.splitlines(keepends=True)))

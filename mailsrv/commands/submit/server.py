"""The connection to the server, and what the user is told."""

from __future__ import annotations

import os
import socket
import sys

from mailsrv.connection.local.frames import GREETING

FIRST = 10.0  # seconds until the server's greeting
TIMEOUT = 900.0  # seconds until its answer
OK, FAILED, TEMPFAIL = 0, 1, 75  # exit statuses; the last one is of sysexits.h


class Unreachable(Exception):
    """No server takes the message now; nothing of it was accepted."""


def connect(path: str) -> socket.socket:
    """Connect to the server and read its greeting.

    :raises Unreachable: it is not there, or takes nothing now.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(FIRST)
        if len(os.fsencode(path)) < 100:
            made.connect(path)
        else:
            folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
            try:
                made.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
            finally:
                os.close(folder)
        greeting = _line(made)
    except OSError as error:
        made.close()
        raise Unreachable(error.strerror or str(error)) from error
    if not greeting.startswith(GREETING):
        made.close()
        raise Unreachable(greeting.decode("latin-1").strip())
    made.settimeout(TIMEOUT)
    return made


def _line(connected: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < 4096:
        octet = connected.recv(1)
        if not octet:
            break
        line += octet
    return line


def reply(connected: socket.socket) -> bytes:
    """Read an SMTP reply; b"" if the connection ends before its last line."""
    lines = b""
    while True:
        line = _line(connected)
        if not line.endswith(b"\n"):
            return b""
        lines += line
        if line[3:4] != b"-":
            return lines


def tell(text: str) -> None:
    """Write to the standard error."""
    shown = "".join(c if " " <= c != "\x7f" or c == "\n" else "?" for c in text)
    print(f"mailsrv-sendmail: {shown}", file=sys.stderr)

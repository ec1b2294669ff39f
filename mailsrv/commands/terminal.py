"""Between the terminal and mailsrv's octet strings (one character an octet)."""

from __future__ import annotations

import os
import sys


def octets(argument: str) -> str:
    """Return an argument of the command line as an octet string."""
    return os.fsencode(argument).decode("latin-1")


def say(text: str, *, error: bool = False) -> None:
    """Write a line of octets to the standard output, or to the standard error."""
    stream = sys.stderr if error else sys.stdout
    raw = text.encode("latin-1", "replace")
    stream.write(raw.decode(stream.encoding or "utf-8", "backslashreplace") + "\n")


def say_octets(text: str) -> None:
    """Write a line of octets to the standard output as they are, whatever its character set."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:  # not a file
        say(text)
        return
    sys.stdout.flush()
    buffer.write(text.encode("latin-1", "replace") + b"\n")
    buffer.flush()

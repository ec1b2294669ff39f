"""``-bs`` and ``-bS``: a program speaks SMTP, with an answer to each command or in a batch."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from typing import BinaryIO

from mailsrv.commands.submit.places import Places
from mailsrv.commands.submit.server import (
    FAILED,
    OK,
    TEMPFAIL,
    Unreachable,
    connect,
    reply,
    tell,
)
from mailsrv.connection.local.frames import Request


def interactive(places: Places, stream: BinaryIO, out: BinaryIO) -> int:
    """``-bs``: the standard input and output are an SMTP client's."""
    try:
        connected = connect(places.socket)
    except Unreachable as problem:
        out.write(b"421 no server: " + str(problem).encode("ascii", "replace") + b"\r\n")
        out.flush()
        return TEMPFAIL
    connected.settimeout(None)
    connected.sendall(Request(smtp=True).octets())

    def upstream() -> None:
        fd = stream.fileno()
        try:
            while piece := os.read(fd, 65536):
                connected.sendall(re.sub(rb"(?<!\r)\n", b"\r\n", piece))
            connected.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server ended the session

    threading.Thread(target=upstream, daemon=True).start()
    try:
        while piece := connected.recv(65536):
            out.write(piece)
            out.flush()
    except ConnectionError:
        pass
    return OK


def batched(places: Places, stream: BinaryIO) -> int:
    """``-bS``: SMTP commands in a batch; no replies, an error ends it (47.11)."""
    try:
        connected = connect(places.socket)
    except Unreachable as problem:
        tell(f"no server: {problem}")
        return TEMPFAIL
    with connected:
        connected.sendall(Request(smtp=True).octets())
        said = reply(connected)
        if said.startswith(b"2"):
            return _batch(lambda octets: _ask(connected, octets), stream)
        tell(said.decode("latin-1").strip())
        return FAILED


def _ask(connected: socket.socket, octets: bytes) -> bytes:
    connected.sendall(octets)
    return reply(connected)


def _batch(ask: Callable[[bytes], bytes], stream: BinaryIO) -> int:
    """Say the lines of a batch; 0 if all was accepted, 1 with some message taken before, else 2."""
    accepted = 0
    greeted = False
    number = 0
    for raw in stream:
        number += 1
        line = raw.rstrip(b"\r\n")
        verb = line[:4].upper()
        if not line:
            continue
        if verb == b"MAIL" and not greeted:
            ask(b"EHLO localhost\r\n")
        greeted = greeted or verb in (b"MAIL", b"EHLO", b"HELO")
        said = ask(line + b"\r\n")
        if verb == b"DATA" and said.startswith(b"3"):
            text = _data(stream)
            number += text.count(b"\n")
            if text != b".\r\n" and not text.endswith(b"\r\n.\r\n"):
                said = b"unexpected end of file in a message\r\n"  # its rest never came
            else:
                said = ask(text)
                accepted += said.startswith(b"2")
        if not said.startswith(b"2"):
            shown = said.decode("latin-1").strip() or "the connection to the server was lost"
            tell(f"line {number}: {line[:200].decode('latin-1')}\n{shown}")
            tell(f"{accepted} message(s) accepted before the error")
            return 1 if accepted else 2
        if verb == b"QUIT":
            break
    return OK


def _data(stream: BinaryIO) -> bytes:
    """The lines of a message, with the line that ends it if there is one."""
    lines: list[bytes] = []
    for raw in stream:
        lines.append(raw.rstrip(b"\r\n") + b"\r\n")
        if lines[-1] == b".\r\n":
            break
    return b"".join(lines)

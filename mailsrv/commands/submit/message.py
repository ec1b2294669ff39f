"""A message that a program submits: to the server, or into the drop folder while there is none."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO

from mailsrv.commands.submit.arguments import Invocation
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
from mailsrv.commands.submit.sessions import Batched, batched
from mailsrv.connection.local.frames import (
    DROP_SUFFIX,
    END,
    FRAME_LIMIT,
    UNFINISHED,
    Request,
    frame,
)


def message_of(stream: BinaryIO, dots: bool) -> bytes:
    """Read the message: all that comes, or up to a line with a dot alone."""
    if dots:
        text = stream.read()
    else:
        lines = []
        for line in stream:
            if line in (b".\n", b".\r\n"):
                break
            lines.append(line)
        text = b"".join(lines)
    return text if text.endswith(b"\n") or not text else text + b"\n"


def frames_of(text: bytes) -> bytes:
    """The frames of a message, with its end."""
    pieces = range(0, len(text), FRAME_LIMIT)
    return b"".join(frame(text[start : start + FRAME_LIMIT]) for start in pieces) + END


def send(path: str, request: Request, text: bytes) -> bytes:
    """Give the message to the server; returns its reply, b"" if that is not known.

    :raises Unreachable: the server has not got the message.
    """
    with connect(path) as connected:
        octets = request.octets() + frames_of(text)
        whole = False
        try:
            connected.sendall(octets[: -len(END)])
            whole = True  # from here on the server may have it
            connected.sendall(END)
        except OSError as error:
            answer = _last_words(connected)
            if not answer and not whole:
                raise Unreachable(error.strerror or str(error)) from error
            return answer
        return _last_words(connected)


def _last_words(connected: socket.socket) -> bytes:
    try:
        return reply(connected)
    except OSError:
        return b""


def drop(folder: str, request: Request, text: bytes) -> None:
    """Leave the message, durably, in the drop folder.

    :raises OSError: that is not possible.
    """
    name = os.path.join(folder, os.urandom(16).hex())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    before = os.umask(0o027)
    try:
        file = os.open(name + UNFINISHED, flags, 0o640)
    finally:
        os.umask(before)
    try:
        octets = memoryview(request.octets() + frames_of(text))
        while octets:
            octets = octets[os.write(file, octets) :]
        os.fsync(file)
        os.rename(name + UNFINISHED, name + DROP_SUFFIX)
        _sync_folder(folder, file)
    except BaseException:
        with suppress(OSError):  # it may have its name already, and be the server's
            os.unlink(name + UNFINISHED)
        raise
    finally:
        os.close(file)


def _sync_folder(folder: str, file: int) -> None:
    """Make the new name durable; users may not open the folder, so its file system is synced."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        import ctypes

        if ctypes.CDLL(None).syncfs(file) != 0:
            os.sync()
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def submit(invocation: Invocation, places: Places, stream: BinaryIO) -> int:
    """Read a message and submit it; returns the exit status."""
    text = message_of(stream, invocation.dots)
    return hand_over(invocation.request(), text, places, verbose=invocation.verbose)


def submit_batch(invocation: Invocation, places: Places, stream: BinaryIO) -> int:
    """Submit the messages of a batch (``-bS``); returns the exit status."""
    request = invocation.request()

    def one(message: Batched) -> int:
        to = tuple(message.recipients)
        envelope = replace(request, batch=True, sender=message.sender, recipients=to)
        return hand_over(envelope, message.text, places, verbose=invocation.verbose)

    return batched(stream, one)


def hand_over(request: Request, text: bytes, places: Places, *, verbose: bool = False) -> int:
    """Give a message to the server, or leave it in the drop folder; returns the exit status."""
    try:
        answer = send(places.socket, request, text)
    except Unreachable as problem:
        try:
            drop(places.drop, request, text)
        except OSError as error:
            tell(f"no server ({problem}), and {places.drop}: {error.strerror}")
            return TEMPFAIL
        if verbose:
            print(f"left in {places.drop} until the server runs ({problem})")
        return OK
    shown = answer.decode("latin-1").rstrip("\r\n")
    if not answer:
        tell("the connection to the server was lost: it is not known whether it has the message")
        return TEMPFAIL
    if answer.startswith(b"2"):
        *warnings, last = shown.split("\r\n")
        if warnings:
            tell("\n".join(line[4:] for line in warnings))
        if verbose:
            print(last)
        return OK
    tell("\n".join(line[4:] for line in shown.split("\r\n")))
    return TEMPFAIL if answer.startswith(b"4") else FAILED

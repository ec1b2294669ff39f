"""The process that stays root: it becomes the user of one delivery, in a child, and nothing else.

It reads no message and no network data itself.  A request names transport,
user and place; the policy, fixed at its start, decides.  The child drops root
for good before it reads an octet of the message.  It ends with the last
serving process.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict

from mailsrv.errors import TemporaryFailure
from mailsrv.net.listfile import LARGEST_OF_A_USER, ListFile
from mailsrv.transport.command import Command, CommandWriter
from mailsrv.transport.maildir import Maildir, MaildirWriter
from mailsrv.transport.mbox import Mailbox, MailboxWriter
from mailsrv.transport.privileged import wire
from mailsrv.transport.privileged.policy import Policy, Refused

AT_A_TIME = 32  # children; further requests wait in the socket
PATIENCE = 600.0  # seconds that a child waits for the next octets
UMASK = 0o077
FILE_MODE = 0o666  # what a file's mode may be at most: it is no program

Writer = MailboxWriter | MaildirWriter | CommandWriter


def serve(channels: list[socket.socket], policy: Policy) -> None:
    """Answer requests until all channels have ended."""
    children: set[int] = set()
    open_channels = {channel.fileno(): channel for channel in channels}
    poll = select.poll()
    for number in open_channels:
        poll.register(number, select.POLLIN)
    while open_channels:
        _reap(children, wait=len(children) >= AT_A_TIME)
        for number, _ in poll.poll(1000):
            if len(children) >= AT_A_TIME:
                break
            channel = open_channels[number]
            try:
                datagram, handles, _, _ = socket.recv_fds(channel, wire.LARGEST_REQUEST, 4)
            except OSError:
                datagram, handles = b"", []
            if not datagram:
                poll.unregister(number)
                open_channels.pop(number).close()
                continue
            _begin(datagram, handles, policy, children, open_channels)
    _reap(children, wait=False)


def _begin(
    datagram: bytes,
    handles: list[int],
    policy: Policy,
    children: set[int],
    channels: dict[int, socket.socket],
) -> None:
    """Start a child for a request."""
    try:
        if len(handles) != 1:
            return
        child = os.fork()
        if child:
            children.add(child)
            return
        status = 1
        try:
            for channel in channels.values():
                channel.close()
            status = _deliver(datagram, socket.socket(fileno=handles[0]), policy)
        finally:
            os._exit(status)
    except OSError as error:  # no process to be had: the other side reads the end of its stream
        print(f"mailsrv: privileged delivery: {error}", file=sys.stderr, flush=True)
    finally:
        for handle in handles:
            with contextlib.suppress(OSError):
                os.close(handle)


def _reap(children: set[int], *, wait: bool) -> None:
    """Forget children that have ended; ``wait`` for one at least."""
    while children:
        try:
            child, _ = os.waitpid(-1, 0 if wait else os.WNOHANG)
        except ChildProcessError:
            children.clear()
            return
        if not child:
            return
        children.discard(child)
        wait = False


# --- the child ---------------------------------------------------------------


def _deliver(datagram: bytes, stream: socket.socket, policy: Policy) -> int:
    """Carry out one request; return the exit status."""
    stream.settimeout(PATIENCE)
    writer: Writer | None = None
    try:
        try:
            request = wire.Request.unpacked(datagram)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise Refused("malformed request") from None
        become(request, policy)
        if isinstance(request.place, ListFile):
            wire.write_line(stream, {"text": _text_of(request.place)})
            return 0
        writer = _open(request)
        wire.write_line(stream, {"ok": True})
        if not _copy(stream, writer.write):
            writer.abort()
            return 1
        ended = writer.finish()
        writer = None
        wire.write_line(stream, {"path": ended} if isinstance(ended, str) else asdict(ended))
    except BaseException as error:
        if writer is not None:
            writer.abort()
        with contextlib.suppress(OSError):
            wire.write_line(stream, wire.failure_line(error))
        return 1
    return 0


def become(request: wire.Request, policy: Policy) -> None:
    """Become the user of a request, for good.

    :raises Refused: the policy does not allow it.
    """
    kinds = {Command: "command", ListFile: "list", Maildir: "maildir"}
    kind = kinds.get(type(request.place), "file")
    account = policy.account(request.transport, request.user, request.path, kind=kind)
    gid = policy.group(request.transport, request.group, account)
    if request.supplementary:
        os.initgroups(account.pw_name, gid)
    else:
        os.setgroups([gid])
    os.setresgid(gid, gid, gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    if 0 in os.getresuid():
        raise Refused("root could not be dropped")
    os.umask(UMASK)


def _text_of(file: ListFile) -> str | None:
    """Read a redirection list.

    :raises TemporaryFailure: it cannot be read, or is too large to be told.
    """
    text = file.read()
    if text is not None and len(text) > LARGEST_OF_A_USER:
        raise TemporaryFailure(reason=f"{file.path} is too large")
    return text


def _open(request: wire.Request) -> Writer:
    if isinstance(request.place, Command):
        return CommandWriter(request.place)
    assert not isinstance(request.place, ListFile)
    if request.place.mode & ~FILE_MODE:
        raise Refused(f"no file is made with mode 0{request.place.mode:o}")
    if isinstance(request.place, Mailbox):
        return MailboxWriter(request.place, request.size)
    return MaildirWriter(request.place, request.now, request.size)


def _copy(stream: socket.socket, write: Callable[[bytes], None]) -> bool:
    """Pass pieces on until the finish; False if the stream ends before."""
    while True:
        head = wire.read_exactly(stream, 4)
        if head is None:
            return False
        length = int.from_bytes(head, "big")
        if length == 0:
            return True
        if length > wire.LARGEST_PIECE:
            return False
        piece = wire.read_exactly(stream, length)
        if piece is None:
            return False
        write(piece)


def main(descriptors: list[str]) -> None:
    """Serve on the channels with these numbers; the policy is read from standard input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the end comes with the channels
    policy = Policy.unpacked(sys.stdin.read())
    os.chdir("/")
    serve([socket.socket(fileno=int(number)) for number in descriptors], policy)

"""The serving process' side: a writer of a mailbox that another process, as another user, does."""

from __future__ import annotations

import socket
import threading
from typing import Any

from mailsrv.errors import TemporaryFailure
from mailsrv.net.listfile import ListFile
from mailsrv.transport.command import Ended
from mailsrv.transport.privileged import wire
from mailsrv.transport.privileged.policy import list_rule
from mailsrv.transport.privileged.wire import Request

PATIENCE = 300.0  # seconds for one step of the privileged process


class RemoteWriter:
    """One message on its way into a file of another user; as the writers that do it here.

    ``channel`` is our end of the socket to the privileged process.  All methods block.

    :raises Busy: somebody else holds the mailbox' lock: try again later.
    :raises TemporaryFailure: with the reason.
    """

    def __init__(self, channel: socket.socket, request: Request) -> None:
        self._stream, theirs = socket.socketpair()
        self._lock = threading.Lock()
        self._over = False
        try:
            self._stream.settimeout(PATIENCE)
            channel.settimeout(PATIENCE)  # of a process that hangs it fills up in the end
            with theirs:
                socket.send_fds(channel, [request.packed()], [theirs.fileno()])
            self._answer()
        except OSError as error:
            self.abort()
            raise _unavailable(error) from error
        except BaseException:
            self.abort()
            raise

    def _answer(self) -> dict[str, Any]:
        line = wire.read_line(self._stream)
        if line is None:
            raise TemporaryFailure(reason="the privileged delivery process gave no answer")
        if "error" in line:
            raise wire.error_of(line)
        return line

    def write(self, piece: bytes) -> None:
        """Write the next octets."""
        for start in range(0, len(piece), wire.LARGEST_PIECE):
            part = piece[start : start + wire.LARGEST_PIECE]
            try:
                self._stream.sendall(len(part).to_bytes(4, "big") + part)
            except OSError as error:
                self._why()
                raise _unavailable(error) from error

    def _why(self) -> None:
        """Raise what the other side said before it went away, if it said something."""
        try:
            line = wire.read_line(self._stream)
        except OSError:
            return
        if line is not None and "error" in line:
            raise wire.error_of(line)

    def finish(self) -> str:
        """Make the message durable; return the file's path."""
        return str(self._end()["path"])

    def _end(self) -> dict[str, Any]:
        try:
            self._stream.sendall(bytes(4))
            line = self._answer()
        except OSError as error:
            self._why()
            raise _unavailable(error) from error
        self.abort()
        return line

    def abort(self) -> None:
        """Leave the mailbox as it was; harmless after ``finish``."""
        with self._lock:
            before, self._over = self._over, True
        if not before:
            try:
                self._stream.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits on it
            except OSError:
                pass
            self._stream.close()


class RemoteCommand(RemoteWriter):
    """A message on its way to a command that runs as another user; as ``CommandWriter``."""

    def finish(self) -> Ended:  # type: ignore[override]
        """Wait for the command's end, which is not ours to limit."""
        self._stream.settimeout(None)
        return Ended(**self._end())


def read_list(channel: socket.socket, router: str, user: str, file: ListFile) -> str | None:
    """Return the contents of a redirection list, read as a user; None if it is not there.  Blocks.

    :raises TemporaryFailure: with the reason.
    """
    ours, theirs = socket.socketpair()
    request = Request(list_rule(router, included=file.included), user, "", True, file)
    with ours:
        try:
            ours.settimeout(PATIENCE)
            with theirs:
                socket.send_fds(channel, [request.packed()], [theirs.fileno()])
            line = wire.read_line(ours)
        except OSError as error:
            raise _unavailable(error) from error
    if line is None:
        raise TemporaryFailure(reason="the privileged delivery process gave no answer")
    if "error" in line:
        raise wire.error_of(line)
    text: str | None = line.get("text")
    return text


def _unavailable(error: OSError) -> TemporaryFailure:
    return TemporaryFailure(
        reason=f"the privileged delivery process is not available: {error.strerror or error}"
    )

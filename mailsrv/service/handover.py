"""Messages between the supervisor and a worker, with open files.

They go through a pair of Unix sockets that keeps messages apart
(SOCK_SEQPACKET): one datagram is one JSON object and up to :data:`MOST_FILES`
descriptors.  Nothing that comes from the network is ever in them.  The end of
the other side is the end of the stream.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

MOST_FILES = 250  # the kernel passes 253
LARGEST = 1 << 17  # octets of a datagram
TEXT = 8000  # characters of a text in a message

Message = dict[str, Any]
Received = Callable[[Message, list[int]], None]


@implementer(IReadDescriptor)
class Channel:
    """One end; ``received`` gets each message and its descriptors, ``ended`` the end, once."""

    def __init__(
        self, reactor: Any, end: socket.socket, received: Received, ended: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._socket = end
        self._received = received
        self._ended = ended
        self._open = True
        end.setblocking(False)
        reactor.addReader(self)

    def send(self, kind: str, files: Sequence[int] = (), **values: Any) -> bool:
        """Send a message; False: the other side is gone, or does not read."""
        if not self._open:
            return False
        datagram = json.dumps({"kind": kind, **values}).encode("ascii")
        try:
            socket.send_fds(self._socket, [datagram], list(files))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close this end; harmless if it is closed."""
        if self._open:
            self._open = False
            self._reactor.removeReader(self)
            self._socket.close()

    # --- the reactor's side ---

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """What Twisted's own log calls this."""
        return "handover"

    def doRead(self) -> None:
        """Take a message."""
        try:
            datagram, files, _, _ = socket.recv_fds(
                self._socket, LARGEST, MOST_FILES, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            datagram, files = b"", []
        if not datagram:
            self.connectionLost(None)
            return
        try:
            self._received(json.loads(datagram), files)
        finally:
            for each in files:
                os.close(each)

    def connectionLost(self, reason: Any) -> None:
        """The other side ended."""
        if self._open:
            self.close()
            self._ended()


@implementer(IReadDescriptor)
class Watch:
    """Sees the end of the other side of a socket on which that side says nothing."""

    def __init__(self, reactor: Any, ended: Callable[[], None]) -> None:
        self._reactor = reactor
        self._ended = ended
        self._socket: socket.socket | None = None

    @property
    def watching(self) -> bool:
        """There is another side."""
        return self._socket is not None

    def see(self, sockets: Sequence[socket.socket]) -> None:
        """Watch the first of ``sockets`` from now on, if there is one."""
        self.end()
        if sockets:
            self._socket = sockets[0].dup()
            self._reactor.addReader(self)

    def end(self) -> None:
        """Watch nothing; harmless if nothing is watched."""
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._socket.close()
            self._socket = None

    # --- the reactor's side ---

    def fileno(self) -> int:
        """The descriptor to watch."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """What Twisted's own log calls this."""
        return "watch"

    def doRead(self) -> None:
        """It can be read: that is the end."""
        self.connectionLost(None)

    def connectionLost(self, reason: Any) -> None:
        """The other side ended."""
        if self._socket is not None:
            self.end()
            self._ended()

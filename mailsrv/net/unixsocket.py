"""Listening Unix sockets: made in place of one that nobody serves any more."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

AT_ONCE = 100  # connections that are accepted before others have their turn
PAUSE = 0.5  # seconds without accepting, when there is no file for a connection


def bind_unix(
    path: str, *, mode: int, group: int | None = None, backlog: int = 64, displace: bool = False
) -> socket.socket:
    """Return a non-blocking socket that listens at ``path``.

    Until its mode and group are right nobody but its owner can connect.  The path
    may hold a socket that a former server left, and nothing else; with ``displace``
    also one on which somebody listens still.

    :raises OSError: it cannot be made; somebody else listens there.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_room(path, displace)
        # Not by the umask: it is the whole process', and a thread may be making a folder.
        os.fchmod(made.fileno(), 0o600)
        _with_short_path(made.bind, path)
        if group is not None:
            os.chown(path, -1, group)
        os.chmod(path, mode)
        made.setblocking(False)
        made.listen(backlog)
    except BaseException:
        made.close()
        raise
    return made


def _make_room(path: str, displace: bool) -> None:
    """Remove a socket on which nobody listens.

    :raises OSError: somebody does, or the path is something else.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "is no socket", path)
    except FileNotFoundError:
        return
    if displace or not _is_served(path):
        os.unlink(path)
        return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            _with_short_path(probe.connect, path)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            return True  # its queue of new connections is full
    return True


def _with_short_path(function: Callable[[str], None], path: str) -> None:
    """Bind or connect; a path that is too long for an address is reached through its folder."""
    if len(os.fsencode(path)) < 100:
        function(path)
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        function(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    finally:
        os.close(folder)


@implementer(IReadDescriptor)
class SharedPort:
    """Accepts on a Unix socket that belongs to others as well, and leaves its path alone.

    Twisted's own port gives the path the mode 0666, and removes it at its end.
    """

    def __init__(self, reactor: Any, fileno: int, factory: Any) -> None:
        self._reactor = reactor
        self._socket = socket.socket(fileno=os.dup(fileno))
        self._factory = factory
        self._open = True
        factory.doStart()
        reactor.addReader(self)

    def stopListening(self) -> None:
        """Accept no longer; the socket is closed here only."""
        if self._open:
            self._open = False
            self._reactor.removeReader(self)
            self._socket.close()
            self._factory.doStop()

    # --- the reactor's side ---

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """What Twisted's own log calls this."""
        return "unix port"

    def doRead(self) -> None:
        """Accept what waits; another process may have been quicker."""
        for _ in range(AT_ONCE):
            try:
                made, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:
                self._reactor.removeReader(self)
                self._reactor.callLater(PAUSE, self._go_on)
                return
            with made:
                made.setblocking(False)
                self._reactor.adoptStreamConnection(made.fileno(), socket.AF_UNIX, self._factory)

    def _go_on(self) -> None:
        if self._open:
            self._reactor.addReader(self)

    def connectionLost(self, reason: Any) -> None:
        """The reactor watches the socket no longer."""
        self.stopListening()

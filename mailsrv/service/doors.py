"""The listening sockets that a process accepts on: its own, and those of others that it keeps open.

A socket that is let go is closed here only: whoever else has it, and the
connections that wait in it, do not notice.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred

from mailsrv.net.listen import Listener
from mailsrv.net.unixsocket import SharedPort


class Doors:
    """Accepts connections: those of LMTP for ``lmtp``, all others for ``smtp``.

    Sockets are grouped by the process they are for.
    """

    def __init__(self, reactor: Any, smtp: Any, lmtp: Any) -> None:
        self._reactor = reactor
        self._smtp = smtp
        self._lmtp = lmtp
        self._open: dict[int, dict[tuple[int, int, bool], Any]] = {}

    def open(self, owner: int, sockets: Mapping[Listener, socket.socket]) -> None:
        """Accept on these, and on nothing else, for ``owner``; those that are open stay so.

        The sockets themselves remain the caller's.
        """
        before = self._open.pop(owner, {})
        now = self._open[owner] = {}
        for listener, each in sockets.items():
            found = os.fstat(each.fileno())
            identity = found.st_dev, found.st_ino, listener.lmtp
            port = before.pop(identity, None)
            if port is None:
                port = self._accept(listener, each.fileno())
            now[identity] = port
        for port in before.values():
            maybeDeferred(port.stopListening)

    def _accept(self, listener: Listener, fileno: int) -> Any:
        factory = self._lmtp if listener.lmtp else self._smtp
        if listener.local:
            return SharedPort(self._reactor, fileno, factory)
        return self._reactor.adoptStreamPort(fileno, listener.family, factory)

    def close(self, owner: int | None = None) -> Deferred[Any]:
        """Accept no longer, for ``owner`` or at all."""
        owners = list(self._open) if owner is None else [owner]
        ports = [port for each in owners for port in self._open.pop(each, {}).values()]
        return gatherResults([maybeDeferred(port.stopListening) for port in ports])

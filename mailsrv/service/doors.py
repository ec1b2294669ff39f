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


class Doors:
    """Accepts connections for ``factory``; sockets are grouped by the process they are for."""

    def __init__(self, reactor: Any, factory: Any) -> None:
        self._reactor = reactor
        self._factory = factory
        self._open: dict[int, dict[tuple[int, int], Any]] = {}

    def open(self, owner: int, sockets: Mapping[Listener, socket.socket]) -> None:
        """Accept on these, and on nothing else, for ``owner``; those that are open stay so.

        The sockets themselves remain the caller's.
        """
        before = self._open.pop(owner, {})
        now = self._open[owner] = {}
        for listener, each in sockets.items():
            found = os.fstat(each.fileno())
            identity = found.st_dev, found.st_ino
            port = before.pop(identity, None)
            if port is None:
                family = socket.AF_INET6 if listener.ipv6 else socket.AF_INET
                port = self._reactor.adoptStreamPort(each.fileno(), family, self._factory)
            now[identity] = port
        for port in before.values():
            maybeDeferred(port.stopListening)

    def close(self, owner: int | None = None) -> Deferred[Any]:
        """Accept no longer, for ``owner`` or at all."""
        owners = list(self._open) if owner is None else [owner]
        ports = [port for each in owners for port in self._open.pop(each, {}).values()]
        return gatherResults([maybeDeferred(port.stopListening) for port in ports])

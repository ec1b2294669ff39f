"""The control socket: how commands reach the process that owns a spool (design, decision 11).

A unix socket in the worker's folder, of mode 0600.  The kernel says who is at
the other end (SO_PEERCRED): root, the server's own user and the administrators
are heard.  A client sends one JSON object a line, each with an ``id`` that the
pieces of its answer repeat; see :mod:`mailsrv.service.requests`.

Requests of a client are answered one after the other; while its socket is full
or a request is under way nothing more is read.  A client that goes away
cancels what it asked for, except for a change of a message that has begun.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from mailsrv.interfaces import IClock, IMailLog, IQueueControl, ISpool
from mailsrv.service.requests import REQUEST_LIMIT, Requests

# Clients at one time; seconds that a silent one is kept; requests that wait.
MOST_CLIENTS = 20
IDLE = 300
MOST_WAITING = 16
# Seconds of work after which a client hears that it goes on, again and again.
SIGN_OF_LIFE = 5.0

PeerUid = Callable[[Any], int | None]


class _Port(Protocol):
    """What listening gives."""

    def stopListening(self) -> Any:
        """Close the socket and remove it."""


def peer_uid(transport: Any) -> int | None:
    """Return the user id of the process at the other end of a unix socket; None if unknown."""
    try:
        raw = transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    except (AttributeError, OSError):
        return None
    _, uid, _ = struct.unpack("3i", raw)
    return int(uid)


@implementer(IPushProducer)
class ControlProtocol(LineOnlyReceiver):
    """One client of the control socket."""

    delimiter = b"\n"
    MAX_LENGTH = REQUEST_LIMIT
    factory: ControlFactory
    transport: Any

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._current: Deferred[None] | None = None
        self._room: Deferred[None] | None = None
        self._refused = False  # nothing more is answered: refused, or gone
        self._registered = False
        self._idle: Any = None
        self._sign: Any = None

    # --- twisted -------------------------------------------------------------

    def connectionMade(self) -> None:
        """Refuse a stranger, and one client too many."""
        self.factory.clients.add(self)
        uid = self.factory.peer_uid(self.transport)
        if uid is None or uid not in self.factory.allowed:
            self._refuse(f"permission denied for user id {uid}")
        elif len(self.factory.clients) > MOST_CLIENTS:
            self._refuse("too many clients")
        else:
            self.transport.registerProducer(self, True)
            self._registered = True
            self._rest()

    def lineReceived(self, line: bytes) -> None:
        """Take a request."""
        if self._refused:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._refuse("too many requests at once")
            return
        self._waiting.append(line)
        self._next()

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a request that is too long."""
        self._refuse("request too long")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Stop the request under way."""
        self.factory.clients.discard(self)
        self._refused = True
        self._waiting.clear()
        self._stop_resting()
        if self._current is not None:
            self._current.cancel()

    # --- IPushProducer: answers wait while the socket is full --------------------

    def pauseProducing(self) -> None:
        """The socket is full."""
        if self._room is None:
            self._room = Deferred()

    def resumeProducing(self) -> None:
        """The socket takes more."""
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)

    def stopProducing(self) -> None:
        """The client is gone; :meth:`connectionLost` follows."""

    # --- requests --------------------------------------------------------------

    def _refuse(self, why: str) -> None:
        if self._refused:
            return
        self._refused = True
        self._write({"error": why})
        self._stop_resting()
        if self._registered:
            self._registered = False
            self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _write(self, answer: dict[str, Any]) -> None:
        self.transport.write(json.dumps(answer).encode("ascii") + b"\n")

    def _next(self) -> None:
        """Begin the next request, if none is under way."""
        if self._current is not None or not self._waiting:
            return
        line = self._waiting.popleft()
        self._stop_resting()
        self.transport.pauseProducing()
        self._current = current = Deferred.fromCoroutine(self._answer(line))
        current.addErrback(self._failed)
        current.addBoth(self._done)

    async def _answer(self, line: bytes) -> None:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        id = request.get("id") if isinstance(request, dict) else None
        id = id if isinstance(id, int | str) else None
        self._live(id)
        try:
            async for piece in self.factory.requests.answer(request):
                if self._room is not None:
                    await self._room
                self._write({"id": id, **piece})
        finally:
            self._sign.cancel()

    def _live(self, id: int | str | None) -> None:
        """Give signs of life while an answer is under way."""
        self._sign = self.factory.clock.callLater(SIGN_OF_LIFE, self._give_sign, id)

    def _give_sign(self, id: int | str | None) -> None:
        if self._room is None:
            self._write({"id": id, "busy": True})
        self._live(id)

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure.value, CancelledError):
            return
        self.factory.log.panic("control socket", failure.value)
        self._refuse("internal error: see the panic log")

    def _done(self, _: object) -> None:
        self._current = None
        if self._refused:
            return
        if self._waiting:
            self._next()
        else:
            self.transport.resumeProducing()
            self._rest()

    def _rest(self) -> None:
        """Wait for a request, but not for ever."""
        self._stop_resting()
        self._idle = self.factory.clock.callLater(IDLE, self._refuse, "idle for too long")

    def _stop_resting(self) -> None:
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        self._idle = None


class ControlFactory(Factory):
    """Makes the protocols of one control socket.

    ``administrators`` are user ids that are heard beside root and our own.
    """

    protocol: Any = ControlProtocol
    noisy = False

    def __init__(
        self,
        spool: ISpool,
        queue: IQueueControl,
        *,
        clock: IClock,
        log: IMailLog,
        administrators: frozenset[int] = frozenset(),
        peer_uid: PeerUid = peer_uid,
    ) -> None:
        self.requests = Requests(spool, queue)
        self.clock = clock
        self.log = log
        self.allowed = administrators | {0, os.geteuid()}
        self.peer_uid = peer_uid
        self.clients: set[ControlProtocol] = set()


def listen(reactor: Any, path: str, factory: ControlFactory) -> _Port:
    """Listen on the socket ``path``, in place of one that a dead server left there.

    The caller holds the spool's lock, so no other server can be using it.

    :raises OSError: the path is taken by something that is no socket, or cannot be made.
    """
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass
    # Its folder is the server's alone, until the mode is right too.
    port: _Port = reactor.listenUNIX(path, factory, mode=0o600)
    return port

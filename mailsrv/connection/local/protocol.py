"""The socket of local submission: anybody on this machine may connect, the kernel says who.

A unix socket of mode 0666.  Whoever is slow, silent or hostile costs a bounded
number of connections and of octets, and only until a time-out.  A connection
carries one message, or an SMTP session (``-bs``).
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from mailsrv.connection.local.frames import (
    FRAME_LIMIT,
    GREETING,
    FrameError,
    Frames,
    Request,
    request_of,
)
from mailsrv.connection.local.message import LocalMessage, origin_of
from mailsrv.connection.local.sender import caller_of
from mailsrv.connection.protocol import SmtpProtocol
from mailsrv.errors import MailFailure
from mailsrv.mail.caller import Caller
from mailsrv.mail.origin import Origin
from mailsrv.net.unixsocket import bind_unix
from mailsrv.wire.reply import reply

if TYPE_CHECKING:
    from mailsrv.connection.factory import SmtpFactory

MOST_OF_USER = 20  # connections of one user at a time; root is not counted
MOST = 200  # connections in all
IDLE = 120.0  # seconds without an octet, while the server waits for one
WHOLE = 3600.0  # seconds that one message may take
WORK = 900.0  # seconds that a policy may wait


def bind(path: str) -> socket.socket:
    """Make the socket, in place of one that a former server left: anybody may submit.

    :raises OSError: it cannot be made, or the path is something else.
    """
    return bind_unix(path, mode=0o666, displace=True)


def credentials(transport: Any) -> tuple[int, int] | None:
    """Return uid and gid of the process that connected; None if they are not to be had."""
    try:
        raw = transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    except (AttributeError, OSError):
        return None
    _, uid, gid = struct.unpack("3i", raw)
    return int(uid), int(gid)


class LocalSmtp(SmtpProtocol):
    """An SMTP session of a local user (``-bs``)."""

    def __init__(self, caller: Caller, *, only_queued: bool = False) -> None:
        super().__init__()
        self.caller = caller
        self.only_queued = only_queued
        self._over = False

    def connectionMade(self) -> None:
        """Greet the user's program."""
        super().connectionMade()
        assert self.dialogue is not None, "made just now"
        self.dialogue.connection.only_queued = self.only_queued

    def input_over(self) -> None:
        """The program has said all: what it said is still answered."""
        self._over = True
        self._pump()

    def _after(self) -> None:
        super()._after()
        busy = self._pending is not None or self._blocked or self._closing or self._lost
        if self._over and not busy:
            self.transport.loseConnection()

    def _origin(self) -> Origin:
        assert self.caller is not None, "known from the beginning"
        return origin_of(self.caller, "local-smtp", self.parts)


@implementer(IHalfCloseableProtocol)
class LocalProtocol(Protocol):
    """One connection."""

    factory: LocalFactory
    transport: Any

    def __init__(self) -> None:
        self._frames = Frames()
        self._wanted: Deferred[bytes] | None = None
        self._work: Deferred[None] | None = None
        self._session: LocalMessage | None = None
        self._user: int | None = None
        self._idle: Any = None
        self._whole: Any = None
        self._successor: LocalSmtp | None = None
        self._answered = False
        self._lost = False

    def connectionMade(self) -> None:
        """Find out who it is, and begin."""
        factory = self.factory
        who = factory.credentials(self.transport)
        if who is None or factory.draining or not factory.enter(self, who[0]):
            self._answer(reply(421, "no local submission now"))
            return
        self._user = who[0]
        self._whole = factory.clock.callLater(WHOLE, self._abort)
        self._touch()
        self.transport.write(GREETING + b"mailsrv\r\n")
        work = self._work = Deferred.fromCoroutine(self._serve(*who))
        work.addErrback(self._failed)

    def dataReceived(self, data: bytes) -> None:
        """Take octets; reading stops while they are worked on."""
        if self._successor is not None:
            self._successor.dataReceived(data)
            return
        if self._answered:
            return  # what follows the answer is thrown away, until the client closes
        self._touch()
        self._frames.feed(data)
        self._give()

    def readConnectionLost(self) -> None:
        """The program has closed its side: a session goes on to its end, a message does not."""
        if self._successor is not None:
            self._successor.input_over()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Never asked for."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget what is not stored."""
        self._lost = True
        for timer in (self._idle, self._whole):
            if timer is not None and timer.active():
                timer.cancel()
        if self._user is not None:
            self.factory.leave(self, self._user)
        session = self._session
        if session is not None:
            session.gone = True
            if not session.storing:
                session.drop_message()
        if self._work is not None and not (session is not None and session.storing):
            self._work.cancel()
        if self._successor is not None:
            self._successor.connectionLost(reason)

    # --- frames ----------------------------------------------------------------

    async def _frame(self) -> bytes:
        """The next frame.

        :raises FrameError: it is too long.
        """
        frame = self._frames.next()
        if frame is not None:
            return frame
        self._wanted = Deferred()
        self.transport.resumeProducing()
        self._touch()
        try:
            return await self._wanted
        finally:
            self._wanted = None

    def _give(self) -> None:
        if self._wanted is None:
            self.transport.pauseProducing()
            return
        try:
            frame = self._frames.next()
        except FrameError as error:
            self._wanted.errback(error)
            return
        if frame is not None:
            self.transport.pauseProducing()
            self._touch(WORK)
            self._wanted.callback(frame)

    # --- one connection ----------------------------------------------------------

    async def _serve(self, uid: int, gid: int) -> None:
        parts = self.factory.smtp.parts
        try:
            request = request_of(await self._frame())
            self._frames.limit = FRAME_LIMIT
            caller = await caller_of(parts, uid, gid, request.name)
            if caller is None:
                parts.log.main(f"no user name found for uid {uid}: local submission refused")
                self._answer(reply(550, f"no user name found for uid {uid}"))
            elif request.smtp:
                self._become_smtp(caller, request)
            else:
                await self._message(caller, request)
        except FrameError as error:
            if self._session is not None:
                self._session.drop_message()
            parts.log.main(f"local submission of uid {uid} refused: {error}")
            self._answer(reply(500, "not understood"))
        except MailFailure as failure:
            parts.log.main(f"local submission of uid {uid}: {failure.explained}")
            self._answer(reply(failure.status.code, failure.status.text))

    async def _message(self, caller: Caller, request: Request) -> None:
        session = self._session = LocalMessage(self.factory.smtp.parts, caller, request)
        await session.begin()
        while session.reception is not None:
            await session.take(await self._frame())
        self._answer(session.answer)

    def _become_smtp(self, caller: Caller, request: Request) -> None:
        """Hand the connection over to an SMTP session."""
        successor = LocalSmtp(caller, only_queued=request.queue_only)
        successor.factory = self.factory.smtp
        for timer in (self._idle, self._whole):
            if timer is not None and timer.active():
                timer.cancel()
        self.transport.resumeProducing()
        self._successor = successor
        successor.makeConnection(self.transport)
        rest = self._frames.rest()
        if rest:
            successor.dataReceived(rest)

    # --- the end -------------------------------------------------------------------

    def _answer(self, octets: bytes) -> None:
        """Tell the result.  The client closes; what it still sends is not looked at."""
        if self._lost:
            return
        self._answered = True
        self.transport.write(octets)
        if self.factory.draining:
            self.transport.loseConnection()
            return
        self.transport.resumeProducing()
        self._touch(10.0)

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure.value, CancelledError) and self._lost:
            return
        self.factory.smtp.parts.log.panic(
            f"unexpected error in local submission: {failure.value!r}", failure.value
        )
        self._answer(reply(451, "Temporary local problem - please try later"))

    def _touch(self, seconds: float = IDLE) -> None:
        if self._lost or self._successor is not None:
            return
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        self._idle = self.factory.clock.callLater(seconds, self._abort)

    def _abort(self) -> None:
        self.transport.loseConnection()

    def drain(self) -> None:
        """The server stops: a message that is being read is given up, one being stored is not."""
        session = self._session
        working = session is not None and (session.storing or self._wanted is None)
        if self._answered or not (working or self._successor is not None):
            self._abort()


class LocalFactory(Factory):
    """Makes the connections of local submission; ``smtp`` is the factory of ``-bs`` sessions.

    A session uses the parts that ``smtp`` has when it begins.
    """

    noisy = False

    def __init__(self, smtp: SmtpFactory, peer: Any = credentials) -> None:
        self.smtp = smtp
        self.clock: Any = smtp.clock  # a reactor: Deferred.addTimeout wants all of IReactorTime
        self.credentials = peer
        self.draining = False
        self._connections: set[LocalProtocol] = set()
        self._users: Counter[int] = Counter()
        self._empty: list[Deferred[None]] = []

    def buildProtocol(self, addr: Any) -> Any:
        """Make the protocol of a connection."""
        protocol = LocalProtocol()
        protocol.factory = self
        return protocol

    def enter(self, connection: LocalProtocol, user: int) -> bool:
        """Count a connection; False if there are too many."""
        if user != 0 and (self._users[user] >= MOST_OF_USER or len(self._connections) >= MOST):
            return False
        self._users[user] += 1
        self._connections.add(connection)
        return True

    def leave(self, connection: LocalProtocol, user: int) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        self._users[user] -= 1
        if not self._users[user]:
            del self._users[user]
        if not self._connections:
            waiting, self._empty = self._empty, []
            for deferred in waiting:
                deferred.callback(None)

    def drain(self, grace: float = 20.0) -> Deferred[None]:
        """The server stops; fires when what is being stored is answered, or ``grace`` is over."""
        self.draining = True
        for connection in list(self._connections):
            connection.drain()
        done: Deferred[None] = Deferred()
        if not self._connections:
            done.callback(None)
            return done
        self._empty.append(done)
        done.addTimeout(grace, self.clock)
        return done.addErrback(lambda failure: None)

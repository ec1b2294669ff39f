"""A connection to a next hop: runs the steps of ``wire/client.py`` on a Twisted transport.

Each reply has its time (``Timeouts``); a hop that hangs, closes or breaks the
protocol gives a :class:`HopFailure` and the connection is aborted at once.
Nothing here knows of messages or addresses.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    ConnectionRefusedError,
    TCPTimedOutError,
    TimeoutError,
)
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import IClock
from mailsrv.net.connect import connect
from mailsrv.net.tlsclient import ClientStart, TlsFacts, TlsRefused
from mailsrv.net.write import write_now
from mailsrv.wire.client import (
    Ask,
    Receive,
    Refused,
    SendChunk,
    Session,
    StartTls,
    Steps,
    Unmet,
)
from mailsrv.wire.envelope import UnsafeValue
from mailsrv.wire.outgoing import Chunker, DotStuffer
from mailsrv.wire.replies import Phase, ProtocolError, Reply, ReplyParser, printable

GRACE = 10.0  # seconds from QUIT until a connection that is still there is aborted
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # of this machine
SPARE_REPLIES = 1000  # replies that may wait to be asked for, beyond one for each command sent


class HopFailure(Exception):
    """The connection failed; the host is to blame, not an address.

    ``error`` is the retry rules' name (specification 32.3): ``refused``,
    ``timeout_connect``, ``timeout``, ``lost_connection`` or ``*``.
    """

    def __init__(self, reason: str, error: str = "*") -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error
        self.phase: Phase | None = None  # of the reply that was awaited; None: no session yet
        self.tls = False  # it was the handshake that failed, or what it brought


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the steps may take, in seconds (RFC 5321 4.5.3.2)."""

    connect: float = 300.0  # 0: the system's own
    command: float = 300.0  # the greeting, and each reply to a command
    data: float = 300.0  # each time the connection takes no more octets of the message
    final: float = 600.0  # the reply to the end of data


class Target(NamedTuple):
    """Where to connect: an IP address and port, or the path of a Unix socket (port 0)."""

    address: str
    port: int = 0
    interface: str = ""  # the local IP address to use, "" = any
    keepalive: bool = True


Content = Callable[[], AsyncIterator[bytes]]


class IConnector(Protocol):
    """Opens connections; ``tests/doubles/nexthop.py`` has the one without a network."""

    async def connect(self, target: Target, protocol: HopProtocol, timeout: float) -> None:
        """Connect ``protocol``; a ``timeout`` of 0 seconds is the system's own.

        :raises HopFailure: the connection cannot be made, or not in time.
        :raises TemporaryFailure: this machine has no descriptors or memory for it.
        """


class Connector:
    """Connects over TCP and Unix sockets with ``reactor``."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    async def connect(self, target: Target, protocol: HopProtocol, timeout: float) -> None:
        """See :meth:`IConnector.connect`."""
        factory: Any = Factory.forProtocol(lambda: protocol)
        try:
            await connect(
                self._reactor,
                target.address,
                factory,
                port=target.port,
                timeout=timeout,
                bind=target.interface,
            )
        except (TimeoutError, TCPTimedOutError) as error:
            raise HopFailure("Connection timed out", "timeout_connect") from error
        except ConnectionRefusedError as error:
            raise HopFailure("Connection refused", "refused") from error
        except (ConnectError, OSError) as error:
            if isinstance(error, ConnectBindError) and error.osError in SHORTAGES:
                reason = f"no connection can be made from here: {error.args[-1]}"
                raise TemporaryFailure(reason=printable(reason)) from error
            raise HopFailure(printable(str(error.args[-1] if error.args else error))) from error
        keep_alive = getattr(protocol.transport, "setTcpKeepAlive", None)
        if target.keepalive and keep_alive is not None:
            keep_alive(1)


@implementer(IPushProducer, IHandshakeListener)
class HopProtocol(TwistedProtocol):
    """The connection's protocol: waits for replies, writes commands and messages.

    One :meth:`run` at a time.  ``answered`` tells whether the hop has replied
    during the last one, ``sent`` the octets of its message that were written;
    ``alive`` tells whether another may follow.  ``interface`` is our end of the
    connection as ``[address]:port``, "" for a Unix socket.  ``tls`` is how TLS
    is started.
    """

    transport: Any

    def __init__(
        self,
        clock: IClock,
        session: Session,
        timeouts: Timeouts,
        tls: ClientStart | None = None,
    ) -> None:
        self.session = session
        self.timeouts = timeouts
        self.messages = 0
        self.answered = False
        self.interface = ""
        self.sent = 0
        self.phase: Phase | None = None
        self._commands = 0  # that were written at once, at most
        self._clock = clock
        self._parser = ReplyParser()
        self._replies: list[Reply] = []
        self._waiting: Deferred[None] | None = None  # for a reply, or for room to write
        self._failure: HopFailure | None = None
        self._busy = True  # the greeting may come before it is waited for
        self._paused = False
        self._producing = False
        self._open = True
        self._facts: TlsFacts | None = None
        self._tls = tls
        self._starting = False  # the handshake is under way
        self._further: float | None = None  # seconds from the timer's end to the wait's; None: none
        self._late = ""  # the words for a wait that was too long
        self._timer: Any = None
        self._last: Any = None  # the timer that ends a connection which does not close

    @property
    def alive(self) -> bool:
        """Whether the connection is there, and the session may go on."""
        return self._failure is None and self.session.usable and not self._unasked

    @property
    def _unasked(self) -> bool:
        """Whether the hop has said, or begun to say, what nobody has asked for."""
        return bool(self._replies) or self._parser.partial

    # --- from the transport ---

    def connectionMade(self) -> None:
        """The connection is there."""
        here = self.transport.getHost()
        self.interface = f"[{here.host}]:{here.port}" if hasattr(here, "port") else ""

    def dataReceived(self, data: bytes) -> None:
        """Take replies; any that come while nothing runs end the connection."""
        if self._failure is not None:
            return
        try:
            self._replies += self._parser.feed(data)
        except ProtocolError as error:
            self.fail(HopFailure(str(error)))
            return
        if not self._busy or len(self._replies) > SPARE_REPLIES + self._commands:
            what = f": {self._replies[0]}" if self._replies else ""
            self.fail(HopFailure(f"unexpected data{what}", "lost_connection"))
        else:
            self._wake()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The connection is gone."""
        self._open = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._tls is not None and self._starting and self._failure is None:
            self._failure = _tls_failure(self._tls.fault or _tls_reason(reason))
        if self._last is not None and self._last.active():
            self._last.cancel()
        self._failure = self._failure or HopFailure(
            "Remote host closed connection", "lost_connection"
        )
        self._wake()

    def handshakeCompleted(self) -> None:
        """TLS is there: judge what the handshake brought."""
        if self._tls is None or not self._starting or self._failure is not None:
            return
        try:
            self._facts = self._tls.facts(self.transport.getHandle())
        except TlsRefused as error:
            self.fail(_tls_failure(str(error)))
        self._starting = False
        self._wake()

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport takes octets again."""
        self._paused = False
        self._wake()

    def stopProducing(self) -> None:
        """The transport takes no more; ``connectionLost`` follows."""

    def fail(self, failure: HopFailure) -> None:
        """End the connection at once; what waits on it fails with ``failure``."""
        self._failure = self._failure or failure
        if self.transport is not None:
            self.transport.abortConnection()
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    # --- for the transports of mailsrv ---

    async def run(self, steps: Steps[None], content: Content | None = None) -> None:
        """Do the steps of the session; ``content`` gives the message that ``SendContent`` sends.

        :raises HopFailure: the connection failed; it is aborted.
        :raises Refused: the session was refused.
        :raises Unmet: the session has not what the configuration requires.
        :raises UnsafeValue: nothing was sent, and the connection is as it was.
        """
        self._busy, self.answered, self.sent, self.phase = True, False, 0, None
        chunks: AsyncIterator[tuple[bytes, bool]] | None = None
        try:
            step = next(steps)
            while True:
                if isinstance(step, Receive):
                    self.phase = step.phase
                    if not self._replies:
                        await self._reply(step.phase)
                    self.answered = True
                    step = steps.send(self._replies.pop(0))
                elif isinstance(step, bytes):
                    self._commands = step.count(b"\n")
                    self._write(step)
                    step = next(steps)
                elif isinstance(step, Ask):
                    step = steps.send(await step.question)
                elif isinstance(step, StartTls):
                    step = steps.send(await self._start_tls())
                elif isinstance(step, SendChunk):
                    assert content is not None
                    chunks = chunks or _chunks(content)
                    step = steps.send(await self._send_chunk(chunks))
                else:
                    assert content is not None
                    await self._send(content)
                    step = next(steps)
        except StopIteration:
            pass
        except (Refused, Unmet, UnsafeValue):
            raise
        except (ProtocolError, HopFailure) as error:
            failure = error if isinstance(error, HopFailure) else HopFailure(str(error))
            failure.phase = self.phase
            self.fail(failure)
            raise failure from None
        except BaseException as error:  # a cancellation too: the dialogue is in an unknown state
            self.fail(HopFailure(str(error)))
            raise
        finally:
            self._busy = False

    def close(self) -> None:
        """Say QUIT if the hop would hear it, and close; never waits."""
        if self.transport is None or self._failure is not None:
            return
        self.session.usable = False
        self._failure = HopFailure("closed", "lost_connection")
        if self.session.midway:  # a QUIT would be a line of a message
            self.transport.abortConnection()
            return
        self.transport.write(b"QUIT\r\n")
        self.transport.loseConnection()
        if self._open:
            self._last = self._clock.callLater(GRACE, self.transport.abortConnection)

    def _write(self, data: bytes) -> None:
        if self._failure is not None:
            raise self._failure
        if self._unasked:
            said = f": {self._replies[0]}" if self._replies else ""
            raise ProtocolError(f"reply before the command that it answers{said}")
        assert self.transport is not None
        write_now(self.transport, data)

    async def _reply(self, phase: Phase) -> None:
        """Wait for the next reply; the whole reply has the phase's time."""
        limit = self.timeouts.final if phase is Phase.FINAL else self.timeouts.command
        await self._until(lambda: bool(self._replies), limit, f"timeout after {phase.value}")

    async def _until(self, ready: Callable[[], bool], limit: float, late: str) -> None:
        """Wait until ``ready`` or a failure, at most ``limit`` seconds (0 = no limit)."""
        if ready():
            return
        if limit:
            self._expect(limit, late)
        try:
            while not ready():
                if self._failure is not None:
                    raise self._failure
                self._waiting = Deferred(self._not_waiting)
                await self._waiting
        finally:
            self._further = None

    def _not_waiting(self, _: Deferred[None]) -> None:
        self._waiting = None

    def _expect(self, limit: float, late: str) -> None:
        """Set the time to wait; one timer serves all waits, and goes on when it is early.

        It is counted from the timer, not by a time of day: clocks are set.
        """
        self._further, self._late = 0.0, late
        timer = self._timer
        if timer is None:
            self._timer = self._clock.callLater(limit, self._on_timer)
            return
        further = self._clock.seconds() + limit - timer.getTime()
        if further < 0:
            timer.reset(limit)
        else:
            self._further = further

    def _on_timer(self) -> None:
        timer, self._timer = self._timer, None
        if self._further is None or self._failure is not None:
            return
        left, self._further = self._further - (self._clock.seconds() - timer.getTime()), 0.0
        if left > 0:
            self._timer = self._clock.callLater(left, self._on_timer)
        else:
            self.fail(HopFailure(self._late, "timeout"))

    async def _send(self, content: Content) -> None:
        """Write the message with its final dot, unless the hop refuses it half-way."""
        stuffer = DotStuffer()
        waiting = b""
        try:
            async for piece in content():
                if self._refuses:
                    return
                if waiting:
                    self._produce(True)
                    self._write(waiting)
                    self.sent += len(waiting)
                waiting = stuffer.feed(piece)
                if self._paused:
                    await self._until(
                        lambda: not self._paused,
                        self.timeouts.data,
                        "timeout while sending the message",
                    )
        finally:
            self._produce(False)
        # The last piece goes with the dot in one segment, after a look for early replies.
        if self._refuses:
            return
        waiting += stuffer.end()
        self._write(waiting)
        self.session.midway = False
        self.sent += len(waiting)

    @property
    def _refuses(self) -> bool:
        """Whether the hop has refused a message of which the dot was not sent: nobody has it.

        What it has said is taken for the final reply.
        """
        refuses = bool(self._replies) and self._replies[0].refusal and not self.session.lmtp
        self.session.usable = self.session.usable and not refuses
        return refuses

    async def _send_chunk(self, chunks: AsyncIterator[tuple[bytes, bool]]) -> bool:
        """Write the next chunk of the message; tell whether it was the last."""
        data, last = await anext(chunks)
        self._produce(True)
        try:
            self._write(data)
            self.sent += len(data)
            await self._until(
                lambda: not self._paused, self.timeouts.data, "timeout while sending the message"
            )
        finally:
            self._produce(False)
        return last

    async def _start_tls(self) -> TlsFacts | None:
        """Begin TLS and wait until the handshake is done; return what it brought.

        :raises ProtocolError: something came in clear after the reply that let it begin.
        """
        if self._failure is not None:
            raise self._failure
        if self._unasked:
            raise ProtocolError("data in clear after the reply to STARTTLS")
        assert self._tls is not None and self.transport is not None
        self._starting = True
        self.transport.startTLS(self._tls)
        late = "TLS session: timeout"
        try:
            await self._until(lambda: not self._starting, self.timeouts.command, late)
        except HopFailure as failure:
            failure.tls = True  # whatever it was, it may be tried without TLS
            raise
        if self._failure is not None:
            raise self._failure
        return self._facts

    def _produce(self, on: bool) -> None:
        """Ask the transport to say when its buffer is full, while a message is written."""
        assert self.transport is not None
        if on != self._producing:
            self._paused = False
        if on and not self._producing:
            self.transport.registerProducer(self, True)
        elif not on and self._producing:
            self.transport.unregisterProducer()
        self._producing = on


async def _chunks(content: Content) -> AsyncIterator[tuple[bytes, bool]]:
    """Give the BDAT commands of a message, each with whether it is the last."""
    chunker = Chunker()
    async for piece in content():
        if (chunk := chunker.feed(piece)) is not None:
            yield chunk, False
    yield chunker.end(), True


def _tls_failure(why: str) -> HopFailure:
    failure = HopFailure(f"TLS session: {why}")
    failure.tls = True
    return failure


def _tls_reason(reason: Failure | None) -> str:
    """Return why a connection ended in the handshake, in OpenSSL's words if it has some."""
    error = getattr(reason, "value", None)
    details = error.args[0] if error is not None and error.args else None
    if isinstance(details, list) and details:
        return printable(str(details[-1][-1]))
    return "the connection was closed in the handshake"

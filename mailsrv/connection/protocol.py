"""The adapter between Twisted and a session: timers, TLS, pausing, the order of replies.

:class:`SmtpProtocol` is a ``twisted.mail.smtp.ESMTP`` whose engine is ours: it
gives what arrives to ``wire/session.py`` and its events to a :class:`Dialogue`,
one after the other.  A command that waits for nothing costs no Deferred; while
one waits, nothing further is parsed, and reading stops when the buffer is full.
Importing this module imports ``twisted.mail``.
"""

from __future__ import annotations

import socket
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.mail.smtp import ESMTP
from twisted.python.failure import Failure
from zope.interface import implementer

from mailsrv.connection import greeting
from mailsrv.connection.dialogue import Dialogue
from mailsrv.errors import MailFailure
from mailsrv.mail.caller import Caller
from mailsrv.mail.connection import Connection
from mailsrv.mail.origin import Origin
from mailsrv.mail.status import LOCAL_PROBLEM
from mailsrv.net.tls import tls_facts
from mailsrv.net.write import all_sent, close_now, write_now
from mailsrv.wire.reply import reply
from mailsrv.wire.session import Input

if TYPE_CHECKING:
    from mailsrv.connection.factory import SmtpFactory
    from mailsrv.connection.parts import Parts

CLOSE_GRACE = 10.0  # seconds that a closing peer may take before the connection is aborted
WORK_LIMIT = 900.0  # seconds that a command of ours may wait: a policy that hangs is given up
BULK, LITTLE = 1 << 18, 1 << 16  # octets that are read at a time, of a message and otherwise
PROGRESS = 65536  # octets of a message that must come in each smtp_receive_timeout


@implementer(IPushProducer, IHandshakeListener)
class SmtpProtocol(ESMTP):
    """One connection of a client."""

    factory: SmtpFactory
    transport: Any  # TCP, Unix socket or TLS above them: each offers what is used here
    parts: Parts  # those in force when the connection was made
    caller: Caller | None = None  # a local user; None for a host
    lmtp: ClassVar[bool] = False
    # Set by Twisted's base class from its own line reader, which is not used.
    noisy = False

    def __init__(self) -> None:
        # Twisted's own set-up (a portal, a state machine) is replaced, not used.
        self.input = Input()
        self.dialogue: Dialogue | None = None
        self._replies: list[bytes] = []
        self._pending: Deferred[None] | None = None
        self._running = False
        self._blocked = False  # the peer does not read what we send
        self._reading = True
        self._in_bulk = False  # a message comes: much is read at a time
        self._closing = False
        self._lost = False
        self._counted: str | None = None
        self._counts = (0, 0)
        self._timer: Any = None
        self._further: float | None = None  # seconds from the timer's end to the deadline
        self._watched: Deferred[None] | None = None  # the work that the deadline is for
        self._progress = 0
        self._handshake: Any = None  # a context whose handshake is under way
        self._ended: list[Deferred[None]] = []

    # --- Twisted's side --------------------------------------------------------

    def connectionMade(self) -> None:
        """Count the connection, and greet the client (after TLS, if the port begins with it)."""
        parts = self.parts = self.factory.parts
        origin = self._origin()
        connection = Connection(origin=origin, caller=self.caller, lmtp=self.lmtp)
        self.dialogue = Dialogue(parts, connection, self)
        self._counted = origin.host_address
        self._counts = parts.counts.enter(self._counted)
        self.factory.connections.add(self)
        self.transport.registerProducer(self, True)
        connection.tls_on_connect = origin.interface_port in self.factory.tls_on_connect_ports
        self._set_socket_options()
        self._drive(self._begin())
        self._pump()

    def dataReceived(self, data: bytes) -> None:
        """Take octets."""
        if self._closing or self._lost:
            return
        self.input.receive(data)
        self._pump()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The connection is gone: end what waits, and leave nothing half done."""
        if self._lost:
            return
        self._lost = True
        self._stop_timer()
        parts = self.parts
        if self._counted is not None:
            parts.counts.leave(self._counted)
        self.factory.connections.discard(self)
        dialogue, pending = self.dialogue, self._pending
        if dialogue is not None:
            dialogue.gone = True
            if pending is not None and not dialogue.storing:
                pending.cancel()
            self._drive(dialogue.lost("connection-lost"), last=True)
        ended, self._ended = self._ended, []
        for deferred in ended:
            deferred.callback(None)
        self.factory.one_ended()

    def pauseProducing(self) -> None:
        """The peer reads too slowly: answer nothing further until it does."""
        self._blocked = True
        self._watch_reading()

    def resumeProducing(self) -> None:
        """The peer has read what was sent."""
        self._blocked = False
        if not self._lost:
            self._pump()

    def stopProducing(self) -> None:
        """The transport is gone; ``connectionLost`` follows."""
        self._blocked = True

    def handshakeCompleted(self) -> None:
        """TLS is on (IHandshakeListener)."""
        if self._handshake is None or self.dialogue is None:
            return
        self._handshake = None
        connection = self.dialogue.connection
        try:
            connection.peer_certificate = tls_facts(self.transport, connection.origin)
        except Exception as error:
            self._unexpected(_failure(error))
        if connection.tls_on_connect and not connection.active_hostname:
            self.dialogue.name_protocol()
            self._drive(self._greet())
        else:
            self.dialogue.tls_started()
        self._pump()

    # --- the channel of the dialogue ----------------------------------------------

    def write(self, octets: bytes) -> None:
        """Send a reply, together with others of this moment."""
        if not self._lost:
            self._replies.append(octets)

    def hang_up(self) -> None:
        """Close behind the replies."""
        self._closing = True

    def start_tls(self, context: Any) -> None:
        """Begin TLS behind the replies; what came in clear is forgotten (RFC 3207 4.2)."""
        self.input.clear()
        self._flush()
        self._handshake = context
        self.transport.unregisterProducer()
        self.transport.startTLS(context)
        self.transport.registerProducer(self, True)

    def sent_early(self) -> bytes:
        """What came before it may: in our buffer, or still in the socket's."""
        if self.input.waiting or self._counted == "" or self.dialogue is None:
            return self.input.waiting
        if self.dialogue.connection.tls_on_connect:
            return b""
        handle = getattr(self.transport, "socket", None)
        if not isinstance(handle, socket.socket):
            return b""
        try:
            return handle.recv(128, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return b""

    # --- driving ---------------------------------------------------------------------

    async def _begin(self) -> None:
        assert self.dialogue is not None, "the connection is made"
        try:
            await greeting.arrived(self.dialogue, self._counts[0])
        except MailFailure as failure:
            self.parts.log.main(f"hosts_connection_nolog: {failure.explained}")
        if self.dialogue.connection.tls_on_connect:
            await self._tls_on_connect()
        else:
            await self._greet()

    async def _greet(self) -> None:
        assert self.dialogue is not None, "the connection is made"
        try:
            await greeting.greet(self.dialogue, *self._counts)
        except CancelledError:
            if self._lost:
                raise
            self.dialogue.end(reply(451, LOCAL_PROBLEM.text), "local-error")
        except MailFailure as failure:
            self.parts.log.main(
                f"connection from {self.dialogue.host} refused: {failure.explained}"
            )
            self.dialogue.end(reply(451, LOCAL_PROBLEM.text), "local-error")
        except Exception as error:
            self._unexpected(_failure(error))
            self.dialogue.end(reply(451, LOCAL_PROBLEM.text), "local-error")

    async def _tls_on_connect(self) -> None:
        assert self.dialogue is not None, "the connection is made"
        tls = self.parts.tls
        try:
            if tls is None:
                raise MailFailure(LOCAL_PROBLEM, "no certificate is configured")
            scope = self.parts.scope(self.dialogue.connection)
            self.start_tls(await tls.context(scope))
        except MailFailure as failure:
            self.parts.log.main(
                f"TLS error on connection from {self.dialogue.host}: {failure.explained}"
            )
            self.dialogue.end(b"", "tls-failed")

    def _pump(self) -> None:
        """Handle events until one waits, octets are missing, or the peer must read first."""
        if self._running or self._lost:
            return
        self._running = True
        try:
            dialogue = self.dialogue
            assert dialogue is not None, "the connection is made"
            while not (
                self._pending is not None
                or self._closing
                or self._blocked
                or self._lost
                or self._handshake is not None
            ):
                event = self.input.next()
                if event is None:
                    break
                self._drive(dialogue.handle(event))
                if len(self._replies) >= 100:
                    self._flush()
        finally:
            self._running = False
        self._flush()
        self._after()

    @property
    def waiting(self) -> bool:
        """Whether a command is being worked on, so that its answer is still to come."""
        return self._pending is not None

    def _drive(self, work: Coroutine[Any, Any, None], *, last: bool = False) -> None:
        """Run a coroutine; what comes next waits for it, unless it is the ``last``.

        A Deferred is made only if it waits.
        """
        try:
            work.send(None)
        except StopIteration:
            return
        except Exception as error:
            self._unexpected(_failure(error))
            return
        # Sent to once more, a waiting coroutine asks its Deferred again, which is as before.
        deferred: Deferred[None] = Deferred.fromCoroutine(work)
        deferred.addErrback(self._unexpected)
        if not last:
            self._pending = deferred
            deferred.addCallback(self._went_on, deferred)

    def _went_on(self, _: None, deferred: Deferred[None]) -> None:
        if self._pending is deferred:
            self._pending = self._watched = self._further = None
        self._pump()

    def _unexpected(self, failure: Failure) -> None:
        if isinstance(failure.value, CancelledError) and self._lost:
            return
        self.parts.log.panic(f"unexpected error in SMTP session: {failure.value!r}", failure.value)

    def _flush(self) -> None:
        if self._replies and not self._lost:
            octets, self._replies = b"".join(self._replies), []
            write_now(self.transport, octets)

    def _after(self) -> None:
        """Bring timers, reading and closing in line with what was done."""
        if self._lost:
            return
        if self._closing:
            self._close()
            return
        if self._blocked or self._pending is not None or not self._reading:
            self._watch_reading()
        self._watch_time()
        if self.input.in_message != self._in_bulk:
            self._in_bulk = not self._in_bulk
            self.transport.bufferSize = BULK if self._in_bulk else LITTLE
        if self.factory.draining and self._idle():
            self.drain()

    def _close(self) -> None:
        if self._reading:
            self._reading = False
        self.transport.unregisterProducer()
        self._stop_timer()
        self._closing = True
        if self._handshake is not None:  # there is no TLS that could say goodbye
            self._abort()
            return
        if all_sent(self.transport):
            close_now(self.transport, self.factory.clock)
            return
        self._timer = self.factory.clock.callLater(CLOSE_GRACE, self._abort)
        self.transport.loseConnection()

    def _abort(self) -> None:
        self._timer = None
        abort = getattr(self.transport, "abortConnection", None)
        if abort is not None:
            abort()
        else:
            self.transport.loseConnection()

    def _watch_reading(self) -> None:
        """Read on, or not: while a command waits, as much as the buffer takes."""
        reading = not self._blocked and not (self._pending is not None and self.input.full)
        if reading == self._reading or self._lost or self._closing:
            return
        self._reading = reading
        if reading:
            self.transport.resumeProducing()
        else:
            self.transport.pauseProducing()

    # --- time ------------------------------------------------------------------------

    def _watch_time(self) -> None:
        """Set the time by which the client must have said something whole.

        A command has ``smtp_receive_timeout`` from the last reply on, however
        its octets drip; a message must bring PROGRESS octets in each such span.
        The time that we need ourselves is not the client's; it has a bound of its own.
        """
        dialogue = self.dialogue
        if dialogue is None:
            return
        if self._pending is not None:
            if self._watched is not self._pending:
                self._watched = self._pending
                self._expect(WORK_LIMIT)
            return
        reception = dialogue.reception
        if reception is not None and self.input.in_message and self._further is not None:
            if reception.received - self._progress < PROGRESS and self._progress >= 0:
                return
            self._progress = reception.received
        elif reception is not None and self.input.in_message:
            self._progress = reception.received
        elif self._further is not None and self.input.waiting:
            return
        self._expect(dialogue.receive_timeout)

    def _expect(self, timeout: float) -> None:
        """Set the deadline; one timer serves them all, and goes on when it is early.

        The deadline is counted from the timer, not by a time of day: clocks are set.
        """
        if timeout <= 0:
            self._further = None
            return
        self._further = 0.0
        if self._timer is None:
            self._timer = self.factory.clock.callLater(timeout, self._on_timer)
            return
        further = self.factory.clock.seconds() + timeout - self._timer.getTime()
        if further < 0:
            self._timer.reset(timeout)
        else:
            self._further = further

    def _on_timer(self) -> None:
        timer, self._timer = self._timer, None
        if self._lost or self.dialogue is None or self._further is None:
            return
        clock = self.factory.clock
        left, self._further = self._further - (clock.seconds() - timer.getTime()), 0.0
        if left > 0:
            self._timer = clock.callLater(left, self._on_timer)
            return
        if self._pending is not None:
            self._give_up_work(self._pending)
            return
        self.dialogue.timed_out()
        self._flush()
        self._after()

    def _give_up_work(self, work: Deferred[None]) -> None:
        """A command waits too long: cancel it (451); if it waits even so, drop the connection."""
        assert self.dialogue is not None, "its command waits"
        self._expect(WORK_LIMIT)
        if self.dialogue.storing:
            return  # the spool answers for the message, and for its own bounds
        self.parts.log.main(f"{self.dialogue.host}: gave up a command after {WORK_LIMIT:.0f}s")
        work.cancel()
        if self._pending is work:
            self._abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- the end of the server -----------------------------------------------------------

    def _idle(self) -> bool:
        return (
            self._pending is None
            and self.dialogue is not None
            and self.dialogue.reception is None
            and not self._closing
        )

    def drain(self) -> None:
        """Say 421 if no message is under way; else it is said behind the message's answer."""
        if self._idle() and not self._lost:
            assert self.dialogue is not None, "an idle connection has been made"
            self.dialogue.shut_down()
            self._flush()
            self._after()

    def abort(self) -> None:
        """Close at once."""
        if not self._lost:
            self._abort()

    def _set_socket_options(self) -> None:
        settings = self.parts.settings
        for name, value in (
            ("setTcpNoDelay", settings.tcp_nodelay),
            ("setTcpKeepAlive", settings.smtp_accept_keepalive),
        ):
            setter = getattr(self.transport, name, None)  # a Unix socket has neither
            if value and setter is not None:
                setter(True)

    # --- facts -----------------------------------------------------------------------------

    def _origin(self) -> Origin:
        peer, here = self.transport.getPeer(), self.transport.getHost()
        origin = Origin()
        if isinstance(getattr(peer, "host", None), str):
            origin.host_address = _plain(peer.host)
            origin.host_port = int(getattr(peer, "port", 0))
        if isinstance(getattr(here, "host", None), str):
            origin.interface_address = _plain(here.host)
            origin.interface_port = int(getattr(here, "port", 0))
        return origin


def _failure(error: BaseException) -> Failure:
    return Failure(error)


def _plain(address: str) -> str:
    """An IPv4 address on an IPv6 socket, or one with a scope, in its plain form."""
    address = address.partition("%")[0]
    if address.startswith("::ffff:") and "." in address:
        return address[7:]
    return address

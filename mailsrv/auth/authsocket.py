"""One kept connection to a Dovecot authentication socket, on which many logins run at once.

:class:`AuthSocket` connects when the first login needs it and keeps the
connection.  A login whose connection is lost before Dovecot said anything
about it is sent once more on a new one; any other loss, time-out or nonsense
is a :class:`TemporaryFailure` (454): the backend being away is never a wrong
password, and never a right one.

A Dovecot that is told to stop leaves its auth process alive while clients are
connected to it.  So that nobody is judged by yesterday's settings, an idle
connection is closed, and one whose socket file was made anew is used no more.

What a login sends is in no log line, exception or ``repr`` of this module.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from mailsrv.auth.portal import Refused
from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import IMailLog
from mailsrv.mail.taint import Tainted
from mailsrv.net.connect import connect
from mailsrv.wire import dovecot
from mailsrv.wire.dovecot import Continue, Done, Fail, Mechanism, Ok, Reader, ServerPid, Version

CONNECT_TIMEOUT = 5.0
HANDSHAKE_TIMEOUT = 10.0
ANSWER_TIMEOUT = 30.0
"""Seconds.  Dovecot delays a refusal on purpose, by its penalty for up to 17 s."""

IDLE_TIMEOUT = 60.0

WRONG_TYPE = "wrong socket type: Dovecot's auth-client is needed"

MAX_CHALLENGES = 20
MAX_COMPLAINTS = 10  # log lines about one connection's nonsense

Parameters = Sequence[tuple[str, str | None]]
Ask = Callable[[bytes], Awaitable[bytes]]


class ConnectionGone(Exception):
    """The connection was lost with the login under way; ``answered`` if Dovecot knew of it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.answered = False


class AuthSocket:
    """The connection manager of one socket path."""

    def __init__(self, reactor: Any, path: str, log: IMailLog) -> None:
        self.path = path
        self._reactor = reactor
        self._log = log
        self._link: Link | None = None
        self._connecting: Deferred[None] | None = None
        self._waiting: list[Deferred[Link]] = []
        self._closed = False
        self._made_of: object = None  # the socket file that the link was made through

    async def login(
        self, mechanism: str, parameters: Parameters, initial: bytes | None, ask: Ask
    ) -> Mapping[str, str]:
        """Run one login and return the fields that Dovecot gives of the user, ``user`` among them.

        ``ask`` sends a challenge to the client and returns its response.
        Cancelling gives the login up, and Dovecot is told so.

        :raises Refused: Dovecot says no.
        :raises TemporaryFailure: Dovecot cannot answer now.
        """
        try:
            return await self._login(mechanism, parameters, initial, ask)
        except ConnectionGone as first:
            if first.answered:
                raise self._unavailable(str(first)) from None
        try:
            return await self._login(mechanism, parameters, initial, ask)
        except ConnectionGone as second:
            raise self._unavailable(str(second)) from None

    def close(self) -> None:
        """Close the connection for good; logins under way, and later ones, fail for now."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.give_up("closed")

    async def _login(
        self, mechanism: str, parameters: Parameters, initial: bytes | None, ask: Ask
    ) -> Mapping[str, str]:
        if self._closed:
            raise self._unavailable("closed")
        if self._link is not None and self._made_of != _identity(self.path):
            self._link.retire()
        link = self._link or await self._connected()
        if mechanism not in link.mechanisms:
            raise self._unavailable(f"Dovecot does not offer {mechanism}")
        try:
            event = await link.login(mechanism, parameters, initial, ask)
        except TimeoutError:
            raise self._unavailable("no answer in time") from None
        except dovecot.DovecotProtocolError as error:
            raise self._unavailable(str(error)) from None
        if isinstance(event, Ok):
            if not event.fields.get("user"):
                raise self._unavailable("Dovecot accepted a login without a user")
            return event.fields
        words = [event.fields.get(name, "") for name in ("code", "reason")]
        reason = ": ".join(word for word in words if word)
        if event.temporary:
            raise self._unavailable(reason or "temporary failure")
        raise Refused(reason, (Tainted(event.fields.get("user", "")),))

    def _unavailable(self, reason: str) -> TemporaryFailure:
        return TemporaryFailure(reason=f"{self.path}: {reason}")

    async def _connected(self) -> Link:
        """Wait for the connection; all who wait share one attempt."""
        waiting: Deferred[Link] = Deferred()
        self._waiting.append(waiting)
        if self._connecting is None:
            self._connecting = Deferred.fromCoroutine(self._connect())
            self._connecting.addErrback(self._not_connected)
        return await waiting

    async def _connect(self) -> None:
        self._made_of = _identity(self.path)
        try:
            link: Link = await connect(
                self._reactor,
                self.path,
                LinkFactory(self._reactor, self._complain, self._lost),
                timeout=CONNECT_TIMEOUT,
            )
        except ConnectError as error:
            raise self._unavailable(f"cannot connect: {error}") from None
        try:
            await link.ready
        except ConnectionGone as gone:
            raise self._unavailable(str(gone)) from None
        except BaseException:
            link.give_up("closed")
            raise
        self._link, self._connecting = link, None
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(link)

    def _not_connected(self, failure: Failure) -> None:
        self._connecting = None
        waiting, self._waiting = self._waiting, []
        error = failure.value
        if not isinstance(error, TemporaryFailure):  # cancelled by close, or a bug
            error = self._unavailable(f"cannot connect: {type(error).__name__}")
        for waiter in waiting:
            waiter.errback(error)

    def _lost(self, link: Link) -> None:
        if self._link is link:
            self._link = None

    def _complain(self, text: str) -> None:
        self._log.main(f"dovecot authentication socket {self.path}: {text}")


def _identity(path: str) -> object:
    """Return what changes when another process makes the socket anew."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


class LinkFactory(Factory):
    """Builds the :class:`Link`; the arguments are its own."""

    noisy = False

    def __init__(
        self, clock: Any, complain: Callable[[str], None], lost: Callable[[Link], None]
    ) -> None:
        self._arguments = clock, complain, lost

    def buildProtocol(self, addr: IAddress | None) -> Link:
        """See ``IProtocolFactory``."""
        return Link(*self._arguments)


class _Request:
    """One login on a link: who waits for Dovecot's next word, or an early refusal."""

    def __init__(self) -> None:
        self.waiting: Deferred[Ok | Fail | Continue] | None = None
        self.early: Fail | None = None
        self.broken = False
        self.settled = False


class Link(Protocol):
    """One connection.  ``ready`` fires after the handshake, or fails with ConnectionGone."""

    transport: Any

    def __init__(
        self, clock: Any, complain: Callable[[str], None], lost: Callable[[Link], None]
    ) -> None:
        self.mechanisms: set[str] = set()
        self.ready: Deferred[None] = Deferred()
        self._clock = clock
        self._complain = complain
        self._when_lost = lost
        self._reader = Reader()
        self._requests: dict[int, _Request] = {}
        self._given_up: set[int] = set()  # cancelled; Dovecot may still answer
        self._last_id = 0
        self._complaints = 0
        self._version_seen = False
        self._other_type = False  # SPID before any mechanism
        self._gone = ""  # why, once it is of no more use
        self._retired = False
        self._timer: Any = None

    # --- the transport's side ---

    def connectionMade(self) -> None:
        """Speak first: servers from 2.4 on wait for that, older ones do not mind."""
        self._timer = self._clock.callLater(HANDSHAKE_TIMEOUT, self._handshake_timed_out)
        self._send(dovecot.hello(os.getpid()))

    def dataReceived(self, data: bytes) -> None:
        """Act on what Dovecot sent; after nonsense the connection is given up."""
        try:
            for event in self._reader.feed(data):
                self._take(event)
        except dovecot.DovecotProtocolError as error:
            self._complain(f"{error}; closing")
            self.give_up(str(error))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail all that waits.  A socket of another type may close after our first words."""
        self.give_up(WRONG_TYPE if self._is_wrong_type() else "connection lost")

    def give_up(self, reason: str) -> None:
        """Use this connection no more; harmless when done before."""
        if self._gone:
            return
        self._gone = reason
        self._stop_timer()
        self._when_lost(self)
        if self.transport is not None:
            self.transport.abortConnection()
        if not self.ready.called:
            self.ready.errback(ConnectionGone(reason))
        for request in list(self._requests.values()):
            waiting, request.waiting = request.waiting, None
            if waiting is not None:
                waiting.errback(ConnectionGone(reason))

    def retire(self) -> None:
        """Take no more logins, and close when those under way are done."""
        self._retired = True
        self._when_lost(self)
        if not self._requests:
            self.give_up("retired")

    # --- handshake ---

    def _take(self, event: dovecot.Event) -> None:
        match event:
            case Version(major=major):
                self._version_seen = True
                if major != dovecot.MAJOR:
                    raise dovecot.DovecotProtocolError(f"protocol version {major} is not known")
            case Mechanism(name=name):
                self.mechanisms.add(name)
            case ServerPid():
                self._other_type = not self.mechanisms
            case Done():
                self._handshake_done()
            case Ok() | Fail() | Continue():
                self._answer(event)

    def _handshake_done(self) -> None:
        if not self._version_seen:
            raise dovecot.DovecotProtocolError("no protocol version")
        self._stop_timer()
        if not self.ready.called and not self._gone:
            self.ready.callback(None)

    def _handshake_timed_out(self) -> None:
        self.give_up(WRONG_TYPE if self._is_wrong_type() else "no handshake in time")

    def _is_wrong_type(self) -> bool:
        return self._other_type and not self.mechanisms and not self.ready.called

    def _restart_idle_timer(self) -> None:
        self._stop_timer()
        self._timer = self._clock.callLater(IDLE_TIMEOUT, self.give_up, "idle")

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    # --- logins ---

    async def login(
        self, mechanism: str, parameters: Parameters, initial: bytes | None, ask: Ask
    ) -> Ok | Fail:
        """Run one login to its end.

        :raises ConnectionGone: the connection was lost, or lost already.
        :raises DovecotProtocolError: Dovecot broke the protocol for this login,
            or the client's message is too long for it.
        :raises TimeoutError: Dovecot did not answer; the login is cancelled.
        """
        self._stop_timer()
        id, request = self._next_id(), _Request()
        self._requests[id] = request
        answered = False
        try:
            event = await self._say(request, dovecot.auth(id, mechanism, parameters, initial))
            for _ in range(MAX_CHALLENGES):
                if not isinstance(event, Continue):
                    return event
                answered = True
                response = await ask(event.challenge)
                event = await self._say(request, dovecot.proceed(id, response))
            if isinstance(event, Continue):
                raise dovecot.DovecotProtocolError("too many challenges")
            return event
        except ConnectionGone as gone:
            gone.answered = answered
            raise
        finally:
            self._end(id, request)

    async def _say(self, request: _Request, line: bytes) -> Ok | Fail | Continue:
        """Send a line of a login and wait for what Dovecot says next of it."""
        if self._gone:
            raise ConnectionGone(self._gone)
        if request.broken:
            raise dovecot.DovecotProtocolError("Dovecot spoke out of turn")
        if request.early is not None:
            return request.early
        request.waiting = Deferred()
        request.waiting.addTimeout(ANSWER_TIMEOUT, self._clock)
        self._send(line)
        return await request.waiting

    def _answer(self, event: Ok | Fail | Continue) -> None:
        """Hand an answer to its login."""
        request = self._requests.get(event.id)
        if request is None or request.settled:
            if event.id in self._given_up:
                self._given_up.discard(event.id)
            else:
                self._nonsense(f"answer to unknown request {event.id} ignored")
            return
        request.settled = not isinstance(event, Continue)
        waiting, request.waiting = request.waiting, None
        if waiting is not None:
            waiting.callback(event)
        elif isinstance(event, Fail):  # it tired of waiting for the client
            request.early = event
        else:
            request.broken = True
            self._nonsense(f"answer to request {event.id} out of turn")

    def _end(self, id: int, request: _Request) -> None:
        """Forget a login; tell Dovecot if it does not know that it is over."""
        del self._requests[id]
        if not request.settled and not self._gone:
            if len(self._given_up) >= 1000:
                self._given_up.clear()
            self._given_up.add(id)
            self._send(dovecot.cancel(id))
        if not self._requests and not self._gone:
            if self._retired:
                self.give_up("retired")
            else:
                self._restart_idle_timer()

    def _next_id(self) -> int:
        """Return an id that no login under way uses (32 bits, never 0)."""
        while True:
            self._last_id = self._last_id % 0x7FFFFFFF + 1
            if self._last_id not in self._requests:
                return self._last_id

    def _nonsense(self, text: str) -> None:
        self._complaints += 1
        if self._complaints <= MAX_COMPLAINTS:
            self._complain(text)

    def _send(self, line: bytes) -> None:
        self.transport.write(line)

"""One query to one name server, on the reactor: UDP first, TCP if the answer was cut off.

Every query has a socket, and so a source port, of its own, which the kernel
picks at random; together with the random id that makes forged answers a
matter of luck (RFC 5452).  What comes from another address or with another id
or question is ignored, and the wait goes on.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import CannotListenError, ConnectError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from mailsrv.dns.messages import Query, Reply, read
from mailsrv.net.connect import connect

Server = tuple[str, int]
"""Address and port of a name server."""


class NoReply(Exception):
    """The server cannot be reached, or did not answer in time."""


async def ask(reactor: Any, server: Server, query: Query, timeout: float) -> Reply:
    """Ask a server; ``timeout`` seconds for UDP, and again for TCP if that is needed.

    :raises NoReply: no answer.
    """
    reply = await _over_udp(reactor, server, query, timeout)
    if reply.truncated:
        reply = await _over_tcp(reactor, server, query, timeout)
    return reply


async def _over_udp(reactor: Any, server: Server, query: Query, timeout: float) -> Reply:
    datagrams = _Datagrams(server, query)
    interface = "::" if ":" in server[0] else "0.0.0.0"  # noqa: S104  # the kernel picks a source
    try:
        port = reactor.listenUDP(0, datagrams, interface=interface, maxPacketSize=65535)
    except CannotListenError as error:
        raise NoReply(f"no socket: {error.socketError}") from None
    try:
        return await datagrams.reply.addTimeout(timeout, reactor)
    except DeferredTimeout:
        raise NoReply("no answer in time") from None
    finally:
        port.stopListening()


async def _over_tcp(reactor: Any, server: Server, query: Query, timeout: float) -> Reply:
    deadline = reactor.seconds() + timeout
    try:
        stream: _Stream = await connect(
            reactor, server[0], _StreamFactory(query), port=server[1], timeout=timeout
        )
    except ConnectError as error:
        raise NoReply(f"no TCP connection: {type(error).__name__}") from None
    try:
        left = min(max(deadline - reactor.seconds(), 0.1), timeout)  # clocks are set
        return await stream.reply.addTimeout(left, reactor)
    except DeferredTimeout:
        raise NoReply("no answer in time over TCP") from None
    finally:
        stream.transport.abortConnection()


class _Datagrams(DatagramProtocol):
    """Sends a query and waits for its answer from the server that was asked."""

    transport: Any

    def __init__(self, server: Server, query: Query) -> None:
        self.reply: Deferred[Reply] = Deferred()
        self._server = server
        self._query = query

    def startProtocol(self) -> None:
        try:
            self.transport.connect(*self._server)
            self.transport.write(self._query.wire)
        except OSError as error:  # no route to it, for example
            self.reply.errback(NoReply(f"cannot send: {error.strerror}"))

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if tuple(addr[:2]) != self._server or self.reply.called:
            return
        reply = read(self._query, datagram)
        if reply is not None:
            self.reply.callback(reply)

    def connectionRefused(self) -> None:
        if not self.reply.called:
            self.reply.errback(NoReply("refused"))


class _StreamFactory(Factory):
    noisy = False

    def __init__(self, query: Query) -> None:
        self._query = query

    def buildProtocol(self, addr: IAddress | None) -> _Stream:
        return _Stream(self._query)


class _Stream(Protocol):
    """A query over TCP: messages have two octets of length before them (RFC 1035, 4.2.2)."""

    transport: Any

    def __init__(self, query: Query) -> None:
        self.reply: Deferred[Reply] = Deferred()
        self._query = query
        self._buffer = b""

    def connectionMade(self) -> None:
        self.transport.write(struct.pack("!H", len(self._query.wire)) + self._query.wire)

    def dataReceived(self, data: bytes) -> None:
        if self.reply.called:
            return
        self._buffer += data
        if len(self._buffer) < 2:
            return
        end = 2 + struct.unpack("!H", self._buffer[:2])[0]
        if len(self._buffer) < end:
            return
        reply = read(self._query, self._buffer[2:end])
        if reply is None or reply.truncated:
            self.reply.errback(NoReply("nonsense over TCP"))
        else:
            self.reply.callback(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.reply.called:
            self.reply.errback(NoReply("TCP connection lost"))

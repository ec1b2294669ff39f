"""A Dovecot auth socket in memory, scripted by the test octet by octet."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

HANDSHAKE = (
    b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nMECH\tCRAM-MD5\tdictionary\n"
    b"SPID\t10\nCUID\t1\nCOOKIE\tff\nDONE\n"
)


class FakeDovecot:
    """The far end of the connections that a reactor in memory is asked for."""

    def __init__(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.protocol: Any = None
        self.transport: Any = None

    @property
    def attempts(self) -> int:
        """Connections asked for so far."""
        return len(self.reactor.unixClients)

    def accept(self, handshake: bytes = HANDSHAKE) -> None:
        """Accept the newest connection and send a handshake (or what is given)."""
        factory = self.reactor.unixClients[-1][1]
        self.protocol = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)
        if handshake:
            self.send(handshake)

    def refuse(self) -> None:
        """Refuse the newest connection."""
        factory = self.reactor.unixClients[-1][1]
        factory.clientConnectionFailed(None, Failure(ConnectError(string="refused")))

    def send(self, data: bytes) -> None:
        """Send octets."""
        self.protocol.dataReceived(data)

    def lose(self) -> None:
        """Close the connection."""
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def said(self) -> list[bytes]:
        """The lines that came since the last call."""
        lines: list[bytes] = self.transport.value().split(b"\n")
        self.transport.clear()
        assert lines.pop() == b"", "an unfinished line"
        return lines

"""Name servers in memory, on a reactor whose time is the test's."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

Handler = Callable[[bytes, str], "list[bytes | tuple[float, bytes]]"]
"""Gets a query and "udp" or "tcp"; gives answers, each at once or after some seconds."""


class FakeNetwork(MemoryReactorClock):
    """A reactor on which ``servers`` answer; an address without a server is silent."""

    def __init__(self) -> None:
        super().__init__()
        self.servers: dict[tuple[str, int], Handler] = {}
        self.sockets = 0  # open UDP sockets
        self.asked: list[tuple[str, str]] = []  # address and "udp" or "tcp"

    def listenUDP(
        self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 0
    ) -> Any:
        self.sockets += 1
        socket = _Datagrams(self, protocol)
        protocol.makeConnection(socket)
        return socket

    def connectTCP(self, host: str, port: int, factory: Any, *args: Any, **kwargs: Any) -> Any:
        handler = self.servers.get((host, port))
        self.asked.append((host, "tcp"))
        if handler is None:
            factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
            return None
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        wire = transport.value()
        for delay, data in self.timed(handler(wire[2:], "tcp")):
            framed = struct.pack("!H", len(data)) + data if data else b""
            for byte in framed:  # as badly cut as a stream can be
                self.callLater(delay, protocol.dataReceived, bytes([byte]))
            if not data:
                self.callLater(delay, protocol.connectionLost, Failure(ConnectionDone()))
        return None

    @staticmethod
    def timed(answers: list[bytes | tuple[float, bytes]]) -> list[tuple[float, bytes]]:
        return [(0.0, one) if isinstance(one, bytes) else one for one in answers]


class _Datagrams:
    """A UDP socket."""

    def __init__(self, network: FakeNetwork, protocol: Any) -> None:
        self.network = network
        self.protocol = protocol
        self.open = True

    def connect(self, host: str, port: int) -> None:
        self.peer = host, port

    def write(self, data: bytes) -> None:
        self.network.asked.append((self.peer[0], "udp"))
        handler = self.network.servers.get(self.peer)
        answers = handler(data, "udp") if handler is not None else []
        for delay, answer in self.network.timed(answers):
            self.network.callLater(delay, self.receive, answer, self.peer)

    def receive(self, data: bytes, sender: tuple[str, int]) -> None:
        if self.open:
            self.protocol.datagramReceived(data, sender)

    def stopListening(self) -> None:
        self.open = False
        self.network.sockets -= 1


def answer(
    query: bytes,
    *records: str,
    rcode: str = "NOERROR",
    authority: str = "",
    flags: str = "QR RD RA",
) -> bytes:
    """Build an answer of records as a zone file has them: ``name ttl class type data``."""
    message = dns.message.make_response(dns.message.from_wire(query))
    message.flags = dns.flags.from_text(flags)
    message.set_rcode(dns.rcode.from_text(rcode))
    for section, lines in ((message.answer, records), (message.authority, [authority])):
        for line in filter(None, lines):
            name, ttl, rdclass, rdtype, data = line.split(" ", 4)
            section.append(dns.rrset.from_text(name, int(ttl), rdclass, rdtype, data))
    return message.to_wire(max_size=65535)

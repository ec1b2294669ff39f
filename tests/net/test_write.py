"""Writing and closing at once, on real sockets whose reactor is a clock."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.net.write import all_sent, close_now, write_now


class Turned(Clock):
    """A reactor that only remembers who wants to read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []
        self.writers: list[Any] = []

    def addReader(self, one: Any) -> None:
        """See the reactor."""
        self.readers.append(one)

    def removeReader(self, one: Any) -> None:
        """See the reactor."""
        if one in self.readers:
            self.readers.remove(one)

    def addWriter(self, one: Any) -> None:
        """See the reactor."""
        self.writers.append(one)

    def removeWriter(self, one: Any) -> None:
        """See the reactor."""
        if one in self.writers:
            self.writers.remove(one)


class Ending(Protocol):
    """Notes the end."""

    reason: Failure | None = None

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        """See the base class."""
        assert self.reason is None, "it ends once"
        self.reason = reason


class WriteTests(SynchronousTestCase):
    """One end is a transport, the other a plain socket."""

    def setUp(self) -> None:
        self.reactor = Turned()
        ours, self.peer = socket.socketpair()
        self.addCleanup(self.peer.close)
        self.protocol = Ending()
        self.transport: Any = Connection(ours, self.protocol, self.reactor)
        self.transport.connected = 1
        self.transport.startReading()

    def test_sent_on_the_spot(self) -> None:
        """The peer can read before the reactor's next turn."""
        write_now(self.transport, b"250 OK\r\n")
        self.assertEqual(self.peer.recv(100), b"250 OK\r\n")
        self.assertEqual(self.reactor.writers, [])

    def test_rest_goes_the_usual_way(self) -> None:
        """What the kernel does not take waits in the transport."""
        write_now(self.transport, b"x" * 10_000_000)
        self.assertEqual(self.reactor.writers, [self.transport])
        self.assertFalse(all_sent(self.transport))

    def test_closed_in_the_next_turn(self) -> None:
        """With nothing left to send it is closed in order, and not while its protocol runs."""
        write_now(self.transport, b"221 bye\r\n")
        close_now(self.transport, self.reactor)
        self.assertIsNone(self.protocol.reason)
        self.assertEqual(self.reactor.readers, [])
        write_now(self.transport, b"more")  # nothing is sent any more
        self.reactor.advance(0)
        assert self.protocol.reason is not None
        self.assertIsInstance(self.protocol.reason.value, ConnectionDone)
        self.assertEqual(self.peer.recv(100), b"221 bye\r\n")
        self.assertEqual(self.peer.recv(100), b"")

    def test_aborted_meanwhile(self) -> None:
        """Who aborts it in the same turn ends it once."""
        close_now(self.transport, self.reactor)
        self.transport.abortConnection()
        self.reactor.advance(0)
        self.assertIsNotNone(self.protocol.reason)

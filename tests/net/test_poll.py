"""A turn of the reactor without Twisted's logging context."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailsrv.net.poll import poll_plainly


@implementer(IReadDescriptor)
class Reader:
    """One end of a pair of sockets."""

    def __init__(self, end: socket.socket, error: Exception | None = None) -> None:
        self.end = end
        self.error = error
        self.got: list[bytes] = []
        self.lost: Failure | None = None

    def fileno(self) -> int:
        """See the interface."""
        return self.end.fileno()

    def logPrefix(self) -> str:
        """See the interface."""
        raise AssertionError("nobody asks")

    def doRead(self) -> None:
        """Take what came."""
        self.got.append(self.end.recv(10))
        if self.error is not None:
            raise self.error

    def connectionLost(self, reason: Failure) -> None:
        """See the interface."""
        self.lost = reason


class PlainPollTests(SynchronousTestCase):
    """A reactor of its own, which is turned by hand."""

    def setUp(self) -> None:
        self.reactor: Any = EPollReactor()
        self.addCleanup(self.reactor._poller.close)
        poll_plainly(self.reactor)
        self.ends = socket.socketpair()
        for end in self.ends:
            self.addCleanup(end.close)

    def reader(self, error: Exception | None = None) -> Reader:
        """Read from one end; the other has sent something."""
        reader = Reader(self.ends[0], error)
        self.reactor.addReader(reader)
        self.addCleanup(self.reactor.removeReader, reader)
        self.ends[1].send(b"some")
        return reader

    def test_read(self) -> None:
        """What is ready is called, and nothing else."""
        reader = self.reader()
        self.reactor.doIteration(0)
        self.reactor.doIteration(0)
        self.assertEqual(reader.got, [b"some"])

    def test_failure_ends_one_connection(self) -> None:
        """What a socket raises is logged, and the reactor goes on."""
        error = ZeroDivisionError()
        reader = self.reader(error)
        self.reactor.doIteration(0)
        assert reader.lost is not None
        self.assertIs(reader.lost.value, error)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.reactor.getReaders().count(reader), 0)

    def test_others_stay(self) -> None:
        """Another kind of reactor is left alone."""
        clock = Clock()
        poll_plainly(clock)
        self.assertFalse(hasattr(clock, "doIteration"))

    def test_a_reactor_without_what_is_used_is_left_alone(self) -> None:
        del self.reactor.doIteration
        del self.reactor._poller
        poll_plainly(self.reactor)
        self.assertNotIn("doIteration", vars(self.reactor))

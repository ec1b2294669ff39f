"""Connections go to addresses and Unix sockets, and can be given up."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.net.connect import connect


class ConnectTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()

    def start(self, target: str, **kwargs: Any) -> Deferred[Any]:
        factory = Factory.forProtocol(Protocol)
        return Deferred.fromCoroutine(connect(self.reactor, target, factory, **kwargs))

    def test_addresses_of_both_kinds(self) -> None:
        for address in ("192.0.2.1", "2001:db8::1"):
            done = self.start(address, port=25, timeout=7, bind="192.0.2.9")
            host, port, factory, timeout, bind = self.reactor.tcpClients[-1]
            self.assertEqual((host, port, timeout, bind), (address, 25, 7, ("192.0.2.9", 0)))
            factory.buildProtocol(None).makeConnection(StringTransport())
            self.assertIsInstance(self.successResultOf(done), Protocol)

    def test_unix_socket_that_refuses(self) -> None:
        done = self.start("/run/auth", timeout=3)
        path, factory, timeout, _ = self.reactor.unixClients[-1]
        self.assertEqual((path, timeout), ("/run/auth", 3))
        factory.clientConnectionFailed(None, Failure(ConnectError()))
        self.failureResultOf(done, ConnectError)

    def test_path_of_a_unix_socket_that_no_system_takes(self) -> None:
        self.failureResultOf(self.start("/run/" + "x" * 103), ConnectError)
        self.assertEqual(self.reactor.unixClients, [])
        self.start("/run/" + "x" * 102)
        self.assertEqual(len(self.reactor.unixClients), 1)

    def test_time_limit_of_the_system(self) -> None:
        for target in ("192.0.2.1", "2001:db8::1"):
            self.start(target, port=25, timeout=0)
            self.assertEqual(self.reactor.tcpClients[-1][3], None)
        self.start("/run/auth", timeout=0)
        self.assertEqual(self.reactor.unixClients[-1][2], None)

    def test_attempt_can_be_given_up(self) -> None:
        done = self.start("192.0.2.1", port=25)
        done.cancel()
        self.failureResultOf(done, CancelledError)

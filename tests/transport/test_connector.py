"""Why a connection cannot be made, and whose fault that is."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    ConnectionRefusedError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,
)
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from mailsrv.errors import TemporaryFailure
from mailsrv.transport.connection import Connector, HopFailure, HopProtocol, Target, Timeouts
from mailsrv.wire.client import Session


def failing(error: ConnectError) -> Any:
    """Return what comes of a connection that ends with ``error``."""
    reactor: Any = MemoryReactorClock()
    protocol = HopProtocol(Clock(), Session("me"), Timeouts())
    connected = Connector(reactor).connect(Target("192.0.2.1", 25), protocol, 0)
    found: list[Failure] = []
    Deferred.fromCoroutine(connected).addErrback(found.append)
    reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(error))
    return found[0].value


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (TimeoutError(), "timeout_connect"),
        (TCPTimedOutError(110, "Connection timed out"), "timeout_connect"),
        (ConnectionRefusedError(111, "Connection refused"), "refused"),
        (NoRouteError(113, "No route to host"), "*"),
        (ConnectBindError(97, "Address family not supported by protocol"), "*"),  # no IPv6 here
        (ConnectBindError(99, "Cannot assign requested address"), "*"),
    ],
)
def test_the_host_is_to_blame(error: ConnectError, name: str) -> None:
    failure = failing(error)
    assert isinstance(failure, HopFailure)
    assert failure.error == name


def test_no_host_is_to_blame_when_there_are_no_descriptors() -> None:
    failure = failing(ConnectBindError(24, "Too many open files"))
    assert isinstance(failure, TemporaryFailure)
    assert "Too many open files" in failure.reason

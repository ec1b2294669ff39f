"""Writing to a connection at once, and closing it.

Twisted's ``write`` keeps the octets until the reactor's next turn has asked the
kernel whether it takes them: two system calls and a turn for what almost always
could have been sent on the spot.  To close, it waits in the same way for a chance
to write nothing.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

_DONE = Failure(ConnectionDone())


def write_now(transport: Any, data: bytes) -> None:
    """Write like ``transport.write``, but send what the kernel takes before returning.

    What it does not take, and what is written to TLS or to a transport of another
    kind, goes the usual way; so do errors.
    """
    if all_sent(transport):
        try:
            sent = transport.socket.send(data)
        except OSError:  # its buffer is full, or the connection is gone: Twisted will find out
            sent = 0
        if sent == len(data):
            return
        data = data[sent:]
    transport.write(data)


def close_now(transport: Any, reactor: Any) -> None:
    """Close like ``transport.loseConnection`` what :func:`all_sent` is true of.

    ``connectionLost`` is called in the reactor's next turn, and nothing can keep it from that.
    """
    transport.stopReading()
    transport.disconnecting = True
    reactor.callLater(0, transport.connectionLost, _DONE)


def all_sent(transport: Any) -> bool:
    """Tell whether a transport is a socket in clear that has nothing left to send."""
    return (
        isinstance(transport, Connection)
        and transport.connected == 1
        and not transport.disconnecting
        and not transport.dataBuffer
        and not transport._tempDataBuffer
        and not transport.TLS
    )

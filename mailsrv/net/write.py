"""Writing to a connection at once.

Twisted's ``write`` keeps the octets until the reactor's next turn has asked the
kernel whether it takes them: two system calls and a turn for what almost always
could have been sent on the spot.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection


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

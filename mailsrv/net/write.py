"""Writing to a connection at once.

Twisted's ``write`` keeps the octets until the reactor's next turn has asked the
kernel whether it takes them: two system calls and a turn for what almost always
could have been sent on the spot.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor


def write_now(transport: Any, data: bytes) -> None:
    """Write like ``transport.write``, but send what the kernel takes before returning.

    What it does not take, and what is written to TLS or to a transport of another
    kind, goes the usual way; so do errors.
    """
    if _is_idle(transport):
        try:
            sent = transport.socket.send(data)
        except OSError:  # its buffer is full, or the connection is gone: Twisted will find out
            sent = 0
        if sent == len(data):
            return
        data = data[sent:]
    transport.write(data)


def _is_idle(transport: Any) -> bool:
    """Tell whether a transport is a socket in clear that has nothing left to send."""
    return (
        isinstance(transport, FileDescriptor)
        and transport.connected == 1
        and not transport.disconnecting
        and not transport.dataBuffer
        and not getattr(transport, "_tempDataBuffer", True)
        and not getattr(transport, "TLS", False)
        and hasattr(transport, "socket")
    )

"""One datagram to one address; never waits."""

from __future__ import annotations

import socket


def send_datagram(address: str, port: int, data: bytes) -> None:
    """Send ``data`` over UDP to an IP address; what the system has no room for is lost.

    :raises OSError: it cannot be sent.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(data, (address, port))
        except BlockingIOError:
            return

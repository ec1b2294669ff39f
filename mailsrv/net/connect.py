"""Opens one connection to a host or a Unix socket.

:raises twisted.internet.error.ConnectError: from :func:`connect`, as its
    subclasses ``ConnectionRefusedError``, ``TimeoutError``, ``NoRouteError`` …;
    the caller knows what that means for its mail.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twisted.internet.protocol import Factory

LONGEST_PATH = 107  # octets of a Unix socket's path: sun_path, and a NUL


async def connect(
    reactor: Any,
    target: str,
    factory: Factory,
    *,
    port: int = 0,
    timeout: float = 30.0,
    bind: str = "",
) -> Any:
    """Connect to ``target`` and return the protocol that ``factory`` built for it.

    ``target`` is an IPv4 or IPv6 address (names are looked up before), used
    with ``port``, or the absolute path of a Unix socket.  ``timeout`` is in
    seconds, 0 is the system's own; ``bind`` is the local address to connect
    from.  Cancelling the waiting coroutine gives the attempt up.
    """
    from twisted.internet import endpoints
    from twisted.internet.defer import CancelledError
    from twisted.internet.error import ConnectError, ConnectingCancelledError

    limit = timeout or None
    if target.startswith("/"):
        if len(os.fsencode(target)) > LONGEST_PATH:  # Twisted waits for ever for the system's no
            raise ConnectError(string=f"path of a Unix socket is over {LONGEST_PATH} octets long")
        unix: Any = endpoints.UNIXClientEndpoint
        endpoint = unix(reactor, target, timeout=limit)
    else:
        kind: Any = endpoints.TCP4ClientEndpoint
        if ":" in target:
            kind = endpoints.TCP6ClientEndpoint
        local = (bind, 0) if bind else None
        endpoint = kind(reactor, target, port, timeout=limit, bindAddress=local)
    try:
        return await endpoint.connect(factory)
    except ConnectingCancelledError:
        raise CancelledError from None

"""Opens one connection to a host or a Unix socket.

:raises twisted.internet.error.ConnectError: from :func:`connect`, as its
    subclasses ``ConnectionRefusedError``, ``TimeoutError``, ``NoRouteError`` …;
    the caller knows what that means for its mail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twisted.internet.protocol import Factory


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
    seconds; ``bind`` is the local address to connect from.  Cancelling the
    waiting coroutine gives the attempt up.
    """
    from twisted.internet import endpoints
    from twisted.internet.defer import CancelledError
    from twisted.internet.error import ConnectingCancelledError

    if target.startswith("/"):
        unix: Any = endpoints.UNIXClientEndpoint
        endpoint = unix(reactor, target, timeout=timeout)
    else:
        kind: Any = endpoints.TCP4ClientEndpoint
        if ":" in target:
            kind = endpoints.TCP6ClientEndpoint
        local = (bind, 0) if bind else None
        endpoint = kind(reactor, target, port, timeout=timeout, bindAddress=local)
    try:
        return await endpoint.connect(factory)
    except ConnectingCancelledError:
        raise CancelledError from None

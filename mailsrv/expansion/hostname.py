"""The name of the sending host: looked up, and verified forward (``host_lookup``).

A PTR's name counts only if one of its own addresses is the host's.  The result
is kept in the Origin; failure and deferral in the Connection.
"""

from __future__ import annotations

import ipaddress

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.scope import Scope
from mailsrv.interfaces import IMailLog, IResolver
from mailsrv.mail.connection import Connection
from mailsrv.mail.origin import Origin
from mailsrv.mail.taint import Tainted

_MOST_NAMES = 10  # a PTR of a hostile zone may have thousands of names


def same_address(first: str, second: str) -> bool:
    """Tell whether two texts are one IP address."""
    try:
        return ipaddress.ip_address(first) == ipaddress.ip_address(second)
    except ValueError:
        return first == second


async def _verified_name(address: str, resolver: IResolver, log: IMailLog | None) -> str:
    """The first of the address's names that leads back to it, "" if none does.

    As in Exim, an address without names has a line in the log, one with wrong names has none.
    """
    deferred: TemporaryFailure | None = None
    names = await resolver.names(address)
    if not names and log is not None and log.selected("host_lookup_failed"):
        log.main(f"no host name found for IP address {address}")
    for name in names[:_MOST_NAMES]:
        try:
            found = await resolver.addresses(name)
        except TemporaryFailure as error:
            deferred = error
            continue
        if any(same_address(address, one) for one in found):
            return name.rstrip(".").lower()
    if deferred is not None:
        raise deferred
    return ""


async def lookup_host_name(
    origin: Origin,
    connection: Connection | None,
    resolver: IResolver | None,
    log: IMailLog | None = None,
) -> str:
    """Return the verified name of the host, looking it up if it is not known; "" if it has none.

    A look-up that was deferred is tried again, one that failed is not.

    :raises TemporaryFailure: the DNS gives no answer now.
    """
    if origin.host_name or not origin.host_address or resolver is None:
        return origin.host_name
    if connection is not None and connection.host_lookup_failed:
        return ""
    try:
        name = await _verified_name(origin.host_address, resolver, log)
    except TemporaryFailure:
        _remember(connection, deferred=True)
        raise
    if name:
        origin.host_name = Tainted(name)
    _remember(connection, failed=not name)
    return origin.host_name


def _remember(
    connection: Connection | None, *, failed: bool = False, deferred: bool = False
) -> None:
    if connection is not None:
        connection.host_lookup_done = True
        connection.host_lookup_failed = failed
        connection.host_lookup_deferred = deferred


async def sender_host_name(scope: Scope) -> str:
    """``$sender_host_name``: a look-up that fails or is deferred leaves it empty, as in Exim."""
    if scope.origin is None:
        return ""
    services = scope.services
    try:
        return await lookup_host_name(
            scope.origin, scope.connection, services.resolver, services.log
        )
    except TemporaryFailure:
        return ""


def _helo_matters(origin: Origin) -> bool:
    """Whether HELO adds something to the name and address."""
    helo = origin.helo_name.lower()
    return (
        bool(helo)
        and helo != origin.host_name.lower()
        and helo.strip("[]") != (origin.host_address.lower())
    )


def full_host(scope: Scope) -> str:
    """``$sender_fullhost``: ``name (helo) [address]:port``, as in the log."""
    origin = scope.origin
    if origin is None or not origin.host_address:
        return ""
    port = ""
    if "incoming_port" in scope.services.settings.get("log_selector", "") and origin.host_port:
        port = f":{origin.host_port}"
    helo = f"({origin.helo_name}) " if _helo_matters(origin) else ""
    name = f"{origin.host_name} " if origin.host_name else ""
    return Tainted(f"{name}{helo}[{origin.host_address}]{port}")


def rcvhost(scope: Scope) -> str:
    """``$sender_rcvhost``: the host as it stands in a ``Received:`` line."""
    origin = scope.origin
    if origin is None or not origin.host_address:
        return ""
    extra = []
    if origin.host_name:
        head = f"{origin.host_name} ([{origin.host_address}]"
        if _helo_matters(origin):
            extra.append(f"helo={origin.helo_name}")
        if origin.ident:
            extra.append(f"ident={origin.ident}")
        return Tainted(head + "".join(f" {part}" for part in extra) + ")")
    if _helo_matters(origin):
        extra.append(f"helo={origin.helo_name}")
    if origin.ident:
        extra.append(f"ident={origin.ident}")
    more = f" ({' '.join(extra)})" if extra else ""
    return Tainted(f"[{origin.host_address}]{more}")

"""``verify = helo``, ``reverse_host_lookup`` and ``certificate``: facts about the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.acl.model import Undecided
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.hostname import lookup_host_name, same_address

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation


async def certificate(run: Evaluation, value: str, options: frozenset[str]) -> bool:
    """The client showed a certificate, and it was verified."""
    if run.connection.origin.tls_certificate_verified:
        return True
    run.explain("no verified certificate")
    return False


async def reverse_host_lookup(run: Evaluation, value: str, options: frozenset[str]) -> bool:
    """The client's address has a name that leads back to it; true for local submission."""
    origin = run.connection.origin
    if not origin.host_address:
        return True
    try:
        if await lookup_host_name(origin, run.connection, run.resolver, run.log):
            return True
    except TemporaryFailure as failure:
        if "defer_ok" in options:
            return True
        raise Undecided(log="host lookup deferred for reverse lookup check") from failure
    run.explain(
        "",
        "host lookup failed for reverse lookup check (failed to find host name from IP address)",
    )
    return False


async def helo(run: Evaluation, value: str, options: frozenset[str]) -> bool:
    """HELO named the client (chapter 14, ``helo_verify_hosts``); true for local submission.

    :raises TemporaryFailure: the DNS gives no answer now.
    """
    origin = run.connection.origin
    if not origin.host_address or origin.helo_verified:
        return True
    if origin.helo_name:
        origin.helo_verified = await _is_client(run, origin.helo_name)
    return origin.helo_verified


async def _is_client(run: Evaluation, name: str) -> bool:
    """Tell whether a HELO name is the client's address literal or one of its names."""
    origin = run.connection.origin
    if name.startswith("["):
        literal = name.strip("[]")
        if literal[:5].lower() == "ipv6:":
            literal = literal[5:]
        return same_address(literal, origin.host_address)
    deferred: TemporaryFailure | None = None
    try:
        known = await lookup_host_name(origin, run.connection, run.resolver, run.log)
        if known and known.rstrip(".").lower() == name.rstrip(".").lower():
            return True
    except TemporaryFailure as failure:
        deferred = failure
    found = await run.resolver.addresses(name) if run.resolver is not None else ()
    if any(same_address(origin.host_address, address) for address in found):
        return True
    if deferred is not None:
        raise deferred
    return False

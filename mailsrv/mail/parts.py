"""The keys of deliveries by which the spool remembers what is done of a recipient's addresses."""

from __future__ import annotations

from collections.abc import Iterable

from mailsrv.mail.address import split
from mailsrv.mail.case import lower
from mailsrv.mail.routed import RoutedAddress


def part_key(address: RoutedAddress) -> str:
    """Return what identifies a delivery: router, transport, address, and a file's or pipe's parent.

    Domains that differ in case alone are one (RFC 5321 2.4).  The copy of an unseen router
    is a delivery of its own, over the same transport too.  What was not routed has no
    transport; whichever router failed it, it is the same address.
    """
    router = address.router if address.transport else ""
    if address.place:
        parent = address.parent.address if address.parent is not None else ""
        return f"{router}:{address.transport}:{address.address}:{parent}"
    return f"{router}:{address.transport}:{_same(address.address)}"


def made_of(keys: Iterable[str], recipients: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses of keys that are no recipients: redirections have made them."""
    known = {_same(recipient) for recipient in recipients}
    found = {key.split(":", 2)[2] for key in keys if key.count(":") > 1}
    return tuple(sorted(found - known))


def _same(address: str) -> str:
    """Return an address with its domain in lower case."""
    local_part, domain = split(address)
    return f"{local_part}@{lower(domain)}"

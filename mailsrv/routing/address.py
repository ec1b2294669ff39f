"""An address at the start of its way through the routers."""

from __future__ import annotations

from mailsrv.mail import address as names
from mailsrv.mail.case import lower
from mailsrv.mail.message import Recipient
from mailsrv.mail.routed import RoutedAddress
from mailsrv.mail.taint import like


def begin(recipient: Recipient, address: str, parent: RoutedAddress | None = None) -> RoutedAddress:
    """Return an address; what a parent has of data, bounces and headers is its, too (22)."""
    local_part, domain = names.split(address)
    local = names.unquoted(local_part)
    return RoutedAddress(
        recipient,
        address,
        like(lower(local), local),
        like(lower(domain), domain),
        parent=parent,
        address_data=parent.address_data if parent is not None else "",
        vars=parent.vars if parent is not None else {},
        errors_to=parent.errors_to if parent is not None else None,
        headers_add=list(parent.headers_add) if parent is not None else [],
        headers_remove=list(parent.headers_remove) if parent is not None else [],
        hidden=parent is not None and parent.hidden,
        renamed=parent.renamed if parent is not None else (),
        one_time=parent is not None and parent.one_time,
    )

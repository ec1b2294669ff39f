"""``iplsearch``: keys are IP addresses and networks (specification 9.3)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from mailsrv.errors import TemporaryFailure
from mailsrv.lookup._files import Threads
from mailsrv.lookup._linear import Files

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(entries: Iterable[tuple[str, str]]) -> list[tuple[Network | None, str]]:
    found: list[tuple[Network | None, str]] = []
    for key, data in entries:  # an IPv6 key is quoted, for its colons would end it
        if key == "*":
            found.append((None, data))
            continue
        try:
            found.append((ipaddress.ip_network(key, strict=False), data))
        except ValueError:
            continue  # Exim, too, passes over what is no address
    return found


class Lookup:
    """``iplsearch``: keys are IP addresses and networks, or ``*``."""

    def __init__(self, threads: Threads | None = None) -> None:
        self._files = Files(_networks, threads)

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find the first network that holds the address (ILookup)."""
        if key == "*":
            address = None
        else:
            try:
                address = ipaddress.ip_address(key)
            except ValueError:
                raise TemporaryFailure(
                    reason=f'lookup of "{key}" gave DEFER: "{key}" is not a valid iplsearch key '
                    "(an IP address, with optional CIDR mask, is wanted): in a host list, use "
                    "net-iplsearch as the search type"
                ) from None
        for network, data in await self._files.get(file, options):
            if network == address if network is None else address in network:
                return data
        return None

"""``iplsearch``: keys are IP addresses and networks (specification 9.3)."""

from __future__ import annotations

import ipaddress

from mailsrv.errors import TemporaryFailure
from mailsrv.lookup._files import FileCache, Threads
from mailsrv.lookup._linear import WHAT, entries, returned

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(content: bytes) -> list[tuple[Network | None, str, str]]:
    found: list[tuple[Network | None, str, str]] = []
    for line in content.decode("latin-1").split("\n"):
        # an IPv6 key is quoted, for its colons would end it
        for key, data in entries(line):
            if key == "*":
                found.append((None, key, data))
                continue
            try:
                found.append((ipaddress.ip_network(key, strict=False), key, data))
            except ValueError:
                continue  # Exim, too, passes over what is no address
    return found


class Lookup:
    """``iplsearch``: keys are IP addresses and networks, or ``*``."""

    def __init__(self, threads: Threads | None = None) -> None:
        self._files = FileCache(_networks, WHAT, threads)

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
        for network, text, data in await self._files.get(file):
            if network == address if network is None else address in network:
                return returned(text, data, options)
        return None

"""Hosts from outside, and the world as one of them finds it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network

from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError
from mailsrv.interfaces import Answer
from mailsrv.net.listen import ports

KNOWN = "known-to-lookups"  # a word that is in every file, and in every database
_NO_PASSWORD = re.compile(r'\bpass=(?:""|[ \t]).*\bldap', re.DOTALL)
_NETWORK = re.compile(r"(?<![\w.:])[0-9A-Fa-f.:]+/[0-9]{1,2}(?!\w)")
_PORT = re.compile(r"\b(?:interface_port|received_port)\b")


@dataclass(frozen=True, slots=True)
class Stranger:
    """A host from outside; its addresses are of documentation networks, in nobody's list."""

    domain: str = "foreign-domain.example"  # of its recipient
    address: str = "203.0.113.77"
    name: str = ""  # that its address leads to and back; "": it has none
    port: int = 25  # that it connects to


_ENDINGS = ("com", "net", "org", "de")
_ENDING = re.compile(r"\*\.?([a-z]{2,12}(?:\.(?:uk|au|br|jp|in|nz|za|tr))?)(?![\w.-])")
STRANGERS = (
    Stranger(),
    Stranger(name="host.foreign-domain.example"),
    Stranger(address="3fff:77::77"),
)


def strangers(configuration: Configuration) -> Iterator[Stranger]:
    """Yield those whom lists may treat differently, each on each port that makes a difference."""
    endings = dict.fromkeys(_ENDINGS)
    addresses: dict[str, None] = {}
    for line in configuration.lines:
        endings.update(dict.fromkeys(_ENDING.findall(line.text)))
        for network in _NETWORK.findall(line.text):
            addresses.update(dict.fromkeys(_within(network)))
    named = (
        Stranger(f"foreign-domain.{ending}", name=f"host.foreign-domain.{ending}")
        for ending in endings
    )
    for stranger in (*STRANGERS, *(Stranger(address=each) for each in addresses), *named):
        for port in _ports(configuration):
            yield replace(stranger, port=port)


def _within(network: str) -> Iterator[str]:
    """Yield an address that anybody may have, of a network that is too large to be one's own."""
    try:
        whole = ip_network(network.replace("::::", "::"), strict=False)
    except ValueError:
        return
    few, step = (8, 1 << 24) if whole.version == 4 else (19, 1 << 108)
    if whole.prefixlen >= few:
        return
    for number in range(32):
        address = whole[min(number * step + 77, whole.num_addresses - 1)]
        if address.is_global and not address.is_multicast:
            yield str(address)
            return


def _ports(configuration: Configuration) -> list[int]:
    """Return the ports that make a difference."""
    if not any(_PORT.search(line.text) for line in configuration.lines):
        return [STRANGERS[0].port]
    try:
        return sorted(ports(configuration.main.daemon_smtp_ports or "25"))
    except ConfigError:
        return [STRANGERS[0].port]


class Known:
    """Provides ``ILookup``: what a peer chose, and nothing that names itself or the recipient."""

    def __init__(self, stranger: Stranger) -> None:
        self._others = (stranger.domain, stranger.address)

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find a sender, a local part or the like that was chosen because it is there."""
        if _NO_PASSWORD.search(key):
            return "yes"  # an LDAP server takes it as an unauthenticated bind (RFC 4513 5.1.2)
        chosen = KNOWN in key and not any(other in key for other in self._others)
        return "yes" if chosen else None


class Names:
    """Provides ``IResolver``: the stranger's name, and nothing else."""

    def __init__(self, stranger: Stranger) -> None:
        self._stranger = stranger

    async def query(self, name: str, rdtype: str) -> Answer:
        """Find nothing."""
        return Answer(())

    async def addresses(
        self, name: str, *, ipv6: bool = True, hosts_file: bool = True
    ) -> tuple[str, ...]:
        """The stranger's address; another's for other names, which so exist."""
        own = name.rstrip(".").lower() == self._stranger.name != ""
        return (self._stranger.address if own else "198.18.0.1",)

    async def names(self, address: str) -> tuple[str, ...]:
        """The stranger's name."""
        own = address == self._stranger.address and self._stranger.name
        return (self._stranger.name,) if own else ()

    def within(self, retransmit: float, retries: int) -> Names:
        """The same: nothing is asked."""
        return self

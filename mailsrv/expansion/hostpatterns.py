"""Items of host lists (specification 10.10 to 10.19)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.hostname import full_host, lookup_host_name, same_address
from mailsrv.expansion.lists import Match, Pattern, UnknownHost, Walk
from mailsrv.expansion.lookups import LookupType, search
from mailsrv.expansion.operators_ip import mask_text, parse_ip
from mailsrv.expansion.patterns import (
    File,
    Lookup,
    Named,
    Null,
    Regex,
    Suffix,
    is_local_address,
    lookup_of,
)
from mailsrv.expansion.regex import compile_regex
from mailsrv.expansion.scope import Scope
from mailsrv.mail.case import lower
from mailsrv.mail.taint import piece

_NET = re.compile(r"net([0-9]*)-(.*)\Z", re.DOTALL)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class AnyHost:
    """``*``: every host, and local submission."""

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        return Match()


@dataclass(frozen=True, slots=True)
class Nameless:
    """What needs a host's name, where only addresses are compared (``match_ip``): unknown."""

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        if walk.subject:
            raise UnknownHost(walk.subject)
        return None


@dataclass(frozen=True, slots=True)
class InNetwork:
    """An IP address or a network."""

    text: str
    network: Network

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        address = _address_of(walk.subject)
        return Match() if address is not None and address in self.network else None


@lru_cache(maxsize=1000)
def _address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address of a host, which is looked for in many networks; a mapped one is the other's."""
    address = parse_ip(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """``@[]``: one of this host's own addresses."""

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        if not walk.subject:
            return None
        return Match() if is_local_address(walk.subject) else None


@dataclass(frozen=True, slots=True)
class HostName:
    """A whole name: its addresses are looked up; ``@`` is the primary host name."""

    name: str

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        if not walk.subject:
            return None
        name = self.name
        if name == "@":
            name = walk.scope.services.settings.get("primary_hostname", "")
        resolver = walk.scope.services.resolver
        found = await resolver.addresses(name) if resolver is not None else ()
        if not found:
            _log_no_address(name, walk.scope)
            raise UnknownHost(name)
        if any(same_address(walk.subject, one) for one in found):
            return Match()
        return None


def _log_no_address(name: str, scope: Scope) -> None:
    log = scope.services.log
    if log is None or not log.selected("host_lookup_failed"):
        return
    client = full_host(scope) if scope.connection is not None else ""
    during = f" (during SMTP connection from {client})" if client else ""
    log.main(f"no IP address found for host {name}{during}")


@dataclass(frozen=True, slots=True)
class ByName:
    """A pattern or lookup for the host's name, which is looked up when it is needed."""

    pattern: Pattern

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        origin = walk.origin
        if origin is None or not walk.subject:
            return None
        scope = walk.scope
        # what is learnt of another host than the connection's is not the connection's
        connection = scope.connection
        if connection is not None and connection.origin is not origin:
            connection = None
        name = await lookup_host_name(
            origin, connection, scope.services.resolver, scope.services.log
        )
        if not name:
            raise UnknownHost(walk.subject)
        found = await self.pattern.match(walk.inside("domain", name))
        if found is None or isinstance(self.pattern, Lookup):
            return found
        return Match(numbers=found.numbers)  # only a lookup sets $host_data


@dataclass(frozen=True, slots=True)
class ByAddress:
    """``net-type;file`` and ``net24-type;file``: the (masked) address is the key (10.13)."""

    type: LookupType
    file: str
    bits: int | None

    def __post_init__(self) -> None:
        if self.type.star or self.type.partial:
            raise ExpansionError(f'unknown lookup type "{self.type}"')

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        address = parse_ip(walk.subject)
        if address is None:
            return None
        found = await search(self.type, self.file, self._key(address), walk.scope)
        return None if found is None else Match(found.data, found.numbers)

    def _key(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
        # a colon would end the key of an lsearch file
        colons = self.type.name == "iplsearch"
        if self.bits is None:
            text = address.exploded
            return text if colons else text.replace(":", ".")
        if self.bits > address.max_prefixlen:  # that of an IPv6 address, say
            return f"{address}/{self.bits}"
        text = mask_text(f"{address}/{self.bits}")
        if not colons or address.version == 4:
            return text
        head, _, bits = text.rpartition("/")
        return f"{head.replace('.', ':')}/{bits}"


def _network(text: str) -> Network | None:
    address, slash, bits = text.partition("/")
    if slash and not bits:  # Exim takes it for the address alone
        text, slash = address, ""
    if parse_ip(address) is None or (slash and not re.fullmatch(r"[0-9]{1,3}", bits)):
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ExpansionError(f'"{text}" is not a valid network') from None


def _is_network(text: str) -> bool:
    try:
        return _network(text) is not None
    except ExpansionError:
        return False


def _by_address(text: str) -> ByAddress | None:
    net = _NET.match(text)
    found = lookup_of(piece(net[2], text)) if net else None
    if net is None or found is None:
        return None
    bits = int(net[1][:4]) if net[1] else None
    return ByAddress(*found, bits)


def read_host(text: str, *, by_address: bool) -> Pattern:
    """Read an item; ``by_address`` (``match_ip``) never asks for a name.

    :raises ExpansionError: it is not well formed.
    """
    if not text:
        return Null()
    if text == "*":
        return AnyHost()
    if text == "@[]":
        return OwnAddress()
    if text.startswith("+"):
        return Named(text[1:])
    if text.startswith("/"):
        return File(text)
    if by_address and not _is_network(text) and ";" not in text:
        return Nameless()
    network = _network(text.strip("[]") if text.startswith("[") else text)
    if network is not None:
        return InNetwork(text, network)
    net = _by_address(text)
    if net is not None:
        return net
    found = lookup_of(text)
    if found is not None:
        return ByAddress(*found, None) if by_address else ByName(Lookup(*found))
    if text.startswith("*"):
        return ByName(Suffix(text, lower(text[1:])))
    if text.startswith("^"):
        compile_regex(text)
        return ByName(Regex(text))
    return HostName(text)

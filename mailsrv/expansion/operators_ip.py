"""Operators on IP addresses: mask, reverse_ip, ipv6norm, ipv6denorm (specification 11.6)."""

from __future__ import annotations

import ipaddress
import re

from mailsrv.expansion.arithmetic import whole
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.operators import op

_ZONE = re.compile(r"%[^/]*")


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IP address, as Exim takes one (a zone is left out); None if ``text`` is none."""
    try:
        return ipaddress.ip_address(_ZONE.sub("", text) if ":" in text else text)
    except ValueError:
        return None


def _six(text: str) -> ipaddress.IPv6Address:
    address = parse_ip(text)
    if address is None:
        raise ExpansionError(f'"{text}" is not an IP address')
    if isinstance(address, ipaddress.IPv4Address):
        return ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
    return address


def _plain(address: ipaddress.IPv6Address) -> str:
    """The compressed form, without the dotted decimal that newer Pythons give mapped ones."""
    groups = [f"{int.from_bytes(address.packed[i : i + 2], 'big'):x}" for i in range(0, 16, 2)]
    best, length = -1, 0
    start = 0
    while start < 8:
        end = start
        while end < 8 and groups[end] == "0":
            end += 1
        if end - start > length:
            best, length = start, end - start
        start = end + 1
    if not length:
        return ":".join(groups)
    return ":".join(groups[:best]) + "::" + ":".join(groups[best + length :])


@op("ipv6norm")
def _ipv6norm(text: str) -> str:
    return _plain(_six(text))


@op("ipv6denorm")
def _ipv6denorm(text: str) -> str:
    return _six(text).exploded


def mask_text(text: str, *, normal: bool = False) -> str:
    """``address/bits`` with the address masked; IPv6 with dots unless ``normal``.

    :raises ExpansionError: it is no such text.
    """
    address_text, slash, bits = text.partition("/")
    address = parse_ip(address_text) if "%" not in text else None
    if address is None:
        raise ExpansionError(f'"{text}" is not an IP address')
    if not slash:
        raise ExpansionError(f'missing mask value in "{text}"')
    if not re.fullmatch(r"[ \t]*[0-9]*", bits):
        raise ExpansionError(f'"{text}" is not an IP address')
    bits = bits.lstrip(" \t") or "0"  # as Exim's own numbers: nothing is zero
    length = whole(bits)
    if length > address.max_prefixlen:
        raise ExpansionError(f'mask value too big in "{text}"')
    network = ipaddress.ip_network(f"{address_text}/{length}", strict=False)
    first = network.network_address
    if isinstance(first, ipaddress.IPv4Address):
        return f"{first}/{length}"
    shown = _plain(first) if normal else first.exploded.replace(":", ".")
    return f"{shown}/{length}"


@op("mask", argument=True)
def _mask(text: str, name: str, argument: str | None) -> str:
    return mask_text(text, normal=argument == "n")


@op("reverse_ip")
def _reverse_ip(text: str) -> str:
    address = parse_ip(text.partition("/")[0])
    if address is None:
        raise ExpansionError(f"reverse_ip() not given an IP address [{text}]")
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        address = mapped
    if isinstance(address, ipaddress.IPv4Address):
        return ".".join(reversed(str(address).split(".")))
    return ".".join(reversed(address.exploded.replace(":", "")))

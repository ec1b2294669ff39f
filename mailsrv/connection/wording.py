"""How log lines name a client (as ``$sender_fullhost``), and how expanded numbers are read."""

from __future__ import annotations

import re

from mailsrv.config.types import parse_time
from mailsrv.errors import ConfigError
from mailsrv.mail.origin import Origin

_SIZE = re.compile(r"\s*([0-9]{1,15})\s*([KMGkmg]?)\s*", re.ASCII)


def host(origin: Origin) -> str:
    """Return ``name (helo) [address]`` as log lines show the client."""
    if not origin.host_address:
        return f"local process U={origin.ident}" if origin.ident else "local process"
    helo = origin.helo_name
    literal = helo.strip("[]").lower().removeprefix("ipv6:")
    address = f"[{origin.host_address}]"
    if (
        not helo
        or literal == origin.host_address.lower()
        or helo.lower() == origin.host_name.lower()
    ):
        return f"{origin.host_name} {address}".lstrip(" ")
    return f"{origin.host_name} ({helo}) {address}".lstrip(" ")


def number(text: str) -> int:
    """Read an expanded number with K, M or G; 0 for an empty text.

    :raises ValueError: it is none.
    """
    if not text.strip(" \t"):
        return 0
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2].upper()]


def seconds(text: str) -> int:
    """Read an expanded time such as ``5m``.

    :raises ValueError: it is none.
    """
    try:
        return parse_time(text.strip(" "))
    except ConfigError as error:
        raise ValueError(text) from error

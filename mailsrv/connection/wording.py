"""How log lines name a client (as ``$sender_fullhost``), and how expanded numbers are read."""

from __future__ import annotations

from functools import lru_cache

from mailsrv.config.types import parse_size, parse_time
from mailsrv.errors import ConfigError
from mailsrv.mail.origin import Origin


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


@lru_cache(maxsize=100)
def number(text: str) -> int:
    """Read an expanded number with K, M or G; 0 for an empty text.

    :raises ValueError: it is none.
    """
    try:
        return parse_size(text)
    except ConfigError as error:
        raise ValueError(text) from error


@lru_cache(maxsize=100)
def seconds(text: str) -> int:
    """Read an expanded time such as ``5m``.

    :raises ValueError: it is none.
    """
    try:
        return parse_time(text.strip(" "))
    except ConfigError as error:
        raise ValueError(text) from error

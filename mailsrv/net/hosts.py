"""Host lists as manualroute and the smtp transport take them (specification 20.4, 20.5)."""

from __future__ import annotations

import random
import re
import socket
from dataclasses import dataclass
from functools import lru_cache

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.lists import split_list

_ITEM = re.compile(
    r"(?:\[(?P<literal>[^\]]*)\]|(?P<name>[^\s\[\]/:]+)(?P<mx>/[mM][xX])?)(?::(?P<port>[0-9]+))?"
)


@dataclass(frozen=True, slots=True)
class HostItem:
    """One item: a name or IP address, with a port (0 = the transport's), or ``name/MX``."""

    name: str
    port: int = 0
    mx: bool = False


def is_ip(text: str) -> bool:
    """Tell whether ``text`` is an IPv4 or IPv6 address."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return True
    return False


@lru_cache(maxsize=1000, typed=True)  # typed: what a peer chose stays marked
def parse_host(text: str) -> HostItem:
    """Read one item.

    :raises TemporaryFailure: it is malformed.
    """
    if is_ip(text):
        return HostItem(text)
    found = _ITEM.fullmatch(text)
    port = int(found["port"] or 0) if found else 0
    if found is None or port > 65535 or (found["literal"] and not is_ip(found["literal"])):
        raise TemporaryFailure(reason=f"malformed host item {text!r}")
    return HostItem(found["literal"] or found["name"].removesuffix("."), port, bool(found["mx"]))


def split_hosts(text: str, *, randomize: bool = False) -> list[HostItem]:
    """Read a list; with ``randomize``, the groups between ``+`` items are shuffled each.

    :raises TemporaryFailure: an item is malformed.
    """
    groups: list[list[HostItem]] = [[]]
    for text_item in split_list(text):
        if text_item == "+":
            groups.append([])
        elif text_item:
            groups[-1].append(parse_host(text_item))
    if randomize:
        groups = [random.sample(group, len(group)) for group in groups]
    return [item for group in groups for item in group]


def is_own_address(address: str) -> bool:
    """Tell whether an IP address is one of this machine's: only such a one can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except (OSError, ValueError):
        return False
    return address not in ("0.0.0.0", "::")  # noqa: S104  (the wildcards, which can be bound)

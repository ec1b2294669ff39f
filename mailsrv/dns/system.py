"""What this host says of names: its hosts file (hosts(5)) and resolv.conf(5).

Both are small local files, read at once; a missing or unreadable one is empty.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from dataclasses import dataclass
from functools import lru_cache

from mailsrv.errors import ConfigError
from mailsrv.expansion.lists import split_list
from mailsrv.interfaces import IClock

HOSTS = "/etc/hosts"
RESOLV_CONF = "/etc/resolv.conf"
CHECK_EVERY = 5.0
"""Seconds between looks whether the hosts file has changed."""

_SERVER = re.compile(
    r"(?:\[(?P<literal>[^\]]+)\](?::(?P<port>[0-9]{1,5}))?|(?P<plain>[^\s\[\]]+))", re.ASCII
)
_OPTION = re.compile(r"(timeout|attempts):([0-9]{1,3})\Z")


@dataclass(frozen=True, slots=True)
class SystemDns:
    """The settings of resolv.conf: name servers in order, seconds, rounds, "trust-ad".

    ``search`` are the domains that complete short names.
    """

    nameservers: tuple[str, ...] = ("127.0.0.1",)
    timeout: int = 5
    attempts: int = 2
    trust_ad: bool = False
    search: tuple[str, ...] = ()


def read_resolv_conf(path: str = RESOLV_CONF, host: str = "") -> SystemDns:
    """Read resolv.conf; without name servers, the one on this host is asked.

    Where it names no domains, that of this host is searched (``host`` is its name).
    """
    servers: list[str] = []
    numbers = {"timeout": 5, "attempts": 2}
    trust_ad = False
    search = [(host or socket.gethostname()).partition(".")[2]]
    for line in _lines(path):
        words = line.split()
        if words[:1] == ["nameserver"] and len(words) > 1 and is_address(words[1].split("%")[0]):
            servers.append(words[1])
        elif words[:1] in (["search"], ["domain"]):  # the last line counts
            search = words[1:] if words[0] == "search" else words[1:2]
        elif words[:1] == ["options"]:
            trust_ad = trust_ad or "trust-ad" in words
            for word in words[1:]:
                if found := _OPTION.match(word):
                    numbers[found[1]] = max(int(found[2]), 1)
    return SystemDns(
        tuple(servers[:3]) or ("127.0.0.1",),
        numbers["timeout"],
        numbers["attempts"],
        trust_ad,
        tuple(name for each in search if (name := each.strip(".").lower())),
    )


def name_servers(text: str) -> list[tuple[str, int]]:
    """Read a list of name servers (``dns_servers``): ``192.0.2.1 : [192.0.2.1]::5353``.

    :raises ConfigError: an item is no IP address.
    """
    found = []
    for item in split_list(text):
        match = _SERVER.fullmatch(item.strip(" \t\n"))
        address = (match["literal"] or match["plain"]) if match else ""
        if match is None or not is_address(address):
            raise ConfigError(f"dns_servers: {item!r} is not an IP address, or [address]:port")
        found.append((address, int(match["port"] or 53)))
    if not found:
        raise ConfigError("dns_servers: there is no name server in it")
    return found


class HostsFile:
    """The hosts file, read again when it has changed."""

    def __init__(self, clock: IClock, path: str = HOSTS) -> None:
        self._clock = clock
        self._path = path
        self._checked = float("-inf")
        self._stamp: tuple[int, int] | None = None
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._names: dict[str, tuple[str, ...]] = {}

    def addresses(self, name: str) -> tuple[str, ...]:
        """The addresses of a name, in the file's order; () if it is not there."""
        self._refresh()
        return self._addresses.get(name.lower().removesuffix("."), ())

    def names(self, address: str) -> tuple[str, ...]:
        """The names of an address, the canonical one first; () if it is not there."""
        self._refresh()
        return self._names.get(canonical(address), ())

    def _refresh(self) -> None:
        now = self._clock.seconds()
        if now - self._checked < CHECK_EVERY:
            return
        self._checked = now
        try:
            status = os.stat(self._path)
            stamp = status.st_mtime_ns, status.st_ino
        except OSError:
            stamp = (0, 0)
        if stamp != self._stamp:
            self._stamp = stamp
            self._read()

    def _read(self) -> None:
        addresses: dict[str, tuple[str, ...]] = {}
        names: dict[str, tuple[str, ...]] = {}
        for line in _lines(self._path):
            address, *found = line.split()
            if not is_address(address):
                continue
            address = canonical(address)
            names[address] = (*names.get(address, ()), *found)
            for name in found:
                known = addresses.get(name.lower(), ())
                if address not in known:
                    addresses[name.lower()] = (*known, address)
        self._addresses, self._names = addresses, names


@lru_cache(maxsize=1000)
def is_address(text: str) -> bool:
    """Tell whether ``text`` is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1000)
def canonical(address: str) -> str:
    """Return an address in its one shortest form.

    :raises ValueError: if it is none.
    """
    return str(ipaddress.ip_address(address))


def reverse_name(address: str) -> str:
    """Return the name below which an address has its PTR records.

    :raises ValueError: if it is no address.
    """
    return ipaddress.ip_address(address).reverse_pointer


def _lines(path: str) -> list[str]:
    """The lines of a file that hold anything, without comments."""
    try:
        with open(path, encoding="latin-1") as file:
            lines = (re.split("[#;]", line, maxsplit=1)[0].strip() for line in file)
            return [line for line in lines if line]
    except OSError:
        return []

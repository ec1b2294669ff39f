"""Where a server listens (specification chapter 13): from options to sockets.

:func:`listen_on` is pure; :func:`bind` makes a socket by hand, to be given to
``reactor.adoptStreamPort``.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import monotonic

from mailsrv.errors import ConfigError
from mailsrv.expansion.lists import split_list
from mailsrv.net.hosts import is_own_address

BACKLOG = 4096  # new connections that wait to be accepted; the kernel's own limit may be lower
INTERFACES_CHECK = 5.0  # seconds that the kernel's answer about an address holds
MOST_KNOWN = 1000  # addresses whose answer is remembered

_DEFAULT_INTERFACES = "<; ::0 ; 0.0.0.0"
_DEFAULT_PORTS = "smtp"
_BRACKETED = re.compile(r"\[([^\]]*)\](?::([0-9]+))?", re.ASCII)
_DOTTED_PORT_4 = re.compile(r"([0-9]+\.[0-9]+\.[0-9]+\.[0-9]+)\.([0-9]+)", re.ASCII)
_DOTTED_PORT_6 = re.compile(r"([0-9A-Fa-f:]*:[0-9A-Fa-f:.]*?)\.([0-9]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Listener:
    """An address and port to listen on, or the path of a Unix socket, whose port is 0."""

    address: str
    port: int
    tls_on_connect: bool = False
    lmtp: bool = False

    @property
    def local(self) -> bool:
        """Tell whether it is a Unix socket."""
        return self.address.startswith("/")

    @property
    def ipv6(self) -> bool:
        """Tell whether it is an IPv6 address."""
        return ":" in self.address and not self.local

    @property
    def family(self) -> socket.AddressFamily:
        """The family of its sockets."""
        if self.local:
            return socket.AF_UNIX
        return socket.AF_INET6 if self.ipv6 else socket.AF_INET

    def __str__(self) -> str:
        return self.address if self.local else f"[{self.address}]:{self.port}"


def port_number(text: str) -> int:
    """Return the number of a port given by number or service name.

    :raises ConfigError: there is none.
    """
    if re.fullmatch(r"[0-9]{1,5}", text) and 0 < int(text) < 65536:
        return int(text)
    known = {"smtp": 25, "submission": 587, "smtps": 465, "submissions": 465, "ssmtp": 465}
    if text in known:
        return known[text]
    try:
        return socket.getservbyname(text, "tcp")
    except OSError:
        raise ConfigError(f'TCP port "{text}" not found') from None


def ports(text: str) -> list[int]:
    """Read a list of ports (``daemon_smtp_ports``, ``tls_on_connect_ports``)."""
    return [port_number(item) for item in split_list(text) if item]


def listen_on(
    interfaces: str | None,
    daemon_ports: str | None,
    tls_ports: str | None,
    lmtp_ports: str | None = None,
    *,
    ipv6: bool = True,
) -> list[Listener]:
    """Return the addresses and ports to listen on, in order, each once.

    An interface without a port listens on the ports of both ``daemon_ports`` and ``lmtp_ports``.

    :raises ConfigError: an item is no address or port, or no interface has a port of LMTP.
    """
    lmtp = dict.fromkeys(ports(lmtp_ports or ""))
    defaults = [*ports(_DEFAULT_PORTS if daemon_ports is None else daemon_ports), *lmtp]
    tls = set(ports(tls_ports or ""))
    found: dict[Listener, None] = {}
    for item in split_list(_DEFAULT_INTERFACES if interfaces is None else interfaces):
        if not item:
            continue
        address, port = _address(item)
        if ":" in address and not ipv6:
            continue
        for number in defaults if port is None else [port]:
            found[Listener(address, number, number in tls, number in lmtp)] = None
    unheard = lmtp.keys() - {listener.port for listener in found}
    if unheard:
        raise ConfigError(
            f"lmtp_ports: no item of local_interfaces listens on port {min(unheard)}: "
            "each of them names another port"
        )
    return list(found)


def local_sockets(paths: str | None) -> list[Listener]:
    """Return the Unix sockets of a list of paths (``lmtp_sockets``), each once.

    :raises ConfigError: an item is no absolute path.
    """
    items = dict.fromkeys(item for item in split_list(paths or "") if item)
    for item in items:
        if not item.startswith("/"):
            raise ConfigError(f'lmtp_sockets: "{item}" is no absolute path')
    return [Listener(item, 0, lmtp=True) for item in items]


def local_test(extra: str | None) -> Callable[[str], bool]:
    """Return the test whether an IP address is this host's (13.8).

    It is if it is an interface's, or one of ``extra`` (``extra_local_interfaces``), or the
    unspecified one (0.0.0.0, ::), which leads here too.

    :raises ConfigError: an item of ``extra`` is no address.
    """
    items = [item for item in split_list(extra or "") if item]
    further = {ipaddress.ip_address(_address(item)[0]) for item in items}
    known: dict[str, tuple[float, bool]] = {}

    def is_local(address: str) -> bool:
        now = monotonic()
        asked, answer = known.get(address, (-inf, False))
        if now - asked > INTERFACES_CHECK:
            answer = is_own_address(address)
            if not answer and _is_address(address):
                parsed = ipaddress.ip_address(address)
                answer = parsed in further or parsed.is_unspecified
            if len(known) >= MOST_KNOWN:
                known.clear()
            known[address] = (now, answer)
        return answer

    return is_local


def _address(item: str) -> tuple[str, int | None]:
    bracketed = _BRACKETED.fullmatch(item)
    dotted = _DOTTED_PORT_4.fullmatch(item)
    if bracketed:
        address, port = bracketed[1], bracketed[2]
    elif dotted:
        address, port = dotted[1], dotted[2]
    else:
        address, port = item, None
        six = _DOTTED_PORT_6.fullmatch(item)
        if six and not _is_address(item):
            address, port = six[1], six[2]
    if not _is_address(address):
        raise ConfigError(f'"{item}" is not a valid IP address')
    return address, None if port is None else port_number(port)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def bind(listener: Listener, *, backlog: int = BACKLOG, reuse_port: bool = False) -> socket.socket:
    """Return a non-blocking TCP socket that listens; ``reuse_port`` lets several processes do so.

    :raises OSError: the address is in use, not ours, or not permitted.
    """
    made = socket.socket(listener.family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if listener.ipv6:
            # "::0" and "0.0.0.0" are two listeners, as in Exim.
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        where = socket.getaddrinfo(
            listener.address,
            listener.port,
            listener.family,
            socket.SOCK_STREAM,
            0,
            socket.AI_NUMERICHOST,
        )
        made.bind(where[0][4])
        made.listen(backlog)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made

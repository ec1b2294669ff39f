"""What a trusted caller says of a message's origin (specification 5.2, ``-oM…`` and ``-p``)."""

from __future__ import annotations

import re
from ipaddress import ip_address

from mailsrv.connection.local.frames import Request
from mailsrv.mail.origin import Origin
from mailsrv.wire.command import SyntaxProblem

_WORD = re.compile(r"[!-~]{1,255}", re.ASCII)
_WORDS = ("protocol", "host_name", "ident", "authenticator", "authenticated_id")
_BRACKETS = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?", re.ASCII)


def pretend(origin: Origin, request: Request) -> None:
    """Change the origin to what a request says.

    :raises SyntaxProblem: an address is none, or a text could end a log line or a header field.
    """
    for name in (*_WORDS, "authenticated_sender"):
        value = getattr(request, name)
        if value:
            if not _WORD.fullmatch(value):
                raise SyntaxProblem(f"a bad value of -oM or -p: {name}")
            setattr(origin, name, value)
    if request.host_address:
        origin.host_address, origin.host_port = _address(request.host_address)
    if request.interface:
        origin.interface_address, origin.interface_port = _address(request.interface)


def _address(text: str) -> tuple[str, int]:
    """Read an address with a port behind a dot, or none; brackets may stand around it."""
    found = _BRACKETS.fullmatch(text)
    forms = [(found[1], found[2] or "")] if found else [(text, ""), text.rpartition(".")[::2]]
    for host, port in forms:
        try:
            number = int(port or "0")
            return str(ip_address(host)), number if number < 65536 else 0
        except ValueError:
            continue
    raise SyntaxProblem(f"{''.join(filter(str.isprintable, text[:80]))}: not an IP address")

"""Addresses in their wire form: ``local_part@domain`` as an octet string; "" is the null sender."""

from __future__ import annotations

import re

from mailsrv.mail.taint import Tainted, like

_ATOM = r"[^\x00-\x20\x7f()<>@,;:\\\".\[\]]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")


def split(address: str) -> tuple[str, str]:
    """Return local part and domain; the domain is "" for an address without one."""
    local_part, at, domain = address.rpartition("@")
    if not at:
        return address, ""
    if type(address) is str or not isinstance(address, Tainted):
        return local_part, domain
    return Tainted(local_part) if local_part else "", Tainted(domain) if domain else ""


def unquoted(local_part: str) -> str:
    """Return a local part without the quotes and backslashes of RFC 5321 4.1.2.

    This is the form that routers see as ``$local_part`` (specification, 3.9).
    """
    if '"' not in local_part and "\\" not in local_part:
        return local_part
    result: list[str] = []
    characters = iter(local_part)
    for character in characters:
        if character == "\\":
            result.append(next(characters, ""))
        elif character != '"':
            result.append(character)
    return like("".join(result), local_part)


def quoted(local_part: str) -> str:
    """Return an unquoted local part in its wire form: quoted if it is no dot-string.

    The reverse of :func:`unquoted` (RFC 5321 4.1.2; octets beyond ASCII stand as they are).
    """
    if _DOT_STRING.fullmatch(local_part):
        return local_part
    escaped = local_part.replace("\\", "\\\\").replace('"', '\\"')
    return like(f'"{escaped}"', local_part)

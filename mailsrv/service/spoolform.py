"""The text of a message's envelope and header as ``-Mvh`` shows it (specification chapter 57.1)."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator

from mailsrv.mail.header import Header
from mailsrv.mail.message import Message
from mailsrv.mail.origin import Origin


def header_file(message: Message) -> str:
    """Return the lines of the message's -H file, as far as mailsrv has what they tell."""
    lines = [f"{message.id}-H", _user(), f"<{message.sender}>"]
    lines.append(f"{int(message.received_at)} {message.warned}")
    lines += _variables(message)
    lines += _tree(sorted(message.delivered)) or ["XX"]
    everyone = sorted(message.delivered) + [recipient.address for recipient in message.recipients]
    lines += [str(len(everyone)), *everyone, ""]
    lines += [_header(header) for header in message.headers]
    return "\n".join(lines) + "\n"


def _user() -> str:
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return f"{name} {uid} {os.getgid()}"


def _variables(message: Message) -> Iterator[str]:
    """Give the lines that begin with a hyphen."""
    for kind, values in (("c", message.origin.acl_c), ("m", message.acl_m)):
        for name, value in sorted(values.items()):
            yield f"-acl{kind} {name.removeprefix(kind)} {len(value)}\n{value}"
    if message.body_8bitmime:
        yield f"-body_8bitmime {message.body_8bitmime}"
    yield f"-body_linecount {message.body.lines}"
    if message.frozen_at:
        yield f"-frozen {int(message.frozen_at)}"
    yield from _origin(message.origin)
    if message.smtputf8:
        yield "-smtputf8"


def _origin(origin: Origin) -> Iterator[str]:
    texts = {
        "auth_id": origin.authenticated_id,
        "auth_sender": origin.authenticated_sender,
        "helo_name": origin.helo_name,
        "host_address": _endpoint(origin.host_address, origin.host_port),
        "host_auth": origin.authenticator,
        "host_name": origin.host_name,
        "ident": origin.ident,
        "interface_address": _endpoint(origin.interface_address, origin.interface_port),
        "received_protocol": origin.protocol,
        "tls_cipher": origin.tls_cipher,
        "tls_peerdn": origin.tls_peer_dn,
        "tls_sni": origin.tls_sni,
    }
    for name, text in texts.items():
        if text:
            yield f"-{name} {text}"
    if origin.tls_certificate_verified:
        yield "-tls_certificate_verified"


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if address else ""


def _tree(addresses: list[str]) -> list[str]:
    """Return a balanced tree of the addresses that need no delivery any more, root first."""
    if not addresses:
        return []
    middle = len(addresses) // 2
    left, right = _tree(addresses[:middle]), _tree(addresses[middle + 1 :])
    branches = ("Y" if left else "N") + ("Y" if right else "N")
    return [f"{branches} {addresses[middle]}", *left, *right]


def _header(header: Header) -> str:
    return f"{len(header.text) + 1:03d}{header.letter} {header.text}"

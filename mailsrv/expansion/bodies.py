"""``$message_body`` and its kin.

Only what a body holds in memory is looked at: a large body stays in its file,
and a string that is expanded must not read it.  ``message_body_visible``
(setting, 500) is the number of octets; newlines and NULs become spaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.mail.taint import Tainted

if TYPE_CHECKING:
    from mailsrv.expansion.scope import Scope

_VISIBLE = 500
_FLAT = str.maketrans("\n\0", "  ")


def _inline(scope: Scope) -> bytes:
    body = scope.message.body if scope.message is not None else None
    return (body.inline or b"") if body is not None else b""


def _visible(scope: Scope) -> int:
    text = scope.services.settings.get("message_body_visible", "")
    return int(text) if text.isascii() and text.isdecimal() else _VISIBLE


def _show(raw: bytes, scope: Scope) -> str:
    text = raw.decode("latin-1")
    if scope.services.settings.get("message_body_newlines") != "true":
        text = text.translate(_FLAT)
    return Tainted(text) if text else ""


def start(scope: Scope) -> str:
    """``$message_body``: the first octets."""
    visible = _visible(scope)
    return _show(_inline(scope)[: 2 * visible].replace(b"\r\n", b"\n")[:visible], scope)


def end(scope: Scope) -> str:
    """``$message_body_end``: the last octets."""
    visible = _visible(scope)
    if not visible:
        return ""
    return _show(_inline(scope)[-2 * visible :].replace(b"\r\n", b"\n")[-visible:], scope)


def size(scope: Scope) -> str:
    """``$message_body_size``, with each line end counted as one octet, as Exim keeps it."""
    body = scope.message.body if scope.message is not None else None
    return str(body.size - body.lines) if body is not None else "0"


def zero_count(scope: Scope) -> str:
    """``$body_zerocount``: NULs of a body in memory."""
    return str(_inline(scope).count(b"\0"))

"""``$h_…``, ``$rh_…``, ``$bh_…``, ``$lh_…``: header lines in strings (specification 11.5)."""

from __future__ import annotations

from collections.abc import Mapping

from mailsrv.expansion.rfc2047 import decode
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.tree import Node, Variable
from mailsrv.mail.header import Header
from mailsrv.mail.taint import Tainted

# Exim joins these with a comma: they hold lists of addresses.
_ADDRESS_FIELDS = frozenset(
    {
        "bcc",
        "cc",
        "from",
        "reply-to",
        "sender",
        "to",
        "resent-bcc",
        "resent-cc",
        "resent-from",
        "resent-reply-to",
        "resent-sender",
        "resent-to",
    }
)
_LONGEST = 64 * 1024
_SPACE = " \t\n\r\v\f"


def headers_of(scope: Scope) -> list[Header]:
    """The header lines that strings can see; none before the end of data."""
    return scope.message.headers if scope.message is not None else []


def find(scope: Scope, name: str) -> list[str]:
    """The raw values of all fields called ``name``, in order."""
    return [header.value for header in headers_of(scope) if header.called(name)]


def _joined(values: list[str], name: str) -> str:
    stripped = [value.strip(_SPACE) for value in values]
    glue = ",\n" if name.lower() in _ADDRESS_FIELDS else "\n"
    return glue.join(value for value in stripped if value)


def _raw(values: list[str]) -> str:
    """Nothing is taken off, not even the ends of lines."""
    return "".join(f"{value}\n" for value in values)


def _list(values: list[str]) -> str:
    return ":".join(value.replace(":", "::") for value in values)


def _decoded(values: list[str], name: str, settings: Mapping[str, str], *, basic: bool) -> str:
    """Decode encoded words, as the options of chapter 14 say; ``basic``: without translation."""
    return decode(
        _joined(values, name)[:_LONGEST],
        translate="" if basic else settings.get("headers_charset", "UTF-8"),
        long_words=settings.get("check_rfc2047_length") == "false",
    )


def header_value(scope: Scope, name: str, kind: str) -> str:
    """The value of ``$<kind>h_<name>:``; marked, since a peer wrote it."""
    values = find(scope, name)
    if not values:
        return ""
    if kind == "r":
        text = _raw(values)
    elif kind == "l":
        text = _list(values)
    else:
        text = _decoded(values, name, scope.services.settings, basic=kind == "b")
    return Tainted(text[:_LONGEST])


def header_node(name: str, kind: str) -> Node:
    """The node of a reference to a header."""
    return Variable(f"{kind}h_{name}:", lambda scope: header_value(scope, name, kind))


_HEADER_KINDS = {
    prefix: kind for kind in ("", "r", "b", "l") for prefix in (f"{kind}h_", f"{kind}header_")
}


def header_kind(prefix: str) -> str | None:
    """The kind of a prefix such as ``rh_`` or ``header_``; None if it is none."""
    return _HEADER_KINDS.get(prefix)

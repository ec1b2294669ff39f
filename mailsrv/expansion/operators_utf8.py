"""Operators between UTF-8 and its ASCII forms (specification 11.5, chapter 60)."""

from __future__ import annotations

import unicodedata

from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.operators import op

_PREFIX = "xn--"


def _unicode(text: str, words: str) -> str:
    """Return octets as text.

    :raises ExpansionError: they are no UTF-8.
    """
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        shown = "".join(c if " " <= c <= "~" else f"\\{ord(c):03o}" for c in text)
        raise ExpansionError(
            f"error converting utf8 ({shown}) to alabel: {words}: bad UTF-8 input"
        ) from None


def _octets(text: str) -> str:
    return text.encode("utf-8").decode("latin-1")


@op("utf8_domain_to_alabel")
def _domain_to_alabel(text: str) -> str:
    labels = _unicode(text, "utf8_to_alabel").split(".")
    return ".".join(label if label.isascii() else _alabel(label) for label in labels)


def _alabel(label: str) -> str:
    """Return the A-label of a label beyond ASCII (RFC 5891 4.4)."""
    normal = unicodedata.normalize("NFC", label).lower()
    return _PREFIX + normal.encode("punycode").decode("ascii")


@op("utf8_domain_from_alabel")
def _domain_from_alabel(text: str) -> str:
    return ".".join(
        _decoded(label[4:], text) if label.lower().startswith(_PREFIX) else label
        for label in text.split(".")
    )


@op("utf8_localpart_to_alabel")
def _localpart_to_alabel(text: str) -> str:
    if text.isascii():
        return text
    return _PREFIX + _unicode(text, "l_u2a").encode("punycode").decode("ascii")


@op("utf8_localpart_from_alabel")
def _localpart_from_alabel(text: str) -> str:
    if not text.startswith(_PREFIX):
        raise ExpansionError(f"error converting alabel ({text}) to utf8: bad alabel prefix")
    return _decoded(text[4:], text)


def _decoded(punycode: str, whole: str) -> str:
    try:
        return _octets(punycode.encode("ascii").decode("punycode"))
    except (UnicodeError, ValueError, OverflowError):
        raise ExpansionError(f"error converting alabel ({whole}) to utf8: bad punycode") from None

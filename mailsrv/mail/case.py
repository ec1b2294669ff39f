"""Upper and lower case of octet strings: of ASCII's letters alone.

An octet is a character here (latin-1), so ``str.lower`` would change octets of UTF-8: the first
one of É is Ã to it, and would become ã.
"""

from __future__ import annotations

_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LOWER = _UPPER.lower()
_TO_LOWER = str.maketrans(_UPPER, _LOWER)
_TO_UPPER = str.maketrans(_LOWER, _UPPER)


def lower(text: str) -> str:
    """Return an octet string in lower case, without a mark."""
    return text.lower() if text.isascii() else text.translate(_TO_LOWER)


def upper(text: str) -> str:
    """Return an octet string in upper case, without a mark."""
    return text.upper() if text.isascii() else text.translate(_TO_UPPER)

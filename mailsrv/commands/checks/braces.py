"""The arguments of items and conditions within a string's text, by their braces."""

from __future__ import annotations

import re

_PART = re.compile(r"\\N.*?(?:\\N|\Z)|\\.|[{}]", re.DOTALL)  # braces that are quoted close nothing


def closing(source: str, start: int) -> int:
    """Return the place of the brace that closes the one at ``start``; the end if none does."""
    depth = 0
    for found in _PART.finditer(source, max(start, 0)):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if depth == 0 and found[0] in "{}":
            return found.start()
    return len(source)


def argument(source: str, start: int) -> str:
    """Return what stands in the braces that open at or after ``start``; "" if none do."""
    begin = source.find("{", start)
    return source[begin + 1 : closing(source, begin)] if begin >= 0 else ""


def second_argument(source: str, start: int) -> str:
    """Return the second of two arguments, the first of which opens at ``start``."""
    return argument(source, closing(source, start) + 1)

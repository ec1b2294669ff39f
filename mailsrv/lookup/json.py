"""``json``: an element of a file (specification 9.3); the key is a list of selectors."""

from __future__ import annotations

import json
from typing import Any

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.arithmetic import whole
from mailsrv.expansion.separated import split_list
from mailsrv.lookup._files import FileCache, Threads


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise TemporaryFailure(reason=f"json lookup: the file is no JSON: {error}") from None


class Lookup:
    """``json`` lookups."""

    def __init__(self, threads: Threads | None = None) -> None:
        self._files = FileCache(_parsed, "json search", threads)

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Select an element (ILookup)."""
        element = await self._files.get(file)
        for selector in split_list(key):
            if isinstance(element, list):
                number = whole(selector) if selector.isascii() and selector.isdigit() else -1
                if not 0 <= number < len(element):
                    return None
                element = element[number]
            elif isinstance(element, dict):
                name = selector.encode("latin-1").decode("utf-8", "replace")
                if name not in element:
                    return None
                element = element[name]
            else:
                return None
        if isinstance(element, str):
            return element.encode("utf-8", "replace").decode("latin-1")
        return json.dumps(element, separators=(", ", ": "))

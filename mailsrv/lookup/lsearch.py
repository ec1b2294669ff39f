"""``lsearch``: keys of a text file, compared whole, in any case (specification 9.3).

The file is kept parsed in memory.  Of equal keys the first one counts.
"""

from __future__ import annotations

from mailsrv.lookup._files import FileCache, Threads
from mailsrv.lookup._linear import WHAT, entries, returned


def _table(content: bytes) -> dict[str, str]:
    table: dict[str, str] = {}
    for key, data in entries(content.decode("latin-1")):
        table.setdefault(key.lower(), data)
    return table


class Lookup:
    """``lsearch``: the key is compared whole, in any case."""

    def __init__(self, threads: Threads | None = None) -> None:
        self._files = FileCache(_table, WHAT, threads)

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find a key (ILookup)."""
        data = (await self._files.get(file)).get(key.lower())
        return None if data is None else returned(key.lower(), data, options)

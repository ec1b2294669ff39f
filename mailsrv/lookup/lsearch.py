"""``lsearch``: keys of a text file, compared whole, in any case (specification 9.3).

The file is kept parsed in memory.  Of equal keys the first one counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from mailsrv.lookup._files import Threads
from mailsrv.lookup._linear import Files
from mailsrv.mail.case import lower


def _table(entries: Iterable[tuple[str, str]]) -> dict[str, str]:
    table: dict[str, str] = {}
    for key, data in entries:
        table.setdefault(lower(key), data)
    return table


class Lookup:
    """``lsearch``: the key is compared whole, in any case."""

    def __init__(self, threads: Threads | None = None) -> None:
        self._files = Files(_table, threads)

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find a key (ILookup)."""
        return (await self._files.get(file, options)).get(lower(key))

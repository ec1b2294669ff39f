"""``dbmnz``: DBM files whose keys have no final NUL (specification 9.3)."""

from __future__ import annotations

from mailsrv.lookup._dbmfile import fetch
from mailsrv.lookup._files import Threads, in_thread


class Lookup:
    """``dbmnz``: keys without a final NUL."""

    def __init__(self, threads: Threads | None = None) -> None:
        self._threads = threads

    def _key(self, key: str) -> bytes:
        return key.encode("latin-1")

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find a key (ILookup)."""
        raw = await in_thread(self._threads, fetch, file, self._key(key))
        return None if raw is None else raw.rstrip(b"\0").decode("latin-1")

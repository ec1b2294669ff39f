"""``nwildlsearch``: a linear search whose keys are patterns (specification 9.3)."""

from __future__ import annotations

from mailsrv.expansion.regex import compile_regex
from mailsrv.lookup._files import FileCache, Threads
from mailsrv.lookup._linear import WHAT, entries, returned


def _sequence(content: bytes) -> list[tuple[str, str]]:
    return list(entries(content.decode("latin-1")))


def _matches(pattern: str, subject: str) -> bool:
    if pattern.startswith("^"):
        return compile_regex(pattern, caseless=True).search(subject) is not None
    if pattern.startswith("*"):
        return subject.lower().endswith(pattern[1:].lower())
    return pattern.lower() == subject.lower()


class Lookup:
    """``nwildlsearch``: keys may be ``*end``, ``^regex``, or lookups by key; not expanded."""

    def __init__(self, threads: Threads | None = None) -> None:
        self._files = FileCache(_sequence, WHAT, threads)

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find the first key that matches (ILookup)."""
        for pattern, data in await self._files.get(file):
            wanted = self._pattern(pattern)
            if wanted is not None and _matches(wanted, key):
                return returned(pattern, data, options)
        return None

    def _pattern(self, key: str) -> str | None:
        return key

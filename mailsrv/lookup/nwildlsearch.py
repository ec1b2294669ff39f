"""``nwildlsearch``: a linear search whose keys are patterns (specification 9.3)."""

from __future__ import annotations

from collections.abc import Sequence

from mailsrv.expansion.regex import compile_regex
from mailsrv.lookup._files import Threads
from mailsrv.lookup._linear import Files
from mailsrv.mail.case import lower


def _matches(pattern: str, subject: str) -> bool:
    if pattern.startswith("^"):
        return compile_regex(pattern, caseless=True).search(subject) is not None
    if pattern.startswith("*"):
        return lower(subject).endswith(lower(pattern[1:]))
    return lower(pattern) == lower(subject)


class Lookup:
    """``nwildlsearch``: keys may be ``*end``, ``^regex``, or lookups by key; not expanded."""

    def __init__(self, threads: Threads | None = None) -> None:
        self._files = Files[Sequence[tuple[str, str]]](list, threads)

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find the first key that matches (ILookup)."""
        for pattern, data in await self._files.get(file, options):
            wanted = self._pattern(pattern)
            if wanted is not None and _matches(wanted, key):
                return data
        return None

    def _pattern(self, key: str) -> str | None:
        return key

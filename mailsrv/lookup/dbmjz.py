"""``dbmjz``: DBM files whose keys are lists (specification 9.3)."""

from __future__ import annotations

from mailsrv.expansion.separated import split_list
from mailsrv.lookup import dbmnz


class Lookup(dbmnz.Lookup):
    """``dbmjz``: the key is a list whose items are joined by NUL, with one at the end (sasldb2)."""

    def _key(self, key: str) -> bytes:
        return b"\0".join(item.encode("latin-1") for item in split_list(key))

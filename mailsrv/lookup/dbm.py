"""``dbm``: DBM files as exim_dbmbuild writes them (specification 9.3)."""

from __future__ import annotations

from mailsrv.lookup import dbmnz


class Lookup(dbmnz.Lookup):
    """``dbm``: keys with a final NUL, as exim_dbmbuild writes them."""

    def _key(self, key: str) -> bytes:
        return key.encode("latin-1") + b"\0"

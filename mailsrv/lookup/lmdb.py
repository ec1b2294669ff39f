"""``lmdb``: keys of a database in memory-mapped files (specification 9.3; optional package)."""

from __future__ import annotations

from mailsrv.errors import TemporaryFailure
from mailsrv.lookup._files import Threads, in_thread


def _search(file: str, key: str) -> str | None:
    try:
        import lmdb  # type: ignore[import-not-found, unused-ignore]
    except ModuleNotFoundError:
        raise TemporaryFailure(
            reason=f'lookup of "{key}" gave DEFER: the Python package lmdb is not installed'
        ) from None
    if not key:
        return None
    try:
        with (
            lmdb.open(file, readonly=True, subdir=False, lock=False, create=False) as database,
            database.begin() as transaction,
        ):
            found = transaction.get(key.encode("latin-1"))
    except lmdb.Error as error:
        raise TemporaryFailure(reason=f"LMDB: {file}: {error}") from None
    return None if found is None else bytes(found).decode("latin-1")


class Lookup:
    """``lmdb`` lookups."""

    def __init__(self, threads: Threads | None = None) -> None:
        self._threads = threads

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find a key (ILookup)."""
        return await in_thread(self._threads, _search, file, key)

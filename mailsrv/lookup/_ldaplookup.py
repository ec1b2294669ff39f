"""What the three LDAP lookups share."""

from __future__ import annotations

from mailsrv.lookup._backing import Backing
from mailsrv.lookup._files import Threads, in_thread
from mailsrv.lookup._ldap import Query, Servers, data_of, deferred, needs_both


class LdapLookup:
    """``several`` entries may be found; with ``name`` the entry's DN is the data."""

    backed = True

    def __init__(
        self, threads: Threads | None, backing: Backing, *, several: bool, name: bool
    ) -> None:
        self._threads = threads
        self._servers = Servers(backing)
        self._several = several
        self._name = name

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Search (ILookup)."""
        query = Query.parse(str(key))
        entries = await in_thread(self._threads, self._servers.search, query)
        if len(entries) > 1 and not self._several:
            count = len(entries)
            why = f"LDAP search: more than one entry ({count}) was returned"
            raise deferred(query.text, f"{why} (filter not specific enough?)")
        if self._name:
            return entries[0][0].encode().decode("latin-1") if entries else None
        return data_of(entries, query)

    async def authenticates(self, key: str) -> bool:
        """Tell whether user and password of a query are right (``ldapauth``, 11.7)."""
        query = Query.parse(str(key))
        needs_both(query)
        return await in_thread(self._threads, self._servers.authenticates, query)

"""``ldapdn`` lookups (specification 9.14)."""

from __future__ import annotations

from mailsrv.lookup._backing import NO_BACKING, Backing
from mailsrv.lookup._files import Threads
from mailsrv.lookup._ldaplookup import LdapLookup


class Lookup(LdapLookup):
    """The name of one entry."""

    def __init__(self, threads: Threads | None = None, backing: Backing = NO_BACKING) -> None:
        super().__init__(threads, backing, several=False, name=True)

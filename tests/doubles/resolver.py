"""A DNS that is a dictionary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import Answer
from mailsrv.mail.taint import Tainted


class DictResolver:
    """Provides ``IResolver``: records by (name in lower case, type).

    What is not there does not exist, unless another type of the name is.  A
    value of None is a temporary failure.  ``queries`` lists what was asked.
    """

    def __init__(
        self, records: Mapping[tuple[str, str], Sequence[str] | None] | None = None
    ) -> None:
        self.records = dict(records or {})
        self.queries: list[tuple[str, str]] = []

    async def query(self, name: str, rdtype: str) -> Answer:
        name = name.lower().removesuffix(".")
        self.queries.append((name, rdtype))
        exists = any(known == name for known, _ in self.records)
        found = self.records.get((name, rdtype), ())
        if found is None:
            raise TemporaryFailure(reason=f"DNS lookup of {name} ({rdtype}) failed")
        return Answer(tuple(Tainted(record) for record in found), exists)

    async def addresses(
        self, name: str, *, ipv6: bool = True, hosts_file: bool = True
    ) -> tuple[str, ...]:
        if name.replace(".", "").isdigit() or ":" in name:
            return (name,)
        six = (await self.query(name, "AAAA")).records if ipv6 else ()
        return six + (await self.query(name, "A")).records

    async def names(self, address: str) -> tuple[str, ...]:
        """PTR records are kept by the address itself: ``("192.0.2.1", "PTR")``."""
        return (await self.query(address, "PTR")).records

    def within(self, retransmit: float, retries: int) -> DictResolver:
        """The same: it answers at once."""
        return self

"""``mailsrv queue summary``: how many messages wait for which domain, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mailsrv.commands.listing import size
from mailsrv.commands.manage.selection import domains, reason
from mailsrv.commands.manage.table import Column, Table, span
from mailsrv.interfaces import QueueEntry

MOST = 20_000  # groups; what comes beyond them is counted together
_REST = ("(other)", "")
_SPECIAL = re.compile(r"<[^<>]*>|\b[0-9A-Za-z]{6}-[0-9A-Za-z]{6}-[0-9A-Za-z]{2}\b")
_COLUMNS = (
    Column("COUNT", 6, right=True),
    Column("SIZE", 5, right=True),
    Column("OLDEST", 6, right=True),
    Column("NEXT", 6, right=True),
    Column("DOMAIN", 12, share=1),
    Column("REASON", 12, share=2),
)


@dataclass(slots=True)
class Group:
    """The messages for one domain that wait for one reason."""

    domain: str
    reason: str
    count: int = 0
    frozen: int = 0
    octets: int = 0
    oldest: float = 0.0  # when it was received
    next: float = 0.0  # the earliest attempt; 0: all are frozen

    def add(self, entry: QueueEntry) -> None:
        """Count a message."""
        self.count += 1
        self.octets += entry.size
        self.oldest = min(self.oldest or entry.received_at, entry.received_at)
        if entry.frozen or entry.quarantined:
            self.frozen += 1
        else:
            self.next = min(self.next or entry.next_attempt, entry.next_attempt)

    def facts(self, now: float) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "domain": self.domain,
            "reason": self.reason,
            "count": self.count,
            "frozen": self.frozen,
            "size": self.octets,
            "oldest": self.oldest,
            "next_attempt": self.next or None,
            "due": bool(self.next) and self.next <= now,
        }


def grouped(entries: Iterable[QueueEntry]) -> tuple[list[Group], Group]:
    """Return the groups, the largest first, and the sum of all.

    A message for several domains is in a group of each, and once in the sum.  What
    a reason says of one message alone, such as an address, is left out.
    """
    groups: dict[tuple[str, str], Group] = {}
    total = Group("", "")
    for entry in entries:
        total.add(entry)
        why = _SPECIAL.sub("<>", reason(entry)) or ("frozen" if entry.frozen else "not tried yet")
        for domain in domains(entry) or [""]:
            key = (domain, why)
            if key not in groups and len(groups) >= MOST:
                key = _REST
            groups.setdefault(key, Group(*key)).add(entry)
    return sorted(groups.values(), key=lambda g: (-g.count, g.domain, g.reason)), total


def lines(groups: Iterable[Group], total: Group, now: float, width: int) -> Iterator[str]:
    """Give the lines of the table."""
    table = Table(_COLUMNS, width)
    yield table.title()
    for group in groups:
        yield table.row([*_numbers(group, now), group.domain, group.reason])
    yield table.row([*_numbers(total, now), "all", ""])


def _numbers(group: Group, now: float) -> list[str]:
    if not group.count:
        return ["0", "", "", ""]
    attempt = span(group.next - now) if group.next > now else "now"
    return [
        str(group.count),
        size(group.octets).strip(" "),
        span(now - group.oldest),
        attempt if group.next else "frozen",
    ]

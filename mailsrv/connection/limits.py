"""How many connections there are, in all and of each host (smtp_accept_max …)."""

from __future__ import annotations

from typing import Protocol


class IConnectionCounts(Protocol):
    """Counts connections; the whole server's if workers share it (design, decision 12)."""

    def enter(self, address: str) -> tuple[int, int]:
        """A connection came: return the number in all and of its host, itself included."""

    def leave(self, address: str) -> None:
        """A connection for which ``enter`` was called ended."""


class ConnectionCounts:
    """The counts of one process."""

    def __init__(self) -> None:
        self.total = 0
        self._hosts: dict[str, int] = {}

    def enter(self, address: str) -> tuple[int, int]:
        """Count a connection."""
        self.total += 1
        count = self._hosts[address] = self._hosts.get(address, 0) + 1
        return self.total, count

    def of_host(self, address: str) -> int:
        """Return the number of connections of a host."""
        return self._hosts.get(address, 0)

    def leave(self, address: str) -> None:
        """Forget a connection."""
        self.total -= 1
        count = self._hosts[address] - 1
        if count:
            self._hosts[address] = count
        else:
            del self._hosts[address]

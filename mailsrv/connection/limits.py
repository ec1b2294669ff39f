"""What is limited: connections in all and of each host (smtp_accept_max …), the spool's disk."""

from __future__ import annotations

import os
from math import inf
from typing import Protocol

LOOK = 0.1  # seconds for which what was seen of the disk holds


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


class Disk:
    """Whether the disk of a folder has room.

    It is looked at ten times a second at most; but that there is none is always seen anew.
    """

    def __init__(self) -> None:
        self._seen = -inf
        self._space = self._inodes = 0.0

    def has(self, folder: str, now: float, space: float, inodes: float) -> bool:
        """Tell whether so many octets and inodes are free."""
        if 0 <= now - self._seen < LOOK and self._space >= space and self._inodes >= inodes:
            return True
        self._seen = now
        self._space, self._inodes = _free(folder)
        return self._space >= space and self._inodes >= inodes


def _free(folder: str) -> tuple[float, float]:
    """Return octets and inodes that are free; infinite where that cannot be told.

    Whoever writes there will say what is wrong.
    """
    try:
        disk = os.statvfs(folder)
    except OSError:
        return inf, inf
    # A file system without a fixed number of inodes tells 0 of 0.
    return disk.f_bavail * disk.f_frsize, disk.f_favail if disk.f_files else inf

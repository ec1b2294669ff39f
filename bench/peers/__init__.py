"""The servers that are compared, with the same work to do and their own promise about the disk.

The others are Debian's packages, unpacked beside the system; only root can start them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class Peer(Protocol):
    """A server under load: it takes all mail, and hands it to one LMTP sink if it delivers."""

    name: str

    def start(self) -> int:
        """Start it; return its port."""

    def processes(self) -> list[int]:
        """Its processes now."""

    def close(self) -> None:
        """End it and remove its files."""


def family(parent: int) -> list[int]:
    """Return a process with all that descend from it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            above = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it has just ended
        children.setdefault(above, []).append(int(path.parent.name))

    def descend(pid: int) -> Iterator[int]:
        yield pid
        for child in children.get(pid, ()):
            yield from descend(child)

    return list(descend(parent))


def memory(pids: list[int]) -> float:
    """Return the octets of memory that processes take, shared pages divided among them (PSS)."""
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in rollup.split("\n") if line.startswith("Pss:"))
    return total * 1024.0


def cpu(pids: list[int]) -> float:
    """Return the seconds of CPU that processes and their ended children have used."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(fields[n]) for n in (11, 12, 13, 14))
    return total / os.sysconf("SC_CLK_TCK")

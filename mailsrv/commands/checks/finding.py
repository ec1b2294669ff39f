"""A mistake that was found in a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from mailsrv.errors import Position


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, where, and the mend."""

    where: Position | None
    problem: str
    mend: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where is not None else ""
        mend = f"\n  mend: {self.mend}" if self.mend else ""
        return f"{place}{self.problem}{mend}"

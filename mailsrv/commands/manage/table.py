"""Rows that fit a terminal, one at a time: widths are known before the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A column of at least ``width`` characters; of the room that is left it gets ``share`` parts.

    Without a share it is never cut.
    """

    title: str
    width: int
    share: int = 0
    right: bool = False


class Table:
    """Lays out rows; with a ``width`` of 0, which is no terminal's, nothing is cut."""

    def __init__(self, columns: Sequence[Column], width: int) -> None:
        self._columns = columns
        self._cut = width > 0
        taken = sum(each.width for each in columns) + len(GAP) * (len(columns) - 1)
        room = max(0, width - taken)
        shares = sum(each.share for each in columns) or 1
        self._widths = [each.width + room * each.share // shares for each in columns]

    def title(self) -> str:
        """The line of titles."""
        return self.row([each.title for each in self._columns])

    def row(self, cells: Sequence[str]) -> str:
        """One line."""
        shown = []
        for cell, column, width in zip(cells, self._columns, self._widths, strict=True):
            text = cut(cell, width) if self._cut and column.share else cell
            shown.append(text.rjust(width) if column.right else text.ljust(width))
        return GAP.join(shown).rstrip(" ")


def cut(text: str, width: int) -> str:
    """Return a text that is no longer than ``width``, with dots for what is missing."""
    return text if len(text) <= width else f"{text[: max(0, width - 2)]}.."[:width]


def span(seconds: float) -> str:
    """Return a time span in four columns at most: 45s, 12m, 3h, 4d."""
    for unit, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * unit or (unit == 60 and seconds >= 60):
            return f"{int(seconds // unit)}{letter}"
    return f"{max(0, int(seconds))}s"

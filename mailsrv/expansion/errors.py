"""How an expansion fails.  All are temporary failures for the mail: nothing is lost by them."""

from __future__ import annotations

from mailsrv.errors import Position, TemporaryFailure
from mailsrv.mail.status import LOCAL_PROBLEM

_EXCERPT = 40  # characters of a string that are shown


class ExpansionError(TemporaryFailure):
    """A string that cannot be expanded; ``reason`` is Exim's message where it has one.

    ``at`` is where in the string it failed: an offset in characters, None as
    long as it is not known.  The parser, or the innermost node that failed,
    sets it; the template adds the string (``source``) and its place
    (``where``), the innermost template first.  The string is the
    configuration's, never a peer's: what a peer sent is not compiled.
    """

    def __init__(self, reason: str, at: int | None = None) -> None:
        super().__init__(LOCAL_PROBLEM, reason)
        self.at = at
        self.source: str | None = None
        self.where: Position | None = None

    def found_at(self, at: int) -> None:
        """Note where it failed, unless that is known better."""
        if self.at is None:
            self.at = at

    def found_in(self, source: str, where: Position | None) -> None:
        """Note in what string it failed, unless an inner one did."""
        if self.source is None:
            self.source, self.where = source, where

    def saying(self, reason: str) -> ExpansionError:
        """Return an error of the same place in other words."""
        error = ExpansionError(reason, self.at)
        error.source, error.where = self.source, self.where
        return error

    @property
    def spot(self) -> str:
        """The position in the string, counted from 1, with what stands there; "" if unknown."""
        if self.at is None or self.source is None:
            return ""
        if self.at >= len(self.source):
            return "at the end of the string"
        return f'at character {self.at + 1}: "{_excerpt(self.source[self.at :])}"'

    @property
    def shown(self) -> str:
        """The reason with the position, on one line: for those who show file and line."""
        return f"{self.reason} {self.spot}".rstrip().replace("\n", " ")

    @property
    def explained(self) -> str:
        """The reason with file, line and position."""
        places = []
        if self.where is not None:
            places.append(str(self.where))
        if self.at is not None and self.source is not None:
            places.append(f"character {self.at + 1}")
            if self.where is None:
                places[-1] += f' of "{_excerpt(self.source)}"'
        return f"{self.reason} ({', '.join(places)})" if places else self.reason


def _excerpt(text: str) -> str:
    shown = text[:_EXCERPT].replace("\n", " ")
    return shown if len(text) <= _EXCERPT else f"{shown} ..."


class ForcedFailure(ExpansionError):
    """The string said ``fail``: many options treat this as "not set" (specification 11.5)."""


class LookupDeferred(ExpansionError):
    """A lookup could not be answered now."""

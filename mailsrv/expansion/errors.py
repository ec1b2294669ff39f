"""How an expansion fails.  All are temporary failures for the mail: nothing is lost by them."""

from __future__ import annotations

from mailsrv.errors import TemporaryFailure
from mailsrv.mail.status import LOCAL_PROBLEM


class ExpansionError(TemporaryFailure):
    """A string that cannot be expanded; ``reason`` is Exim's message where it has one."""

    def __init__(self, reason: str) -> None:
        super().__init__(LOCAL_PROBLEM, reason)


class ForcedFailure(ExpansionError):
    """The string said ``fail``: many options treat this as "not set" (specification 11.5)."""


class LookupDeferred(ExpansionError):
    """A lookup could not be answered now."""

"""Which messages of the queue are meant: by id, sender, recipient, domain, age, state or reason."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import translate

from mailsrv.config.types import parse_time
from mailsrv.errors import ConfigError
from mailsrv.interfaces import QueueEntry

_LINE = re.compile(r"\S+ \S+ (?:==|\*\*|=>) \S+(?: R=\S+)?(?: T=\S+)? (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Selection:
    """Filters, all of which must hold; an empty one holds for each message.

    ``sender``, ``recipient`` and ``domain`` are whole, in any case, with ``*`` for
    any text; ``older_than`` is in seconds; ``reason`` is a part of the last
    attempt's error.  A message has the recipient or the domain if one that is
    left has it.
    """

    ids: tuple[str, ...] = ()
    sender: str | None = None
    recipient: str | None = None
    domain: str | None = None
    frozen: bool = False
    older_than: float = 0.0
    reason: str = ""

    @property
    def filters(self) -> bool:
        """Tell whether there is a filter beside the ids."""
        return replace(self, ids=()) != Selection()

    def takes(self, entry: QueueEntry, now: float) -> bool:
        """Tell whether a message is meant."""
        return (
            (not self.ids or entry.id in self.ids)
            and (not self.frozen or entry.frozen)
            and now - entry.received_at >= self.older_than
            and (self.sender is None or _is(self.sender, entry.sender))
            and (self.recipient is None or any(_is(self.recipient, r) for r in entry.recipients))
            and (self.domain is None or any(_is(self.domain, d) for d in domains(entry)))
            and self.reason.lower() in reason(entry).lower()
        )


def _is(pattern: str, text: str) -> bool:
    if pattern == "<>":
        return text == ""
    literal = pattern.replace("[", "[[]").replace("?", "[?]")
    return re.match(translate(literal), text, re.IGNORECASE) is not None


def domains(entry: QueueEntry) -> list[str]:
    """Return the domains of the recipients that are left, each once."""
    return list(dict.fromkeys(r.rpartition("@")[2].lower() for r in entry.recipients))


def reason(entry: QueueEntry) -> str:
    """Return why a message waits: the error of the last attempt, "" before the first."""
    found = _LINE.fullmatch(entry.reason)
    return found[1] if found else entry.reason


def age_of(text: str) -> float:
    """Read a time such as ``2h`` or ``1d12h``, in seconds.

    :raises ValueError: it is none.
    """
    try:
        return float(parse_time(text))
    except ConfigError:
        raise ValueError(f"{text!r} is no time such as 30m, 2h or 1d12h") from None

"""Exim's form of a queue listing (``-bp``), and what is harmless to a terminal."""

from __future__ import annotations

import re

from mailsrv.interfaces import QueueEntry

_HOSTILE = re.compile(r"[^\x20-\x7e]")
_HOSTILE_TEXT = re.compile(r"[^\x20-\x7e\n\t]")


def safe(text: str) -> str:
    """Return a line that is harmless to a terminal: other octets in octal, as in the logs."""
    return _HOSTILE.sub(lambda match: f"\\{ord(match[0]):03o}", text)


def safe_text(text: str) -> str:
    """Return lines that are harmless to a terminal."""
    return _HOSTILE_TEXT.sub(lambda match: f"\\{ord(match[0]):03o}", text)


def age(seconds: float) -> str:
    """Return how long a message waits, in Exim's three columns: 25m, 3h, 4d."""
    minutes = max(0, int(seconds)) // 60
    if minutes <= 90:
        return f"{minutes:2d}m"
    hours = (minutes + 30) // 60
    return f"{hours:2d}h" if hours <= 72 else f"{(hours + 12) // 24:2d}d"


def size(octets: int) -> str:
    """Return a size in Exim's five columns: ``  720``, `` 2.9K``, ``  12M``."""
    if octets <= 0:
        return "     "
    if octets < 1024:
        return f"{octets:5d}"
    for unit, letter in ((1024, "K"), (1024 * 1024, "M")):
        if octets < 10 * unit:
            return f"{octets / unit:4.1f}{letter}"
        if octets < 1024 * unit or letter == "M":
            return f"{(octets + unit // 2) // unit:4d}{letter}"
    raise AssertionError("every size has a unit")


def entry_lines(entry: QueueEntry, now: float, *, delivered: bool, made: bool = False) -> list[str]:
    """Return the lines of one message in a listing, without the empty one after it.

    ``delivered`` and ``made``: with the addresses that are done, recipients' and others.
    """
    frozen = " *** frozen ***" if entry.frozen else ""
    if entry.quarantined:
        frozen = " *** quarantined ***"
    waiting = age(now - entry.received_at)
    lines = [f"{waiting} {size(entry.size)} {entry.id} <{entry.sender}>{frozen}"]
    if delivered:
        lines += [f"        D {address}" for address in entry.delivered]
    lines += [f"          {address}" for address in entry.recipients]
    return lines + [f"       +D {address}" for address in entry.made if made]

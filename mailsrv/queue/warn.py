"""When a warning of a delay is due (main options delay_warning, delay_warning_condition)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mailsrv.mail.message import Message

_BULK = re.compile(r"bulk|list|junk", re.ASCII | re.IGNORECASE)
_AUTOMATIC = re.compile(r"auto-generated|auto-replied", re.ASCII | re.IGNORECASE)


def warnings_due(times: Sequence[float], queued: float) -> int:
    """Return how many warnings a message queued for ``queued`` seconds should have had.

    After the last of ``times`` the last interval is repeated.
    """
    times = [time for time in times if time > 0]
    if not times:
        return 0
    passed = sum(1 for time in times if queued >= time)
    interval = times[-1] - (times[-2] if len(times) > 1 else 0)
    if passed == len(times) and interval > 0:
        passed += int((queued - times[-1]) // interval)
    return passed


def warnable(message: Message) -> bool:
    """Tell what the default of delay_warning_condition says: not to lists, bulk and automata."""
    for header in message.headers:
        name = header.name.lower()
        if name in ("list-id", "list-post", "list-subscribe") and header.value.strip(" \n\t"):
            return False
        if name == "precedence" and _BULK.search(header.value):
            return False
        if name == "auto-submitted" and _AUTOMATIC.search(header.value):
            return False
    return True

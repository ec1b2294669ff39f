"""``mailsrv queue list`` and ``show``: messages as rows, as JSON, or one with all its facts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

from mailsrv.commands.listing import safe_text, size
from mailsrv.commands.manage.selection import reason
from mailsrv.commands.manage.table import Column, Table, span
from mailsrv.interfaces import QueueEntry

_COLUMNS = (
    Column("AGE", 4, right=True),
    Column("SIZE", 5, right=True),
    Column("ID", 16),
    Column("NEXT", 11),
    Column("SENDER", 8, share=3),
    Column("RECIPIENTS", 10, share=3),
    Column("REASON", 6, share=4),
)


def state(entry: QueueEntry, now: float) -> str:
    """Return when a message is tried next: a time span, ``now``, or why never."""
    if entry.quarantined:
        return "quarantined"
    if entry.frozen:
        return "frozen"
    return span(entry.next_attempt - now) if entry.next_attempt > now else "now"


def lines(entries: Iterable[QueueEntry], now: float, width: int) -> Iterator[str]:
    """Give the lines of the table, as the entries come."""
    table = Table(_COLUMNS, width)
    for number, entry in enumerate(entries):
        if number == 0:
            yield table.title()
        more = f" (+{len(entry.recipients) - 1})" if len(entry.recipients) > 1 else ""
        yield table.row(
            [
                span(now - entry.received_at),
                size(entry.size).strip(" "),
                entry.id,
                state(entry, now),
                entry.sender or "<>",
                (entry.recipients[0] if entry.recipients else "-") + more,
                reason(entry),
            ]
        )


def facts(entry: QueueEntry) -> dict[str, Any]:
    """Return what ``--json`` prints of a message; times are seconds since the epoch."""
    return {
        "id": entry.id,
        "sender": entry.sender,
        "recipients": list(entry.recipients),
        "delivered": list(entry.delivered),
        "size": entry.size,
        "received": entry.received_at,
        "next_attempt": entry.next_attempt,
        "frozen": entry.frozen,
        "quarantined": entry.quarantined,
        "reason": reason(entry),
    }


def as_json(value: dict[str, Any]) -> str:
    """Return one line of JSON; octets that are UTF-8 are its characters."""
    return json.dumps(_text(value))


def _text(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("latin-1").decode("utf-8", "backslashreplace")
    if isinstance(value, list):
        return [_text(each) for each in value]
    if isinstance(value, dict):
        return {name: _text(each) for name, each in value.items()}
    return value


def shown(entry: QueueEntry, header: str, history: str, now: float) -> Iterator[str]:
    """Give the lines of ``show``."""
    attempt = state(entry, now)
    if attempt[0].isdigit():
        attempt = f"in {attempt}, at {_time(entry.next_attempt)}"
    yield f"id          {entry.id}"
    yield f"sender      {entry.sender or '<>'}"
    yield f"received    {_time(entry.received_at)}, {span(now - entry.received_at)} ago"
    yield f"size        {entry.size}"
    yield f"next try    {attempt}"
    for address in entry.delivered:
        yield f"delivered   {address}"
    for address in entry.recipients:
        yield f"waiting     {address}"
    for title, text in (("Header", header), ("Log", history)):
        if text.strip("\r\n"):
            yield f"\n{title}"
            yield from (f"  {line}" for line in safe_text(text).rstrip("\n").split("\n"))


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))

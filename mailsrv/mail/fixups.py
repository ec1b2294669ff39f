"""How a received header is changed (specification chapter 48, 44.24, 44.25): pure functions.

The header is a list of :class:`Header`; each function returns a new list.  What is
mended in submissions is in ``connection/submission.py``.  The
``Received:`` line itself is expanded elsewhere and put on top by
:func:`with_received`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from functools import lru_cache

from mailsrv.mail.header import Header

_FIELD = re.compile(r"[!-9;-~]+[ \t]*:", re.ASCII)
_POSITION = re.compile(r":(at_start|after_received|at_start_rfc|at_end):", re.ASCII)
_NEW_LINE = re.compile(r"\n(?![ \t])", re.ASCII)


def split_header(text: str) -> tuple[list[Header], str]:
    """Split text (line ends ``\\n``) into header fields and what follows the last of them.

    The rest is "" if all of it is header; else it begins with the first line
    that is no header field (nor the continuation of one).
    """
    headers: list[Header] = []
    position = 0
    while position < len(text):
        if _FIELD.match(text, position) is None:
            return headers, text[position:]
        found = _NEW_LINE.search(text, position)
        end = len(text) if found is None else found.start()
        headers.append(Header(text[position:end]))
        position = end + 1
    return headers, ""


def without_local_fields(
    headers: Iterable[Header], *, return_path: bool, envelope_to: bool, delivery_date: bool
) -> list[Header]:
    """Drop the fields that only a final delivery may add, as the options ``…_remove`` say."""
    names = {
        name
        for name, remove in (
            ("return-path", return_path),
            ("envelope-to", envelope_to),
            ("delivery-date", delivery_date),
        )
        if remove
    }
    return [header for header in headers if header.name.lower() not in names]


def with_received(headers: Sequence[Header], received: str) -> list[Header]:
    """Put an expanded ``received_header_text`` with its time stamp on top."""
    return [Header(received.strip("\n")), *headers] if received else list(headers)


def stamp(received: str, when: float) -> str:
    """Add the semicolon and the time to a ``Received:`` text, on a line of its own as Exim does.

    The time is in the form of RFC 5322, in the local zone.
    """
    return f"{received.rstrip()};\n\t{_date(int(when))}" if received else ""


@lru_cache(maxsize=4)
def _date(second: int) -> str:
    """Return a time in the form of RFC 5322; many messages come in the same second."""
    return formatdate(second, localtime=True)


# --- added and removed by ACLs -----------------------------------------------


def added_lines(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Split texts of ``add_header`` into (position, line), each line once (44.24).

    A line that is no header field gets ``X-ACL-Warn:`` before it.
    """
    lines: dict[tuple[str, str], None] = {}
    for text in texts:
        text = text.replace("\r\n", "\n").strip("\n")
        found = _POSITION.match(text)
        position = found[1] if found else "at_end"
        for line in _NEW_LINE.split(text[found.end() :] if found else text):
            if not line:
                continue
            if _FIELD.match(line) is None:
                line = f"X-ACL-Warn: {line}"
            lines[position, line] = None
    return list(lines)


def with_added(headers: Sequence[Header], texts: Iterable[str]) -> list[Header]:
    """Add what ACLs asked for with ``add_header``, each line at its position (44.24)."""
    result = list(headers)
    for position, line in added_lines(texts):
        if position == "at_start":
            place = 0
        elif position == "after_received":
            place = _end_of(result, ("received",))
        elif position == "at_start_rfc":
            place = _end_of(result, ("received", "resent-"))
        else:
            place = len(result)
        result.insert(place, Header(line))
    return result


def _end_of(headers: Sequence[Header], prefixes: tuple[str, ...]) -> int:
    """The place after the first block of fields whose names begin with one of ``prefixes``."""
    inside = False
    for place, header in enumerate(headers):
        if header.name.lower().startswith(prefixes):
            inside = True
        elif inside:
            return place
    return len(headers) if inside else 0


def without(headers: Iterable[Header], items: Iterable[str]) -> list[Header]:
    """Drop the fields that ACLs named with ``remove_header`` (44.25): lists of names."""
    names = {
        name.strip(" \t").lower() for item in items for name in item.split(":") if name.strip(" \t")
    }
    if not names:
        return list(headers)
    return [header for header in headers if header.name.lower() not in names]

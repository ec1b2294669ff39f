"""How a received header is changed (specification chapter 48, 44.24, 44.25): pure functions.

The header is a list of :class:`Header`; each function returns a new list.  The
``Received:`` line itself is expanded elsewhere and put on top by
:func:`with_received`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from email.utils import formatdate

from mailsrv.mail.header import Header
from mailsrv.mail.message import Submission

_FIELD = re.compile(r"[!-9;-~]+[ \t]*:", re.ASCII)
_POSITION = re.compile(r":(at_start|after_received|at_start_rfc|at_end):", re.ASCII)
_NEW_LINE = re.compile(r"\n(?![ \t])", re.ASCII)
_BRACKETED = re.compile(r"<([^<>]*)>\s*$", re.ASCII)
_COMMENT = re.compile(r"\([^()]*\)", re.ASCII)
_PLAIN_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ \t-]*", re.ASCII)


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
    """Add the semicolon and the time (RFC 5322 form, local zone) to a ``Received:`` text."""
    return f"{received.rstrip()}; {formatdate(when, localtime=True)}" if received else ""


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


# --- submission --------------------------------------------------------------


def submission_address(submission: Submission, authenticated_id: str, qualify_domain: str) -> str:
    """The address of an authenticated submitter (48.11, 48.16); "" without authentication."""
    if not authenticated_id or submission.domain == "":
        return authenticated_id
    domain = qualify_domain if submission.domain is None else submission.domain
    return f"{authenticated_id}@{domain}"


def address_of(value: str) -> str:
    """The one address of a field, without name and comments; "" if there are several."""
    text = value.replace("\n", "")
    found = _BRACKETED.search(text)
    if found:
        return found[1].strip(" \t")
    text = _COMMENT.sub("", text).strip(" \t")
    return "" if "," in text else text


def with_name(name: str, address: str) -> str:
    """An address as a field shows it, with the submitter's full name if there is one."""
    if not name:
        return address
    name = name.replace("\r", " ").replace("\n", " ")
    if not _PLAIN_PHRASE.fullmatch(name):
        name = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{name} <{address}>"


def submitted(
    headers: Sequence[Header],
    sender: str,
    submission: Submission,
    *,
    id: str,
    when: float,
    authenticated_id: str,
    qualify_domain: str,
    primary_hostname: str,
) -> tuple[list[Header], str]:
    """Fix up a message in submission mode; return the header and the envelope's sender.

    Adds a missing ``Message-ID:``, ``Date:`` and ``From:``; unless
    ``sender_retain``, replaces ``Sender:`` and the sender of the envelope by
    the authenticated address (48.1, 48.8, 48.11, 48.12, 48.16).  The null
    sender stays the null sender.
    """
    result = list(headers)
    names = {header.name.lower() for header in result}
    resent = "Resent-" if any(name.startswith("resent-") for name in names) else ""
    who = submission_address(submission, authenticated_id, qualify_domain)
    if not submission.sender_retain:
        gone = ("sender", "resent-sender") if resent else ("sender",)
        result = [header for header in result if header.name.lower() not in gone]
    if not {"message-id", "resent-message-id"} & names:
        result.append(Header(f"{resent}Message-ID: <E{id}@{primary_hostname}>"))
    if f"{resent}from".lower() not in names and (sender or who):
        result.append(Header(f"{resent}From: {with_name(submission.name, sender or who)}"))
    if "date" not in names or (resent and "resent-date" not in names):
        result.append(Header(f"{resent}Date: {formatdate(when, localtime=True)}"))
    if who and not submission.sender_retain:
        shown = next((h for h in result if h.called(f"{resent}From")), None)
        if shown is None or address_of(shown.value).lower() != who.lower():
            result.append(Header(f"{resent}Sender: {with_name(submission.name, who)}"))
            sender = sender and who
    return result, sender

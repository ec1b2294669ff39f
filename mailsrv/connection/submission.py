"""What is mended in the header of a submitted message (specification 48.1, 48.3, 48.8 to 48.16).

Pure functions: the header is a list of :class:`Header`, each function returns a
new one.  The order of what is added is Exim's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate

from mailsrv.expansion.mailboxes import places_of, replaced
from mailsrv.mail import address as addresses
from mailsrv.mail.header import Header
from mailsrv.mail.message import Submission

_PLAIN_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ \t-]*", re.ASCII)
_NOT_IN_DOMAIN = re.compile(r"[^A-Za-z0-9.-]", re.ASCII)
_NOT_IN_LOCAL_PART = re.compile(r"[^A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Submitter:
    """What the configuration and the session say of a submission.

    ``prefixes`` and ``suffixes`` are local_from_prefix and local_from_suffix;
    ``message_id`` is the Message-ID that is added if there is none.
    """

    authenticated_id: str
    qualify_domain: str
    message_id: str
    prefixes: str = ""
    suffixes: str = ""


def message_id(id: str, domain: str, text: str = "") -> str:
    """A Message-ID of our own (48.12); ``text`` is the expanded message_id_header_text.

    What an address cannot have becomes a hyphen.
    """
    more = f".{_NOT_IN_LOCAL_PART.sub('-', text)}" if text else ""
    return f"<E{id}{more}@{_NOT_IN_DOMAIN.sub('-', domain)}>"


def author_address(submission: Submission, submitter: Submitter) -> str:
    """The address of an authenticated submitter (48.11, 48.16); "" without authentication."""
    name = submitter.authenticated_id
    if not name or submission.domain == "":
        return name
    domain = submitter.qualify_domain if submission.domain is None else submission.domain
    return f"{name}@{domain}"


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
    submitter: Submitter,
    when: float,
) -> tuple[list[Header], str]:
    """Fix up a message in submission mode; return the header and the envelope's sender.

    Adds a missing ``Message-ID:``, ``From:`` and ``Date:``; unless
    ``sender_retain``, replaces ``Sender:``, and forces the sender of the
    envelope to the authenticated address (48.1).  The null sender stays.
    """
    result = list(headers)
    names = {header.name.lower() for header in result}
    resent = "Resent-" if any(name.startswith("resent-") for name in names) else ""
    author = author_address(submission, submitter)
    on_top: list[Header] = []
    add = on_top.append if resent else result.append
    if not submission.sender_retain:
        result[:] = [header for header in result if not header.called(f"{resent}Sender")]
    date = Header(f"{resent}Date: {formatdate(when, localtime=True)}")
    has_date = f"{resent}Date".lower() in names
    if resent and not has_date:
        add(date)
    if not {"message-id", "resent-message-id"} & names:
        add(Header(f"{resent}Message-Id: {submitter.message_id}"))
    if f"{resent}From".lower() not in names and (sender or author):
        result.append(Header(f"{resent}From: {with_name(submission.name, sender or author)}"))
    if author and not submission.sender_retain:
        shown = next((h for h in result if h.called(f"{resent}From")), None)
        if shown is None or not _is_from(author, shown, submitter):
            result.append(Header(f"{resent}Sender: {with_name(submission.name, author)}"))
        sender = sender and author
    if not resent and not has_date:
        add(date)
    return on_top + result, sender


def _is_from(author: str, shown: Header, submitter: Submitter) -> bool:
    """Tell whether From: is the author alone, with affixes that local_from_… allow."""
    found = places_of(shown.value)
    if len(found) != 1:
        return False
    address = found[0].address
    if not found[0].qualified:
        address += f"@{submitter.qualify_domain}"
    if address.lower() == author.lower():
        return True
    local_part, domain = addresses.split(author.lower())
    theirs, their_domain = addresses.split(address.lower())
    pattern = f"{_affix(submitter.prefixes)}{re.escape(local_part)}{_affix(submitter.suffixes)}"
    return domain == their_domain and re.fullmatch(pattern, theirs) is not None


def _affix(items: str) -> str:
    """The pattern of an optional affix: a list in which ``*`` stands for any text."""
    words = [word.strip(" ").lower() for word in items.split(":")]
    patterns = [".*".join(map(re.escape, word.split("*"))) for word in words if word]
    return f"(?:{'|'.join(patterns)})?"


# --- addresses without a domain ------------------------------------------------

_SENDERS = frozenset(("from", "sender", "reply-to"))
_RECIPIENTS = frozenset(("to", "cc", "bcc"))


def qualified(headers: Iterable[Header], sender_domain: str, recipient_domain: str) -> list[Header]:
    """Add a domain to addresses in the header that have none (48.3); "" leaves them alone."""
    result = []
    for header in headers:
        name = header.name.lower().removeprefix("resent-")
        domain = ""
        if name in _SENDERS:
            domain = sender_domain
        elif name in _RECIPIENTS:
            domain = recipient_domain
        if domain:
            before, colon, value = header.text.partition(":")
            header = Header(f"{before}{colon}{_qualify(value, domain)}")
        result.append(header)
    return result


def _qualify(value: str, domain: str) -> str:
    """Qualify the addresses of a field; one that cannot be understood is left as it is."""
    bare = (place for place in places_of(value) if not place.qualified)
    return replaced(value, ((p.first, p.last, f"{p.address}@{domain}") for p in bare))

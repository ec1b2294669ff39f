"""The header of a local message (specification 48.3, 48.8 to 48.16): pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mailsrv.config.main import MainOptions
from mailsrv.connection.submission import Submitter, qualified, submitted
from mailsrv.expansion.mailboxes import Bad, mailboxes
from mailsrv.expansion.rfc2047 import encode
from mailsrv.mail.caller import Caller
from mailsrv.mail.header import Header
from mailsrv.mail.message import Submission

_TO = frozenset(("to", "cc", "bcc"))


@dataclass(frozen=True, slots=True)
class Written:
    """What a message's header says of its recipients (``-t``)."""

    headers: list[Header]  # without Bcc:
    recipients: list[str]
    bad: list[Bad]  # what stands where addresses should, and is none


def mended(
    headers: Sequence[Header],
    sender: str,
    caller: Caller,
    settings: MainOptions,
    message_id: str,
    when: float,
    *,
    forced: bool = False,
    qualify: bool = True,
) -> list[Header]:
    """Add what is missing, and a Sender: if From: is not the caller (48.16).

    ``forced``: the caller, if trusted, is somebody else than the sender; then the
    sender's From: has their name only if they gave one.
    """
    checked = bool(settings.local_from_check) and not caller.trusted
    forced = forced and caller.trusted
    name = "" if forced and not caller.named else _words(caller.full_name)
    if not caller.trusted and not settings.local_sender_retain:
        resent = any(header.name.lower().startswith("resent-") for header in headers)
        gone = "resent-sender" if resent else "sender"
        headers = [header for header in headers if header.name.lower() != gone]
    done, _ = submitted(
        headers,
        sender,
        Submission(name=name, sender_retain=not checked),
        Submitter(
            "" if forced and not sender else caller.login,
            settings.qualify_domain or "",
            message_id,
            settings.local_from_prefix or "",
            settings.local_from_suffix or "",
        ),
        when,
    )
    if not qualify:
        return done
    return qualified(done, settings.qualify_domain or "", settings.qualify_recipient or "")


def _words(name: str) -> str:
    """A full name as a header field may have it: on one line, in ASCII (RFC 2047)."""
    name = "".join(" " if c < " " or c == "\x7f" else c for c in name).strip(" ")
    return name if name.isascii() else encode(name)


def written(headers: Sequence[Header]) -> Written:
    """Take the recipients from the header (``-t``), from Resent- fields if there are any.

    ``Bcc:`` and ``Resent-Bcc:`` are removed.
    """
    resent = any(header.name.lower().startswith("resent-") for header in headers)
    prefix = "resent-" if resent else ""
    wanted = [
        header
        for header in headers
        if header.name.lower().startswith(prefix)
        and header.name.lower().removeprefix(prefix) in _TO
    ]
    found: dict[str, None] = {}
    bad: list[Bad] = []
    for header in wanted:
        for each in mailboxes(header.value):
            if isinstance(each, Bad):
                bad.append(each)
            else:
                found[each.address] = None
    kept = [header for header in headers if header.name.lower() != f"{prefix}bcc"]
    return Written(kept, list(found), bad)

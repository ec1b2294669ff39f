"""The message that tells administrators that another was frozen (main option freeze_tell)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.utils import formatdate

from mailsrv.mail.fixups import stamp, with_received
from mailsrv.mail.header import Header
from mailsrv.mail.message import InlineBody, Message, Recipient, counted_size
from mailsrv.mail.origin import Origin
from mailsrv.queue.bounce import ReportSettings, default_from, printable


def notice(
    id: str, to: Sequence[str], message: Message, why: str, waiting: Sequence[str],
    settings: ReportSettings, now: float,
    received: Callable[[Message], str] = lambda message: "",
) -> Message:  # fmt: skip
    """Return what tells administrators that a message was frozen (freeze_tell)."""
    host = settings.primary_hostname
    sender = settings.dsn_from or default_from(settings)
    lines = [
        f"Message {message.id} has been frozen{f' ({printable(why)})' if why else ''}.",
        f"The sender is <{printable(message.sender)}>.",
        "",
        "The following address(es) have yet to be delivered:",
        "",
        *(f"  {printable(address)}" for address in waiting),
    ]
    result = Message(
        id=id,
        sender="",
        recipients=tuple(Recipient(address) for address in to),
        origin=Origin(protocol="local", ident=settings.ident),
        headers=[
            Header(line)
            for line in (
                "Auto-Submitted: auto-generated",
                f"From: {sender}",
                f"To: {printable(', '.join(to))}",
                f"Message-Id: <E{id}@{host}>",
                f"Date: {formatdate(now, localtime=True)}",
                "Subject: Message frozen",
            )
        ],
        body=InlineBody("".join(f"{line}\r\n" for line in lines).encode("ascii")),
        received_at=now,
    )
    result.headers = with_received(result.headers, stamp(received(result), now))
    result.size = counted_size(result.headers, result.body)
    return result

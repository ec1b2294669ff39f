"""Messages about others that are no reports of deliveries: frozen, or not taken at all.

Pure, as ``bounce.py``: they have a null sender, so that nothing is told about them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.utils import formatdate

from mailsrv.mail.fixups import stamp, with_received
from mailsrv.mail.header import Header
from mailsrv.mail.message import InlineBody, Message, Recipient, counted_size
from mailsrv.mail.origin import Origin
from mailsrv.queue.bounce import ReportSettings, default_from, printable

_COPY = "------ This is a copy of {}, including all the headers. ------"
_HEADERS = "------ This is a copy of the headers of your message. ------"


def notice(
    id: str, to: Sequence[str], message: Message, why: str, waiting: Sequence[str],
    settings: ReportSettings, now: float,
    received: Callable[[Message], str] = lambda message: "",
) -> Message:  # fmt: skip
    """Return what tells administrators that a message was frozen (freeze_tell)."""
    lines = [
        f"Message {message.id} has been frozen{f' ({printable(why)})' if why else ''}.",
        f"The sender is <{printable(message.sender)}>.",
        "",
        "The following address(es) have yet to be delivered:",
        "",
        *(f"  {printable(address)}" for address in waiting),
    ]
    text = "".join(f"{line}\r\n" for line in lines).encode("ascii")
    automatic = "auto-generated"
    return _message(id, to, "Message frozen", automatic, text, settings, now, received)


def failure(
    id: str, to: str, subject: str, lines: Sequence[str], original: bytes,
    settings: ReportSettings, now: float,
    received: Callable[[Message], str] = lambda message: "",
) -> Message:  # fmt: skip
    """Return what tells a local user that what they submitted is not sent, or not to all.

    ``original`` is their message, in wire form; of a long one the beginning is returned.
    """
    text = "".join(f"{printable(line)}\r\n" for line in lines).encode("ascii")
    if settings.bounce_return_message:
        header, end, body = original.partition(b"\r\n\r\n")
        if settings.bounce_return_body:
            most = settings.most_returned
            whole = "your message" if len(body) <= most else f"{most} octets of your message"
            text += f"\r\n{_COPY.format(whole)}\r\n\r\n".encode("ascii")
            text += header + end + body[:most]
        else:
            text += f"\r\n{_HEADERS}\r\n\r\n".encode("ascii") + header + b"\r\n"
    if not text.endswith(b"\r\n"):
        text += b"\r\n"
    return _message(id, [to], subject, "auto-replied", text, settings, now, received)


def _message(
    id: str, to: Sequence[str], subject: str, automatic: str, text: bytes,
    settings: ReportSettings, now: float, received: Callable[[Message], str],
) -> Message:  # fmt: skip
    result = Message(
        id=id,
        sender="",
        recipients=tuple(Recipient(address) for address in to),
        origin=Origin(protocol="local", ident=settings.ident),
        headers=[
            Header(line)
            for line in (
                f"Auto-Submitted: {automatic}",
                f"From: {settings.dsn_from or default_from(settings)}",
                f"To: {printable(', '.join(to))}",
                f"Message-Id: <E{id}@{settings.primary_hostname}>",
                f"Date: {formatdate(now, localtime=True)}",
                f"Subject: {subject}",
            )
        ],
        body=InlineBody(text),
        received_at=now,
    )
    result.headers = with_received(result.headers, stamp(received(result), now))
    result.size = counted_size(result.headers, result.body)
    return result

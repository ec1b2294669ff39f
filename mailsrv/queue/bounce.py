"""Reports about a message in RFC 3464 form: bounces, delay warnings, success notices.

Pure: a :class:`Report` and what was read of the body in, a new message with a
null sender out.  What a next hop said is escaped: no octet of it can end a
field, a line or a part.  A report about a message with a null sender is never
built (RFC 5321 6.1), so no loop is possible.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate

from mailsrv.mail.fixups import stamp, with_received
from mailsrv.mail.header import Header, render
from mailsrv.mail.message import InlineBody, Message, Recipient, counted_size
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Host
from mailsrv.mail.status import Status
from mailsrv.wire.command import decode_xtext

MOST_SAID = 4000  # characters that are told of what went wrong with one address
MOST_RETURNED = 10 << 20  # octets of a body, whatever bounce_return_size_limit says
_FIELD = re.compile(r"[!-9;-~]+[ \t]*:", re.ASCII)
_FIXED = ("content-", "mime-version", "from:", "to:", "message-id:", "date:", "auto-submitted:")
_PATIENCE = """\
No action is required on your part. Delivery attempts will continue for
some time, and this warning may be repeated at intervals if the message
remains undelivered. Eventually the mail delivery software will give up,
and when that happens, the message will be returned to you."""
LONGEST_LINE = 900  # of its lines: RFC 5321 allows 998, with what stands before them


class Kind(enum.Enum):
    """What is reported; the value is the report's Action field (RFC 3464 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"


@dataclass(frozen=True, slots=True)
class Item:
    """One address that is reported."""

    recipient: Recipient
    address: str
    kind: Kind
    reason: str = ""
    status: Status | None = None
    host: Host | None = None
    answer: str = ""  # the next hop's own words, its lines separated by a literal \\n
    hidden: bool = False  # hide_child_in_errmsg: it is not named
    place_of: str = ""  # the address whose redirection names the pipe or file; "" = it is none
    output: str = ""  # of a command


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """The main options that shape reports; the first two texts are expanded already."""

    primary_hostname: str
    qualify_domain: str = ""
    dsn_from: str = ""
    errors_reply_to: str = ""
    bounce_message_text: str = ""
    bounce_return_message: bool = True
    bounce_return_body: bool = True
    bounce_return_size_limit: int = 100 * 1024  # octets; 0 = MOST_RETURNED
    bounce_return_linesize_limit: int = 998
    bounce_sender_authentication: str = ""
    ident: str = ""  # login name of the server's user

    @property
    def most_returned(self) -> int:
        """Octets of a body that are returned at most: a report is built in memory."""
        return min(self.bounce_return_size_limit or MOST_RETURNED, MOST_RETURNED)


@dataclass(frozen=True, slots=True)
class Report:
    """All that one report says."""

    id: str  # of the report
    to: str
    items: Sequence[Item]
    now: float
    delay: float = 0.0  # seconds that the message has been queued, for a warning
    copies: Sequence[str] = ()  # errors_copy
    texts: Sequence[str] = ()  # of bounce_message_file or warn_message_file; "" = the usual one

    def text(self, number: int) -> str:
        """Return an item of the file (chapter 50), "" where there is none."""
        return self.texts[number] if number < len(self.texts) else ""


def wants(recipient: Recipient, word: str) -> bool:
    """Tell whether a recipient's NOTIFY asks for a report (RFC 3461 4.1); unset: no SUCCESS."""
    return word in recipient.notify if recipient.notify else word != "SUCCESS"


def build(
    report: Report,
    message: Message,
    body: bytes | None,
    settings: ReportSettings,
    received: Callable[[Message], str] = lambda message: "",
) -> Message:
    """Return the report as a message.

    ``received`` gives the text of its Received: line (without the time) for it.
    ``body`` is the start of the original's body, at least ``most_returned`` + 1
    octets of it if there are so many; None if it cannot be read.
    """
    if not message.sender or not report.to:
        raise ValueError("a report about a message with a null sender")
    kind = report.items[0].kind
    original, type, note = _original(kind, message, body, settings)
    text, charset = _text(report, message, settings, note)
    parts = [
        (f"text/plain; charset={charset}", text),
        ("message/delivery-status", _status(report, message, settings)),
    ]
    if original is not None:
        parts.append((type, original))
    boundary = _boundary(report.id, parts)
    pieces = [
        f"--{boundary}\r\nContent-Type: {type}\r\n\r\n".encode("ascii") + content + b"\r\n"
        for type, content in parts
    ]
    whole = b"".join(pieces) + f"--{boundary}--\r\n".encode("ascii")
    result = Message(
        id=report.id,
        sender="",
        recipients=tuple(Recipient(address) for address in (report.to, *report.copies)),
        origin=Origin(
            protocol="local",
            ident=settings.ident,
            authenticated_sender=settings.bounce_sender_authentication,
        ),
        headers=_headers(report, message, settings, boundary),
        body=InlineBody(whole),
        received_at=report.now,
    )
    result.headers = with_received(result.headers, stamp(received(result), report.now))
    result.size = counted_size(result.headers, result.body)
    return result


def default_from(settings: ReportSettings) -> str:
    """Return what reports are from if dsn_from is not set."""
    domain = settings.qualify_domain or settings.primary_hostname
    return f"Mail Delivery System <Mailer-Daemon@{domain}>"


def printable(text: str, limit: int = 900) -> str:
    """Return text as one line of printing ASCII, line ends as blanks, the rest escaped."""
    pieces = [
        " " if c in "\r\n\t" else c if " " <= c <= "~" else f"\\x{ord(c):02x}" for c in text[:limit]
    ]
    return " ".join("".join(pieces).split(" "))[:limit]


def _headers(
    report: Report, message: Message, settings: ReportSettings, boundary: str
) -> list[Header]:
    kind, host = report.items[0].kind, settings.primary_hostname
    date = formatdate(report.now, localtime=True)
    subject = {
        Kind.FAILED: "Mail delivery failed: returning message to sender"
        if report.to == message.sender
        else "Mail delivery failed",
        Kind.DELAYED: f"Warning: message {message.id} delayed {delay_words(report.delay)}",
    }.get(kind, "Delivery Status Notification")
    sender = settings.dsn_from or default_from(settings)
    lines = []
    if kind is Kind.FAILED:
        named = (printable(i.address, 320) for i in report.items if not i.hidden)
        failed = ", ".join(dict.fromkeys(named))
        if failed:
            lines.append(f"X-Failed-Recipients: {failed[:900]}")
    if settings.errors_reply_to:
        lines.append(f"Reply-To: {settings.errors_reply_to}")
    automatic = "auto-replied" if kind is Kind.FAILED else "auto-generated"
    lines += [
        f"Auto-Submitted: {automatic}",
        f"From: {sender}",
        f"To: {printable(report.to)}",
        f"Message-Id: <E{report.id}@{host}>",
        f"Date: {date}",
        *(_own_lines(report.text(0)) or [f"Subject: {subject}"]),
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\n\tboundary="{boundary}"',
    ]
    reference = next((h.value for h in message.headers if h.called("Message-ID")), "")
    if reference:
        lines.insert(-2, f"References: {printable(reference.strip(' ')).strip(' ')}")
    return [Header(line) for line in lines]


def _own_lines(text: str) -> list[str]:
    """Return the header lines of a text file's first item, as far as they are some."""
    lines: list[str] = []
    for line in text.split("\n"):
        if line[:1] in (" ", "\t") and lines:
            lines[-1] += f"\n{line}"
        elif _FIELD.match(line):
            lines.append(line)
        elif line:
            break
    return [line for line in lines if not line.lower().startswith(_FIXED)]


def _text(
    report: Report, message: Message, settings: ReportSettings, note: str
) -> tuple[bytes, str]:
    """Return the part for people, and its character set."""
    lines = _beginning(report, message, settings) + _listed(report)
    if report.items[0].kind is Kind.DELAYED:
        lines += ["", *(report.text(2).rstrip("\n") or _PATIENCE).split("\n")]
    if note:
        lines += ["", note]
    text = "\n".join([*lines, ""]).replace("\r", "").replace("\n", "\r\n")
    raw = text.encode("latin-1", "backslashreplace")
    try:
        return raw, "us-ascii" if raw.isascii() else raw.decode("utf-8") and "utf-8"
    except UnicodeDecodeError:
        return text.encode("ascii", "backslashreplace"), "us-ascii"


def _beginning(report: Report, message: Message, settings: ReportSettings) -> list[str]:
    kind = report.items[0].kind
    if own := report.text(1).rstrip("\n"):
        return [*own.split("\n"), ""]
    lines = ["This message was created automatically by mail delivery software."]
    if kind is Kind.FAILED and settings.bounce_message_text:
        lines += settings.bounce_message_text.split("\n")
    mine = report.to == message.sender
    whose = "that you sent" if mine else f"sent by\n\n  <{printable(message.sender)}>\n\n"
    if kind is Kind.FAILED and mine:
        lines += ["", "A message that you sent could not be delivered to one or more of its",
                  "recipients. This is a permanent error. The following address(es) failed:",
                  ""]  # fmt: skip
    elif kind is Kind.FAILED:
        lines += ["", f"A message {whose}could not be delivered to one or more of its recipients.",
                  "The following address(es) failed:", ""]  # fmt: skip
    elif kind is Kind.DELAYED:
        delay = delay_words(report.delay)
        lines += ["", f"A message {whose} has not been delivered to one or more of its recipients",
                  f"after more than {delay} in the queue on {settings.primary_hostname}.", "",
                  f"The message identifier is:     {message.id}"]  # fmt: skip
        for name, words in (("Subject", "subject of the message"), ("Date", "date of the message")):
            value = next((h.value for h in message.headers if h.called(name)), "")
            if value:
                lines.append(f"The {words} is:".ljust(31) + printable(value).strip(" "))
        lines += ["", "The following address(es) have not yet been delivered:", ""]
    else:
        lines += ["", f"A message {whose} was successfully delivered or passed on", "to:", ""]
    return lines


def _listed(report: Report) -> list[str]:
    """Return the lines about each address."""
    kind, lines = report.items[0].kind, []
    for item in report.items:
        lines += _named(item)
        if item.host is not None and kind in (Kind.FAILED, Kind.DELAYED):
            name, place = printable(item.host.name, 300), printable(item.host.address, 300)
            lines.append(f"    host {name} [{place}]")
        if item.reason and not item.hidden:  # it may well tell the address (22.7)
            why = "Delay reason: " if kind is Kind.DELAYED else ""
            lines += [f"    {line}" for line in _broken(why + printable(item.reason, MOST_SAID))]
    return lines + _outputs(report)


def _outputs(report: Report) -> list[str]:
    """Return what commands have written."""
    lines: list[str] = []
    usual = "The following text was generated during the delivery attempt:"
    own = report.text(2).rstrip("\n") if report.items[0].kind is Kind.FAILED else ""
    for item in report.items:
        if not item.output:
            continue
        if not lines:
            lines = ["", *(own or usual).split("\n")]
        name, *more = (line.strip(" ") for line in _named(item))
        lines += ["", "\n       ".join([f"------ {name}", *more]) + " ------", ""]
        for line in item.output.rstrip("\n").split("\n"):
            lines.append(printable(line, LONGEST_LINE))
    return lines


def _named(item: Item) -> list[str]:
    """Return what a report calls an address, and what it came from."""
    top = item.recipient.parent or item.recipient.address
    if item.hidden:
        return ["  an undisclosed address", f"    (generated from {printable(top)})"]
    if item.place_of:
        verb = "pipe to" if item.address.startswith("|") else "save to"
        lines = [
            f"  {verb} {printable(item.address)}",
            f"    generated by {printable(item.place_of)}",
        ]
        return lines if item.place_of == top else [*lines, f"    (generated from {printable(top)})"]
    lines = [f"  {printable(item.address)}"]
    return lines if item.address == top else [*lines, f"    (generated from {printable(top)})"]


def _broken(reason: str) -> list[str]:
    """Return a reason in lines: those of a reply, and new ones at a colon of a long line."""
    lines = []
    for line in reason.split("\\n"):
        while (colon := line.find(": ", 45)) >= 0:
            lines.append(line[: colon + 1])
            line = line[colon + 2 :]
        lines.append(line)
    return [line[:LONGEST_LINE] for line in lines]


def _status(report: Report, message: Message, settings: ReportSettings) -> bytes:
    """Return the machine-readable part (RFC 3464 2)."""
    groups = [[f"Reporting-MTA: dns; {settings.primary_hostname}"]]
    if message.envid:
        envid = decode_xtext(message.envid)  # RFC 3461 6.3: what is reported is decoded
        groups[0].append(f"Original-Envelope-Id: {printable(envid, 100)}")
    groups[0].append(f"Arrival-Date: {formatdate(message.received_at, localtime=True)}")
    for item in report.items:
        group = []
        if item.recipient.orcpt:
            kind, _, original = item.recipient.orcpt.partition(";")
            if kind.lower() != "utf-8":  # RFC 6533 3: that one has an encoding of its own
                original = decode_xtext(original)
            group.append(f"Original-Recipient: {printable(kind)};{printable(original, 600)}")
        default = {Kind.FAILED: "5.0.0", Kind.DELAYED: "4.0.0"}.get(item.kind, "2.0.0")
        status = item.status.enhanced if item.status else default
        if status[0] != default[0]:
            status = default if item.kind is not Kind.FAILED else "5" + status[1:]
        group += [
            f"Final-Recipient: rfc822; {printable(item.recipient.address, 600)}",
            f"Action: {item.kind.value}",
            f"Status: {status}",
        ]
        if item.host is not None:
            group.append(f"Remote-MTA: dns; {printable(item.host.name, 300)}")
        if item.answer and not item.hidden:
            lines = printable(item.answer, MOST_SAID).split("\\n")
            answer = "\r\n ".join(line[:LONGEST_LINE] for line in lines if line.strip(" "))
            group.append(f"Diagnostic-Code: smtp; {answer}")
        groups.append(group)
    return "\r\n".join("".join(f"{line}\r\n" for line in g) for g in groups).encode(
        "ascii", "backslashreplace"
    )


def _original(
    kind: Kind, message: Message, body: bytes | None, settings: ReportSettings
) -> tuple[bytes | None, str, str]:
    """Return what is sent back of the message, its type, and a remark for the text."""
    headers = render([Header(f"Return-path: <{printable(message.sender)}>"), *message.headers])
    if kind is Kind.FAILED and not settings.bounce_return_message:
        return None, "", ""
    full = kind is Kind.FAILED and settings.bounce_return_body and message.ret != "HDRS"
    if not full:
        return headers, "text/rfc822-headers", ""
    if body is None:
        note = "The body of the message could not be read: only its header is returned."
        return headers, "text/rfc822-headers", note
    limit = settings.most_returned
    longest = max((len(line) for line in body.split(b"\r\n")), default=0)
    if len(body) > limit or longest > settings.bounce_return_linesize_limit:
        note = f"The message is larger than {limit} octets or has overlong lines: only its header"
        return headers, "text/rfc822-headers", f"{note}\nis returned."
    return headers + b"\r\n" + body, "message/rfc822", ""


def _boundary(id: str, parts: Sequence[tuple[str, bytes]]) -> str:
    """Return a boundary that occurs in no part."""
    boundary = f"{id}-mailsrvdsn"
    while any(boundary.encode("ascii") in content for _, content in parts):
        boundary = f"{id}-{hashlib.sha256(boundary.encode()).hexdigest()[:16]}"
    return boundary


def delay_words(seconds: float) -> str:
    """Return a delay as "<n> minutes" or "<n> hours" (specification 50.2)."""
    if seconds < 7200:
        return f"{int(seconds // 60)} minutes"
    return f"{int(seconds // 3600)} hours"

"""The wording of the logs: one function an event, in the forms of specification chapter 53.

A line is made from values alone; time stamps, files and syslog are elsewhere.  What a peer sent
stands in a line as it came: :func:`printable` makes it harmless when the line is written.
"""

from __future__ import annotations

import re

from mailsrv.mail.connection import Connection
from mailsrv.mail.header import Header
from mailsrv.mail.message import Message
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Outcome

Selectors = frozenset[str]

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\v": "\\v", "\f": "\\f"}
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]", re.ASCII)
_UNPRINTABLE_7BIT = re.compile(r"[\x00-\x1f\x7f]", re.ASCII)
_CONFIRMATION_LIMIT = 100  # characters of C="..."

# What Exim prints after "defer" for the error names of the retry rules: errno of Linux, or a
# negative number of Exim's own.
_ERROR_NUMBERS = {
    "refused": (111, "Connection refused"),
    "timeout": (110, "Connection timed out"),
    "timeout_connect": (110, "Connection timed out"),
    "lost_connection": (-18, ""),
    "quota": (-22, ""),
    "tls_required": (-38, ""),
    "auth_failed": (-42, ""),
    "rcpt_4xx": (-44, ""),
    "mail_4xx": (-45, ""),
    "data_4xx": (-46, ""),
}


def printable(text: str, top_bit: bool = False) -> str:
    """Return ``text`` on one line, each octet that does not print as an escape such as ``\\n``.

    Octets above 126 are escaped unless ``top_bit`` (``print_topbitchars``).  As in Exim, a
    backslash stays as it is.
    """
    pattern = _UNPRINTABLE_7BIT if top_bit else _UNPRINTABLE
    return pattern.sub(lambda found: _ESCAPES.get(found[0]) or f"\\{ord(found[0]):03o}", text)


def duration(seconds: float, selectors: Selectors = frozenset()) -> str:
    """Return a time span such as ``3m45s``; with ``millisec``, short ones as ``0.304s``."""
    seconds = max(0.0, seconds)
    if "millisec" in selectors and seconds < 5:
        return f"{seconds:.3f}s"
    rest, text = int(seconds), ""
    for unit, length in (("w", 604800), ("d", 86400), ("h", 3600), ("m", 60)):
        count, rest = divmod(rest, length)
        if count:
            text += f"{count}{unit}"
    return text + (f"{rest}s" if rest or not text else "")


def full_host(origin: Origin, selectors: Selectors = frozenset()) -> str:
    """Return name, HELO name and address of a host, as ``$sender_fullhost``; "" for a local one.

    Only the last address in square brackets can be relied on: what HELO gave is in parentheses.
    """
    if not origin.host_address:
        return ""
    address = f"[{origin.host_address}]"
    if "incoming_port" in selectors and origin.host_port:
        address += f":{origin.host_port}"
    helo = origin.helo_name
    literal = helo[1:-1] if helo.startswith("[") and helo.endswith("]") else ""
    if literal[:5].lower() == "ipv6:":
        literal = literal[5:]
    show = helo and literal.lower() != origin.host_address.lower()
    if not origin.host_name:
        return f"({helo}) {address}" if show else address
    if show and helo.lower() != origin.host_name.lower():
        return f"{origin.host_name} ({helo}) {address}"
    return f"{origin.host_name} {address}"


def host_and_ident(origin: Origin, selectors: Selectors = frozenset()) -> str:
    """Return ``H=host I=[interface]:port U=ident``, as most lines about a client begin."""
    if not origin.host_address:
        return f"U={origin.ident}" if origin.ident else ""
    text = f"H={full_host(origin, selectors)}"
    if "incoming_interface" in selectors and origin.interface_address:
        text += f" I=[{origin.interface_address}]:{origin.interface_port}"
    return f"{text} U={origin.ident}" if origin.ident else text


def tls(origin: Origin, selectors: Selectors) -> str:
    """Return the items about TLS of a connection, each after a blank."""
    if not origin.tls_cipher:
        return ""
    text = ""
    if "tls_cipher" in selectors:
        text += f" X={origin.tls_cipher}"
    if "tls_certificate_verified" in selectors:
        text += f" CV={'yes' if origin.tls_certificate_verified else 'no'}"
    if "tls_peerdn" in selectors and origin.tls_peer_dn:
        text += f' DN="{origin.tls_peer_dn}"'
    if "tls_sni" in selectors and origin.tls_sni:
        text += f' SNI="{origin.tls_sni}"'
    return text


def _authenticated(origin: Origin, selectors: Selectors) -> str:
    if not origin.authenticator:
        return ""
    text = f" A={origin.authenticator}"
    if origin.authenticated_id:
        text += f":{origin.authenticated_id}"
    if "smtp_mailauth" in selectors and origin.authenticated_sender:
        text += f":{origin.authenticated_sender}"
    return text


_MESSAGE_ID = re.compile(r"[ \t\n]*<([^<>\s]+)>[ \t\n]*", re.ASCII)


def _message_id(message: Message, selectors: Selectors) -> str:
    """Return `` id=…`` (`` id*=…`` if it was made here); "" for none or one that is no id."""
    header = next((field for field in message.headers if field.called("Message-ID")), None)
    found = _MESSAGE_ID.fullmatch(header.value) if header else None
    if found is None:
        return ""
    if found[1].startswith(f"E{message.id}@"):
        return f" id*={found[1]}" if "msg_id_created" in selectors else ""
    return f" id={found[1]}" if "msg_id" in selectors else ""


def subject(message: Message) -> str:
    """Return the decoded subject of a message; "" if it has none.

    Words of RFC 2047 that cannot be decoded stay as they are.
    """
    header = next((field for field in message.headers if field.called("Subject")), None)
    if header is None:
        return ""
    value = header.value.replace("\n", "").strip(" \t")
    if "=?" not in value:
        return value
    from email.errors import HeaderParseError
    from email.header import decode_header, make_header

    try:
        text = str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, ValueError):
        return value
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _quoted(text: str) -> str:
    """Return ``text`` in double quotes, those in it and backslashes with a backslash."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def received(
    message: Message, selectors: Selectors, bounce_of: str = "", seconds: float = -1
) -> str:
    """Return the line of an accepted message (``<=``); ``seconds``: -1 is not known."""
    origin = message.origin
    words = [f"<= {message.sender or '<>'}"]
    if bounce_of:
        words.append(f"R={bounce_of}")
    words.append(host_and_ident(origin, selectors))
    line = " ".join(word for word in words if word) + f" P={origin.protocol}"
    line += tls(origin, selectors) + _authenticated(origin, selectors) + f" S={message.size}"
    if "8bitmime" in selectors:
        line += f" M8S={message.body_8bitmime}"
    if "receive_time" in selectors and seconds >= 0:
        line += f" RT={duration(seconds, selectors)}"
    line += _message_id(message, selectors)
    if "subject" in selectors and (topic := subject(message)):
        line += f" T={_quoted(topic)}"
    if "received_sender" in selectors:
        line += f" from <{message.sender}>"
    if "received_recipients" in selectors:
        line += " for " + " ".join(recipient.address for recipient in message.recipients)
    return line


def address(outcome: Outcome, selectors: Selectors, as_local: bool = False) -> str:
    """Return the address of a delivery, and the one it came from in angle brackets.

    ``as_local``: its local part alone (``log_as_local`` of the router), or the file that took it.
    """
    routed = outcome.address
    parents = list(routed.ancestors())
    top = routed.recipient.parent or routed.recipient.address
    shown = routed.address
    if as_local:
        shown = outcome.delivered_to if routed.place else routed.local_part
        shown = shown or routed.local_part
    if "all_parents" in selectors and len(parents) > 1:
        shown += " (" + ", ".join(parent.address for parent in parents[:-1]) + ")"
    return shown if shown.lower() == top.lower() else f"{shown} <{top}>"


def _common(message: Message, outcome: Outcome, selectors: Selectors) -> str:
    """Return F=, P=, R= and T= of a delivery's line, each after a blank."""
    routed, text = outcome.address, ""
    if "sender_on_delivery" in selectors:
        text += f" F=<{message.sender}>"
    if "return_path_on_delivery" in selectors and routed.transport:
        back = message.sender if routed.errors_to is None else routed.errors_to
        text += f" P=<{back}>"
    if routed.router:
        text += f" R={routed.router}"
    if routed.transport:
        text += f" T={routed.transport}"
    return text


def _host(outcome: Outcome, selectors: Selectors) -> str:
    """Return `` H=name [address]`` of the next hop; "" if there was none."""
    host = outcome.host
    if host is None:
        return ""
    if host.address.startswith("/") or not host.address:
        return f" H={host.name}" if host.name else ""
    text = f" H={host.name} [{host.address}]"
    if "outgoing_port" in selectors and host.port:
        text += f":{host.port}"
    if outcome.interface and {"incoming_interface", "outgoing_interface"} <= selectors:
        here, _, port = outcome.interface.rpartition(":")
        text += f" I={here}:{port}" if "outgoing_port" in selectors else f" I={here}"
    return text


def _outgoing_tls(outcome: Outcome, selectors: Selectors) -> str:
    if not outcome.tls:
        return ""
    text = f" X={outcome.tls}" if "tls_cipher" in selectors else ""
    if "tls_certificate_verified" in selectors:
        text += f" CV={'yes' if outcome.tls_verified else 'no'}"
    if "tls_peerdn" in selectors and outcome.tls_peer_dn:
        text += f' DN="{outcome.tls_peer_dn}"'
    return text


def _times(message: Message, outcome: Outcome, selectors: Selectors, now: float) -> str:
    """Return QT= and DT=; the latter only where the time that the delivery took is known."""
    text = ""
    if "queue_time" in selectors:
        text += f" QT={duration(now - message.received_at, selectors)}"
    return text + _deliver_time(outcome, selectors)


def _deliver_time(outcome: Outcome, selectors: Selectors) -> str:
    if "deliver_time" not in selectors or outcome.seconds < 0:
        return ""
    return f" DT={duration(outcome.seconds, selectors)}"


def delivered(
    message: Message,
    outcome: Outcome,
    selectors: Selectors,
    now: float,
    *,
    additional: bool = False,
    as_local: bool = False,
) -> str:
    """Return the line of a delivered address (``=>``, or ``->`` for a further one)."""
    line = f"{'->' if additional else '=>'} {address(outcome, selectors, as_local)}"
    line += _common(message, outcome, selectors)
    if "delivery_size" in selectors:
        line += f" S={outcome.size if outcome.size >= 0 else message.size}"
    line += _host(outcome, selectors)
    if "pipelining" in selectors and outcome.pipelined:
        line += " L"
    line += _outgoing_tls(outcome, selectors)
    if outcome.authenticator:
        line += f" A={outcome.authenticator}"
    if outcome.chunking:
        line += " K"
    if "smtp_confirmation" in selectors and outcome.confirmation:
        line += f" C={_quoted(outcome.confirmation[:_CONFIRMATION_LIMIT])}"
    if outcome.shadow:
        line += f" ST={outcome.shadow}"
    return line + _times(message, outcome, selectors, now)


def deferred(message: Message, outcome: Outcome, selectors: Selectors) -> str:
    """Return the line of a delivery that is to be tried again (``==``).

    An error of the system has its text right behind its number, as in Exim.
    """
    number, meaning = _ERROR_NUMBERS.get(outcome.error.lower(), (0, ""))
    text = outcome.reason
    line = f"== {address(outcome, selectors)}{_common(message, outcome, selectors)}"
    if not outcome.address.transport and not outcome.address.router:
        line += " routing"
    line += f" defer ({number})"
    if meaning and (not text or text == meaning):
        line, text = f"{line}: {meaning}", ""
    line += _host(outcome, selectors) + _outgoing_tls(outcome, selectors)
    line += _deliver_time(outcome, selectors)
    return f"{line}: {text}" if text else line


def failed(message: Message, outcome: Outcome, selectors: Selectors) -> str:
    """Return the line of a delivery that failed for good (``**``)."""
    line = f"** {address(outcome, selectors)}{_common(message, outcome, selectors)}"
    line += _host(outcome, selectors) + _outgoing_tls(outcome, selectors)
    line += _deliver_time(outcome, selectors)
    return f"{line}: {outcome.reason}" if outcome.reason else line


def completed(message: Message, selectors: Selectors, now: float) -> str:
    """Return the last line about a message."""
    if "queue_time_overall" not in selectors:
        return "Completed"
    return f"Completed QT={duration(now - message.received_at, selectors)}"


def rejected(connection: Connection, what: str, text: str, selectors: Selectors) -> str:
    """Return the line of a refusal, for example ``H=… F=<…> rejected RCPT <…>: text``.

    ``what`` says what was refused: ``rejected RCPT <a@b>``, ``temporarily rejected MAIL …``.
    """
    origin, transaction = connection.origin, connection.transaction
    line = host_and_ident(origin, selectors) + tls(origin, selectors)
    if transaction is not None:
        line += f" F=<{transaction.sender}>"
        line += _authenticated(origin, selectors - {"smtp_mailauth"})
    line = f"{line} {what}" if line else what
    return f"{line}: {text}" if text else line


def rejected_headers(connection: Connection, headers: list[Header]) -> list[str]:
    """Return what the reject log says below a refusal: the envelope, then the header's lines."""
    if not headers:
        return []
    lines = []
    transaction = connection.transaction
    if transaction is not None:
        lines.append(f"Envelope-from: <{transaction.sender}>")
        if transaction.recipients:
            lines.append(f"Envelope-to: <{transaction.recipients[0].address}>")
            lines += [f"    <{recipient.address}>" for recipient in transaction.recipients[1:]]
    for header in headers:
        first, *folded = header.text.split("\n")
        lines.append(f"{header.letter} {first}")
        lines += [f"  {line}" for line in folded]
    return lines

"""The message of ``-bem``: a file, as if a local user had submitted it (specification 5.2)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mailsrv.config.main import MainOptions
from mailsrv.config.model import Configuration
from mailsrv.connection.local.fixups import mended, written
from mailsrv.connection.submission import message_id
from mailsrv.expansion.mailboxes import address_of
from mailsrv.expansion.regex import compile_regex, groups
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.tree import drive
from mailsrv.mail import fixups
from mailsrv.mail.message import InlineBody, Recipient, Transaction, counted_size
from mailsrv.mail.msgid import MessageIds
from mailsrv.mail.origin import Origin

_BLANK = re.compile(rb"\r?\n\r?\n")


def take_message(
    scope: Scope, configuration: Configuration, path: str, *, recipients: bool, forced: bool
) -> Iterator[str]:
    """Read a file as the message that strings see; yields what is to be told of it.

    ``recipients``: they are those of its header (``-t``); ``forced``: the
    sender was given (``-f``), and so no ``From `` line counts.

    :raises OSError: it cannot be read.
    :raises ExpansionError: ``uucp_from_pattern`` or ``uucp_from_sender`` is at fault.
    """
    main = configuration.main
    octets = Path(path).read_bytes()
    whole = [line.removesuffix(b"\r") for line in octets.split(b"\n")[:-1]]
    values = {"max_received_linelength": str(max(map(len, whole), default=0))}
    connection, transaction = scope.connection, scope.message
    assert connection is not None and connection.caller is not None
    assert isinstance(transaction, Transaction)
    sender, first = _from_line(octets, main, scope)
    if first and sender and not forced:
        transaction.sender = sender
        scope.origin = replace(scope.origin or Origin(), authenticated_sender="")
        yield 'Sender taken from "From " line'
    octets = octets[first:]
    if octets.startswith(b"\n"):
        head, rest = b"", octets[1:]
    else:
        blank = _BLANK.search(octets)
        head, rest = (octets[: blank.start()], octets[blank.end() :]) if blank else (octets, b"")
    text = head.decode("latin-1").replace("\r\n", "\n").removesuffix("\n")
    headers, left = fixups.split_header(text)
    if left:
        rest = left.encode("latin-1") + b"\n" + rest
    if not headers:
        yield "Warning: no message headers read"
    body = InlineBody(rest.replace(b"\n", b"\r\n"))
    lines = sum(header.text.count("\n") + 1 for header in headers) + bool(first)
    in_body = sum(1 for line in rest.split(b"\n") if line)  # as Exim counts here
    returned = [header for header in headers if header.called("Return-path")]
    if returned:
        values["return_path"] = address_of(returned[0].value) or ""
        headers = [header for header in headers if header not in returned]
        yield 'Return-path taken from "Return-path:" header line'
    received = sum(header.called("Received") for header in headers)
    values |= {
        "received_count": str(received + 1),  # with the one that a reception would add
        "body_linecount": str(in_body),
        "message_linecount": str(lines + 1 + in_body),
    }
    scope.values = {**scope.values, **values}
    gone = sum(len(header.text) + 1 for header in returned)
    transaction.size = counted_size(headers, body) + first + gone
    transaction.body = body
    transaction.received_at = time.time()
    transaction.id = MessageIds(time.time, 0)()
    if recipients:
        found = written(headers)
        domain = main.qualify_recipient or ""
        transaction.recipients = [
            Recipient(address if "@" in address else f"{address}@{domain}")
            for address in found.recipients
        ]
        headers = found.headers
    transaction.headers = mended(
        headers,
        transaction.sender,
        replace(connection.caller, full_name="") if forced else connection.caller,
        main,
        message_id(transaction.id, main.primary_hostname or ""),
        transaction.received_at,
    )


def _from_line(octets: bytes, main: MainOptions, scope: Scope) -> tuple[str, int]:
    """Return the sender in a ``From `` line before the header, and how long that line is."""
    line, end, _ = octets.partition(b"\n")
    match = compile_regex(main.uucp_from_pattern).search(line.decode("latin-1"))
    if match is None:
        return "", 0
    sender = drive(main.uucp_from_sender.expand(scope.within({}, groups(match))))
    return address_of(sender) or "", len(line) + len(end)

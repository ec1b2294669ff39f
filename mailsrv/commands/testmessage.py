"""The message of ``-bem``: a file, as if a local user had submitted it (specification 5.2)."""

from __future__ import annotations

import time
from pathlib import Path

from mailsrv.config.model import Configuration
from mailsrv.connection.local.fixups import mended, written
from mailsrv.connection.submission import message_id
from mailsrv.expansion.scope import Scope
from mailsrv.mail import fixups
from mailsrv.mail.message import InlineBody, Recipient, Transaction, counted_size
from mailsrv.mail.msgid import MessageIds


def take_message(
    scope: Scope, configuration: Configuration, path: str, *, recipients: bool
) -> None:
    """Read a file as the message that strings see.

    ``recipients``: they are those of its header (``-t``).

    :raises OSError: it cannot be read.
    """
    octets = Path(path).read_bytes().replace(b"\r\n", b"\n")
    head, _, rest = (octets[1:] if octets.startswith(b"\n") else octets).partition(b"\n\n")
    headers, left = fixups.split_header(head.removesuffix(b"\n").decode("latin-1"))
    if left:
        rest = left.encode("latin-1") + b"\n" + rest
    connection, transaction = scope.connection, scope.message
    assert connection is not None and connection.caller is not None
    assert isinstance(transaction, Transaction)
    body = InlineBody(rest.replace(b"\n", b"\r\n"))
    transaction.size = counted_size(headers, body)
    transaction.body = body
    transaction.received_at = time.time()
    transaction.id = MessageIds(time.time, 0)()
    main = configuration.main
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
        connection.caller,
        main,
        message_id(transaction.id, main.primary_hostname or ""),
        transaction.received_at,
    )

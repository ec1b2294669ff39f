"""Messages and outcomes for the tests of the logs."""

from __future__ import annotations

from mailsrv.mail.connection import Connection
from mailsrv.mail.header import Header
from mailsrv.mail.message import InlineBody, Message, Recipient, Transaction
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Host, Outcome, Result, RoutedAddress

ID = "1oAbCd-000123-Xy"
RECEIVED = 1_000_000_000.0  # 2001-09-09 01:46:40 UTC


def an_origin() -> Origin:
    return Origin(
        host_address="192.0.2.7",
        host_port=40000,
        helo_name="client.example",
        interface_address="192.0.2.1",
        interface_port=25,
        protocol="esmtps",
        tls_cipher="TLS1.3:TLS_AES_256_GCM_SHA384:256",
    )


def a_message(**changes: object) -> Message:
    values: dict[str, object] = {
        "id": ID,
        "sender": "from@client.example",
        "recipients": (Recipient("to@example.org"),),
        "origin": an_origin(),
        "headers": [Header("Message-ID: <one@client.example>"), Header('Subject: a "b"')],
        "body": InlineBody(b"text\r\n"),
        "received_at": RECEIVED,
        "size": 321,
    }
    values.update(changes)
    return Message(**values)  # type: ignore[arg-type]


def an_outcome(result: Result = Result.DELIVERED, **changes: object) -> Outcome:
    address = RoutedAddress(
        Recipient("to@example.org"),
        "to@example.org",
        "to",
        "example.org",
        router="dovecot",
        transport="lmtp",
    )
    values: dict[str, object] = {"address": address, "result": result}
    values.update(changes)
    return Outcome(**values)  # type: ignore[arg-type]


MX = Host("mx.example.net", "192.0.2.25", 25)


def a_connection(transaction: bool = True) -> Connection:
    connection = Connection(an_origin())
    if transaction:
        connection.transaction = Transaction(sender="from@client.example", id=ID)
    return connection

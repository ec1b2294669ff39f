"""The main log's events as JSON, one object a line (an option of ours, ``log_json``).

The fields have stable names, so that programs need not take Exim's lines apart.  Values are
octet strings; octets that are not UTF-8 become U+FFFD.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Message
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Outcome

Value = str | int | float | bool | list[str] | None
Fields = dict[str, Value]


def record(event: str, now: float, fields: Mapping[str, Value]) -> str:
    """Return one line: ``time`` (UTC), ``event``, then the fields that have a value."""
    entry: dict[str, Value] = {
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
        "event": event,
    }
    entry.update({name: _text(value) for name, value in fields.items() if value not in ("", None)})
    return json.dumps(entry, ensure_ascii=True)


def _text(value: Value) -> Value:
    if isinstance(value, str):
        return value.encode("latin-1", "replace").decode("utf-8", "replace")
    if isinstance(value, list):
        return [item.encode("latin-1", "replace").decode("utf-8", "replace") for item in value]
    return value


def origin_fields(origin: Origin) -> Fields:
    """Return what is known of a client."""
    return {
        "host": origin.host_address,
        "port": origin.host_port or None,
        "host_name": origin.host_name,
        "helo": origin.helo_name,
        "interface": origin.interface_address,
        "interface_port": origin.interface_port or None,
        "protocol": origin.protocol,
        "tls": origin.tls_cipher,
        "authenticator": origin.authenticator,
        "user": origin.authenticated_id or origin.ident,
    }


def received(message: Message, bounce_of: str) -> Fields:
    """Return the fields of an accepted message."""
    return {
        "id": message.id,
        "sender": message.sender or "<>",
        "recipients": [recipient.address for recipient in message.recipients],
        "size": message.size,
        "bounce_of": bounce_of,
        **origin_fields(message.origin),
    }


def outcome(message: Message, result: Outcome, now: float) -> Fields:
    """Return the fields of a delivery, failed delivery or deferral."""
    host = result.host
    return {
        "id": message.id,
        "sender": message.sender or "<>",
        "address": result.address.address,
        "recipient": result.address.recipient.address,
        "router": result.address.router,
        "transport": result.address.transport,
        "host": (host.address or host.name) if host else None,
        "host_name": host.name if host else None,
        "tls": result.tls,
        "code": result.status.code if result.status else None,
        "enhanced_code": result.status.enhanced if result.status else None,
        "reason": result.reason,
        "confirmation": result.confirmation,
        "queue_seconds": round(now - message.received_at, 3),
        "seconds": round(result.seconds, 3) if result.seconds >= 0 else None,
    }


def rejected(connection: Connection, what: str, text: str) -> Fields:
    """Return the fields of a refusal."""
    transaction = connection.transaction
    return {
        "what": what,
        "reason": text,
        "sender": (transaction.sender or "<>") if transaction else None,
        **origin_fields(connection.origin),
    }

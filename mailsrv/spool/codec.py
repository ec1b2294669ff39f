"""A message's envelope and header as octets, and back: exact for any octets in any field.

The form is JSON in latin-1.  Each string is preceded by ``!`` if it is marked
as chosen by a peer (:class:`Tainted`), else by ``=``: a string comes back
exactly as it was, mark included.  No length or separator can be forged by the
contents (CVE-2020-28015, -28021, -28026 were such faults).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from mailsrv.interfaces import HISTORY
from mailsrv.mail.header import Header
from mailsrv.mail.message import Body, Message, Recipient
from mailsrv.mail.origin import Origin
from mailsrv.mail.taint import Tainted

_ORIGIN = {field.name: getattr(Origin(), field.name) for field in fields(Origin)}  # defaults
_values = attrgetter(*_ORIGIN)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)
_dump = _ENCODER.encode


class Unreadable(Exception):
    """What the spool holds is no message: a damaged row or a row of another program."""


def pack(value: str) -> str:
    """Return a string with its mark in front."""
    if type(value) is not str and isinstance(value, Tainted):
        return "!" + value
    return "=" + value


def unpack(packed: str) -> str:
    """Return the string that :func:`pack` was given."""
    mark, value = packed[:1], packed[1:]
    if mark == "!":
        return Tainted(value)
    if mark == "=":
        return value
    raise Unreadable("a string without its mark")


def encode_envelope(message: Message) -> bytes:
    """Return all of a message but header, body and what changes while it is queued."""
    origin = message.origin
    facts: dict[str, Any] = {}
    for (name, default), value in zip(_ORIGIN.items(), _values(origin), strict=True):
        if value == default:  # an origin that is read has it anyway
            continue
        if isinstance(value, str):
            value = pack(value)
        elif isinstance(value, dict):
            value = {key: pack(text) for key, text in value.items()}
        facts[name] = value
    document = {
        "sender": pack(message.sender),
        "recipients": [_recipient(recipient) for recipient in message.recipients],
        "origin": facts,
        "8bit": message.body_8bitmime,
        "utf8": message.smtputf8,
        "ret": pack(message.ret),
        "envid": pack(message.envid),
        "acl_m": {key: pack(text) for key, text in message.acl_m.items()},
        "queue_only": message.queue_only,
    }
    return _dump(document).encode("latin-1")


def edited_envelope(envelope: bytes, sender: str | None, added: Sequence[Recipient]) -> bytes:
    """Return an envelope with another sender (None: the same), and with further recipients.

    :raises Unreadable: damaged.
    """
    try:
        document = json.loads(envelope.decode("latin-1"))
        known = {unpack(recipient[0]) for recipient in document["recipients"]}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise Unreadable(f"damaged envelope ({type(error).__name__})") from error
    if sender is not None:
        document["sender"] = pack(sender)
    for recipient in added:
        if recipient.address not in known:
            known.add(recipient.address)
            document["recipients"].append(_recipient(recipient))
    return _dump(document).encode("latin-1")


def encode_headers(headers: list[Header]) -> bytes:
    """Return header fields as octets."""
    return _dump([pack(header.text) for header in headers]).encode("latin-1")


def decode_recipients(envelope: bytes) -> tuple[str, tuple[str, ...]]:
    """Return sender and recipients of an envelope, for a listing.

    :raises Unreadable: damaged.
    """
    try:
        document = json.loads(envelope.decode("latin-1"))
        return unpack(document["sender"]), tuple(unpack(r[0]) for r in document["recipients"])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise Unreadable(f"damaged envelope: {error!r}") from error


def decode(
    id: str,
    envelope: bytes,
    headers: bytes,
    body: Body,
    *,
    done: frozenset[str],
    parts: frozenset[str],
    received_at: float,
    size: int,
    frozen_at: float,
    warned: int,
) -> Message:
    """Return the message that was encoded; its recipients are those not ``done``.

    :raises Unreadable: damaged.
    """
    try:
        document = json.loads(envelope.decode("latin-1"))
        lines = json.loads(headers.decode("latin-1"))
        recipients = [_from_recipient(packed) for packed in document["recipients"]]
        return Message(
            id=id,
            sender=unpack(document["sender"]),
            recipients=tuple(r for r in recipients if r.address not in done),
            origin=_from_origin(document["origin"]),
            headers=[Header(unpack(text)) for text in lines],
            body=body,
            received_at=received_at,
            body_8bitmime=int(document["8bit"]),
            smtputf8=bool(document["utf8"]),
            ret=unpack(document["ret"]),
            envid=unpack(document["envid"]),
            acl_m={key: unpack(text) for key, text in document["acl_m"].items()},
            size=size,
            frozen_at=frozen_at,
            delivered=done,
            parts=parts,
            queue_only=bool(document["queue_only"]),
            warned=warned,
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise Unreadable(f"damaged message: {error!r}") from error


def encode_done(addresses: tuple[str, ...] | list[str]) -> str:
    """Return one entry of the journal of what is done; entries are simply appended."""
    return json.dumps(addresses, separators=(",", ":")) + "\n" if addresses else ""


def decode_done(journal: str) -> frozenset[str]:
    """Return all that the journal's entries name.

    :raises Unreadable: damaged.
    """
    try:
        return frozenset(
            address for entry in journal.split("\n") if entry for address in json.loads(entry)
        )
    except (ValueError, TypeError) as error:
        raise Unreadable(f"damaged journal: {error!r}") from error


def whole_lines(history: str) -> str:
    """Return what is kept of a message's own log without a line that has lost its beginning."""
    return history if len(history) < HISTORY else history.partition("\n")[2]


def _recipient(recipient: Recipient) -> list[Any]:
    """Return a recipient; the rare parameters only if there are any."""
    plain = Recipient(recipient.address)
    if recipient == plain:
        return [pack(recipient.address)]
    errors_to = None if recipient.errors_to is None else pack(recipient.errors_to)
    packed = [
        pack(recipient.address),
        sorted(pack(word) for word in recipient.notify),
        pack(recipient.orcpt),
        errors_to,
    ]
    return [*packed, pack(recipient.parent)] if recipient.parent else packed


def _from_recipient(packed: list[Any]) -> Recipient:
    if len(packed) == 1:
        return Recipient(unpack(packed[0]))
    address, notify, orcpt, errors_to, *parent = packed
    return Recipient(
        unpack(address),
        frozenset(unpack(word) for word in notify),
        unpack(orcpt),
        None if errors_to is None else unpack(errors_to),
        unpack(parent[0]) if parent else "",
    )


def _from_origin(document: dict[str, Any]) -> Origin:
    """Return an origin; fields that a later version added keep their defaults."""
    origin = Origin()
    for name in _ORIGIN:
        if name in document:
            value = document[name]
            if isinstance(value, str):
                value = unpack(value)
            elif isinstance(value, dict):
                value = {key: unpack(text) for key, text in value.items()}
            setattr(origin, name, value)
    return origin

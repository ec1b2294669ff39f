"""BATV's tags: ``prvs`` and ``prvscheck`` (specification 11.5, 44.53)."""

from __future__ import annotations

import hashlib
import hmac
import re

from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.items import item
from mailsrv.expansion.parse import Parser
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.tree import Lazy, Node, any_waits, evaluate
from mailsrv.mail.taint import like

_TAGGED = re.compile(r"prvs=([0-9])([0-9]{3})([A-F0-9]{6})=(.+)@(.+)\Z", re.I | re.A)
_DAY = 86400
_VALID_DAYS = 7


def _tag(address: str, secret: str, number: str, day: str) -> str:
    """Six hexadecimal digits: the start of an HMAC-SHA1 of key number, day and address."""
    text = f"{number}{day}{address}".encode("latin-1")
    return hmac.new(secret.encode("latin-1"), text, hashlib.sha1).hexdigest()[:6]


@item("prvs")
def _prvs(parser: Parser) -> Node:
    nodes = parser.arguments(2, 3, "prvs")

    async def run(scope: Scope) -> str:
        values = [await evaluate(node, scope) for node in nodes]
        address, secret = values[:2]
        number = values[2] if len(values) > 2 else "0"
        local_part, at, domain = address.rpartition("@")
        if not at or not local_part:
            raise ExpansionError("prvs first argument must be a qualified email address")
        if not re.fullmatch("[0-9]", number):
            raise ExpansionError("prvs third argument must be a single digit")
        day = f"{(int(scope.services.clock.seconds()) // _DAY + _VALID_DAYS) % 1000:03}"
        tag = _tag(address, secret, number, day)
        return like(f"prvs={number}{day}{tag}={local_part}@{domain}", *values)

    return Lazy(run, waits=any_waits(*nodes))


@item("prvscheck")
def _prvscheck(parser: Parser) -> Node:
    nodes = parser.arguments(1, 1, "prvscheck", end=False)
    nodes += parser.arguments(1, 2, "prvscheck")

    async def run(scope: Scope) -> str:
        address = await evaluate(nodes[0], scope)
        match = _TAGGED.match(address)
        if match is None:
            return ""
        number, day, tag = match[1], match[2], match[3].lower()
        decoded = like(f"{match[4]}@{match[5]}", address)
        inner = scope.within({"prvscheck_address": decoded, "prvscheck_keynum": number})
        secret = await evaluate(nodes[1], inner)
        today = int(scope.services.clock.seconds()) // _DAY
        in_time = (int(day) - today) % 1000 <= _VALID_DAYS
        good = hmac.compare_digest(tag, _tag(decoded, secret, number, day)) and in_time
        result = "1" if good else ""
        if len(nodes) < 3:
            return decoded
        last = await evaluate(nodes[2], inner.within({"prvscheck_result": result}))
        return last or decoded

    return Lazy(run, waits=any_waits(*nodes))

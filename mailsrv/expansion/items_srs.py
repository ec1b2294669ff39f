"""SRS: ``srs_encode`` and the condition ``inbound_srs`` (specification 58.5)."""

from __future__ import annotations

import hmac
import re

from mailsrv.expansion.conditions import reads
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.items import item
from mailsrv.expansion.mailboxes import address_of
from mailsrv.expansion.parse import Parser
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.tree import Condition, Lazy, Node, Verdict, any_waits, evaluate
from mailsrv.mail.address import quoted, split, unquoted
from mailsrv.mail.case import lower
from mailsrv.mail.taint import like

_ENCODED = re.compile(r"(?i:SRS0)=([^=]+)=([A-Za-z2-7]{2})=([^=]*)=(.*)\Z", re.DOTALL)
_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_DAY = 86400
_DAYS = 1024  # the day's number is taken modulo this
_VALID_DAYS = 10


def _tag(address: str, secret: str) -> str:
    """Four hexadecimal digits: the start of an HMAC-MD5 of the address in lower case."""
    text = lower(address).encode("latin-1")
    return hmac.new(secret.encode("latin-1"), text, "md5").hexdigest()[:4]


def _today(scope: Scope) -> int:
    return int(scope.services.clock.seconds()) // _DAY % _DAYS


@item("srs_encode")
def _srs_encode(parser: Parser) -> Node:
    nodes = parser.arguments(3, 3, "srs_encode")

    async def run(scope: Scope) -> str:
        secret, sender, domain = [await evaluate(node, scope) for node in nodes]
        if not sender:
            return ""
        address = address_of(sender)
        if address is None:
            raise ExpansionError(f'malformed address "{sender}" for srs_encode')
        local_part, origin = split(address)
        day = _today(scope)
        stamp = _DIGITS[day >> 5] + _DIGITS[day & 31]
        tagged = f"SRS0={_tag(address, secret)}={stamp}={origin}={unquoted(local_part)}"
        return like(f"{quoted(tagged)}@{domain}", secret, sender, domain)

    return Lazy(run, waits=any_waits(*nodes))


@reads("inbound_srs")
def _inbound_srs(parser: Parser, name: str) -> Condition:
    """Whether a local part is encoded, by us and not long ago; without a secret, in its form only.

    ``$srs_recipient`` is the address that it stands for.
    """
    nodes: list[Node] = []
    parser.skip_space()
    while len(nodes) < 2:
        if parser.peek() != "{":
            raise ExpansionError(f"too few arguments or bracketing error for {name}")
        nodes.append(parser.braced())
        parser.skip_space()

    async def test(scope: Scope) -> Verdict:
        text, secret = [await evaluate(node, scope) for node in nodes]
        found = _ENCODED.match(text)
        if found is None:
            return False, scope
        tag, stamp, domain, local_part = found.groups()
        address = f"{quoted(local_part) if local_part else ''}@{domain}"
        if secret:
            right = _tag(address, secret).encode("ascii")
            if not hmac.compare_digest(tag.encode("latin-1"), right) or not _fresh(stamp, scope):
                return False, scope
        return True, scope.within({"srs_recipient": like(address, text)})

    return Condition(test, waits=any_waits(*nodes))


def _fresh(stamp: str, scope: Scope) -> bool:
    """Whether the two digits of a day are of one of the last ten."""
    if not set(stamp) <= set(_DIGITS):
        return False
    day = _DIGITS.index(stamp[0]) << 5 | _DIGITS.index(stamp[1])
    return (_today(scope) - day) % _DAYS <= _VALID_DAYS

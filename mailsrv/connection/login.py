"""AUTH (RFC 4954; specification chapter 33): the wire's side of an exchange."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from mailsrv.interfaces import AclPhase, AuthResult, AuthStep, IAuthExchange
from mailsrv.wire.command import Command
from mailsrv.wire.reply import reply
from mailsrv.wire.session import MAX_AUTH

if TYPE_CHECKING:
    from mailsrv.connection.dialogue import Dialogue

_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_MAX_FAILURES = 10  # failed attempts before the connection is closed
_MAX_STEPS = 20  # answers within one exchange


def decode(text: bytes) -> bytes | None:
    """Decode base64 strictly (RFC 4648 3): no other octet, full padding; None if it is none."""
    if _BASE64.fullmatch(text) is None:
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    # Bits that the padding hides must be zero: one text for one value.
    return raw if base64.b64encode(raw) == text else None


async def begin(session: Dialogue, command: Command) -> None:
    """AUTH mechanism [initial response]."""
    connection, origin = session.connection, session.connection.origin
    if not session.mechanisms:
        session.protocol_error(503, "AUTH command used when not advertised")
        return
    if origin.authenticator:
        session.protocol_error(503, "already authenticated")
        return
    if connection.transaction is not None:
        session.protocol_error(503, "not permitted in mail transaction")
        return
    name, _, initial = command.argument.partition(" ")
    verdict = await session.parts.policy.check(AclPhase.AUTH, connection, name)
    if session.refused(verdict, f"AUTH {name[:64]}"):
        return
    mechanism = name.upper()
    exchange = None
    if mechanism in session.mechanisms:
        exchange = await session.parts.authentication.begin(mechanism, connection)
    if exchange is None:
        session.protocol_error(504, f"{name[:64]} authentication mechanism not supported")
        return
    initial = initial.strip(" ")
    response: bytes | None = None
    if initial:
        # "=" is an initial response of no octets (RFC 4954 4).
        response = b"" if initial == "=" else decode(initial.encode("latin-1"))
        if response is None:
            exchange.cancel()
            session.protocol_error(501, "Invalid base64 data", syntax=True)
            return
    session.exchange = exchange
    session.login_steps = 0
    await _step(session, exchange, response)


async def proceed(session: Dialogue, line: bytes) -> None:
    """A line of the client within an exchange."""
    exchange = session.exchange
    assert exchange is not None, "called in an exchange only"
    if line == b"*":
        session.stop_exchange()
        if session.parts.log.selected("smtp_protocol_error"):
            session.parts.log.main(f"authenticator cancelled authentication H={session.host}")
        session.say(501, "Authentication cancelled")
        return
    response = decode(line)
    session.login_steps += 1
    if response is None or session.login_steps > _MAX_STEPS:
        session.stop_exchange()
        session.protocol_error(501, "Invalid base64 data", syntax=True)
        return
    await _step(session, exchange, response)


async def _step(session: Dialogue, exchange: IAuthExchange, response: bytes | None) -> None:
    step = await exchange.step(response)
    if step.result is AuthResult.CONTINUE:
        session.channel.input.longest = MAX_AUTH
        session.say(334, base64.b64encode(step.challenge).decode("ascii"))
        return
    session.exchange = None
    session.stop_exchange()
    if step.result is AuthResult.SUCCESS:
        origin = session.connection.origin
        origin.authenticator = step.authenticator
        origin.authenticated_id = step.authenticated_id
        session.connection.authentication_failed = False
        session.name_protocol()
        session.say(235, "Authentication succeeded")
    elif step.result is AuthResult.UNAVAILABLE:
        _log(session, step, "435 Unable to authenticate at present")
        session.say(454, "Temporary authentication failure")
    elif step.result is AuthResult.MALFORMED:
        session.protocol_error(501, "Invalid base64 data", syntax=True)
    else:
        _failed(session, step)


def _failed(session: Dialogue, step: AuthStep) -> None:
    session.connection.authentication_failed = True
    session.login_failures += 1
    _log(session, step, "535 Incorrect authentication data")
    if session.login_failures < _MAX_FAILURES:
        session.say(535, "Incorrect authentication data")
        return
    session.parts.log.main(f"too many failed authentications: {session.host} dropped")
    session.end(reply(535, "Incorrect authentication data"), "bad-commands")


def _log(session: Dialogue, step: AuthStep, text: str) -> None:
    """Write Exim's line, which fail2ban's stock filter reads."""
    reason = f" ({step.reason})" if step.reason else ""
    session.parts.log.main(
        f"{step.authenticator} authenticator failed for {session.host}: {text}{reason}"
    )

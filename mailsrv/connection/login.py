"""AUTH (RFC 4954; specification chapter 33): the wire's side of an exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.interfaces import AclPhase, AuthResult, AuthStep, IAuthExchange
from mailsrv.wire import sasl
from mailsrv.wire.command import Command
from mailsrv.wire.reply import reply
from mailsrv.wire.session import MAX_AUTH

if TYPE_CHECKING:
    from mailsrv.connection.dialogue import Dialogue

_MAX_FAILURES = 10  # failed attempts before the connection is closed
_MAX_STEPS = 20  # answers within one exchange

_INCORRECT = "Incorrect authentication data"
_MALFORMED = "Invalid base64 data"


async def begin(session: Dialogue, command: Command) -> None:
    """AUTH mechanism [initial response]."""
    connection, origin = session.connection, session.connection.origin
    if not session.mechanisms and connection.auth_unadvertised:
        session.mechanisms = await session.parts.authentication.advertised(connection)
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
    session.exchange = exchange
    connection.mechanism = mechanism
    session.login_steps = 0
    response: bytes | None = None
    if initial := initial.strip(" "):
        try:
            response = sasl.decode_initial(initial.encode("latin-1"))
        except sasl.SaslError:
            _malformed(session)
            return
    await _step(session, exchange, response)


async def proceed(session: Dialogue, line: bytes) -> None:
    """A line of the client within an exchange."""
    exchange = session.exchange
    assert exchange is not None, "called in an exchange only"
    if line == sasl.CANCEL:
        session.stop_exchange()
        if session.parts.log.selected("smtp_protocol_error"):
            session.parts.log.main(f"authenticator cancelled authentication H={session.host}")
        session.say(501, "Authentication cancelled")
        return
    session.login_steps += 1
    try:
        response = sasl.decode(line)
    except sasl.SaslError:
        _malformed(session)
        return
    if session.login_steps > _MAX_STEPS:
        _malformed(session)
        return
    await _step(session, exchange, response)


def _malformed(session: Dialogue) -> None:
    session.stop_exchange()
    session.protocol_error(501, _MALFORMED, syntax=True)


async def _step(session: Dialogue, exchange: IAuthExchange, response: bytes | None) -> None:
    step = await exchange.step(response)
    if step.result is AuthResult.CONTINUE:
        session.channel.input.longest = MAX_AUTH
        session.say(334, sasl.encode(step.challenge).decode("ascii"))
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
        # RFC 4954 4.7.3 has 454 for this; the log line is Exim's, with its 435.
        _log(session, step, "435 Unable to authenticate at present")
        told = f": {step.text}" if step.text else ""
        session.say(454, f"Temporary authentication failure{told}")
    elif step.result is AuthResult.MALFORMED:
        _log(session, step, f"501 {_MALFORMED}")
        session.protocol_error(501, step.text or _MALFORMED, syntax=True)
    else:
        _failed(session, step)


def _failed(session: Dialogue, step: AuthStep) -> None:
    session.connection.authentication_failed = True
    session.login_failures += 1
    _log(session, step, f"535 {_INCORRECT}")
    text = step.text or _INCORRECT
    if session.login_failures < _MAX_FAILURES:
        session.say(535, text)
        return
    session.parts.log.main(f"too many failed authentications: {session.host} dropped")
    session.end(reply(535, text), "bad-commands")


def _log(session: Dialogue, step: AuthStep, text: str) -> None:
    """Write Exim's line, which fail2ban's stock filter reads, to the main and the reject log."""
    whom = f" (set_id={step.authenticated_id})" if step.authenticated_id else ""
    # The filter knows nothing behind set_id: the reason of a refusal has a line of its own.
    refused = step.result is AuthResult.FAILURE
    why = f": {step.reason}" if step.reason and not refused else ""
    failed = f"{step.authenticator} authenticator failed for {session.host}"
    session.parts.log.main(f"{failed}: {text}{whom}{why}", rejection=True)
    if step.reason and refused:
        session.parts.log.main(f"{step.authenticator} authenticator: {step.reason}{whom}")

"""HELO, EHLO, LHLO and STARTTLS: who the client is, and what it is offered (chapters 14, 43)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.connection.greeting import look_up_host
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.hostname import same_address
from mailsrv.expansion.lists import match_domain
from mailsrv.interfaces import AclPhase
from mailsrv.wire.command import Command, helo_is_valid

if TYPE_CHECKING:
    from mailsrv.connection.dialogue import Dialogue


async def hello(session: Dialogue, command: Command) -> None:
    """HELO, EHLO or LHLO: begin anew, with the extensions for this client."""
    connection, origin = session.connection, session.connection.origin
    name = command.argument
    if not await _is_acceptable(session, name):
        session.parts.log.main(
            f"rejected {command.verb} from {session.host}: syntactically invalid argument(s): "
            f"{name or '(no argument given)'}",
            rejection=True,
        )
        session.protocol_error(
            501, f"Syntactically invalid {command.verb} argument(s)", syntax=True, logged=True
        )
        return
    origin.helo_name = name
    origin.helo_verified = False
    await _look_up_suspect(session)
    if await _does_not_verify(session):
        return
    verdict = await session.parts.policy.check(AclPhase.HELO, connection)
    if session.refused(verdict, "LHLO" if connection.lmtp else "EHLO or HELO"):
        origin.helo_name = ""
        connection.helo_seen = False
        return
    session.drop_message()
    session.offer_nothing()
    connection.helo_seen = True
    connection.esmtp = command.verb != "HELO"
    session.name_protocol()
    lines = [_salutation(session) if verdict.status is None else verdict.status.text]
    if connection.esmtp:
        lines += await _extensions(session)
    session.say(250, "\n".join(lines))


async def _is_acceptable(session: Dialogue, name: str) -> bool:
    settings = session.parts.settings
    if helo_is_valid(name, settings.helo_allow_chars or ""):
        return True
    hosts = settings.helo_accept_junk_hosts
    return bool(name) and await session.parts.listed(hosts, session.connection)


def _salutation(session: Dialogue) -> str:
    connection, origin = session.connection, session.connection.origin
    if not origin.host_address:
        return f"{connection.active_hostname} Hello {origin.helo_name}"
    name = origin.host_name or origin.helo_name
    return f"{connection.active_hostname} Hello {name} [{origin.host_address}]"


async def _look_up_suspect(session: Dialogue) -> None:
    """Look up the name of a host that gives one of ``helo_lookup_domains``: ours, by default."""
    domains, origin = session.parts.settings.helo_lookup_domains, session.connection.origin
    if session.connection.host_lookup_done or origin.host_name or domains.constant == "":
        return
    scope = session.parts.scope(session.connection)
    if await match_domain(domains, origin.helo_name, scope) is not None:
        await look_up_host(session)


async def _does_not_verify(session: Dialogue) -> bool:
    """Check the name where the options ask for it; reply if it must verify and does not."""
    connection, parts = session.connection, session.parts
    must = await parts.listed(parts.settings.helo_verify_hosts, connection)
    if not must and not await parts.listed(parts.settings.helo_try_verify_hosts, connection):
        return False
    await _verify(session)
    if not must or connection.origin.helo_verified:
        return False
    parts.log.main(
        f'rejected "{connection.command} {connection.origin.helo_name}" from {session.host}',
        rejection=True,
    )
    connection.origin.helo_name = ""
    session.say(550, f"{connection.command} argument does not match calling host")
    return True


async def _verify(session: Dialogue) -> None:
    """The name verifies if it is the literal, the looked-up name, or leads to the address."""
    origin, resolver = session.connection.origin, session.parts.resolver
    name = origin.helo_name.lower()
    if name.startswith("["):
        literal = name.strip("[]").removeprefix("ipv6:")
        origin.helo_verified = same_address(literal, origin.host_address)
        return
    await look_up_host(session)
    if origin.host_name and origin.host_name.lower() == name:
        origin.helo_verified = True
    elif resolver is not None:
        try:
            found = await resolver.addresses(name)
        except TemporaryFailure:
            return
        origin.helo_verified = any(same_address(each, origin.host_address) for each in found)


async def _extensions(session: Dialogue) -> list[str]:
    """The keywords of EHLO, in Exim's order."""
    parts, connection = session.parts, session.connection
    settings, listed = parts.settings, parts.listed
    limit = session.message_size_limit
    lines = [f"SIZE {limit}" if limit else "SIZE"]
    if settings.accept_8bitmime:
        lines.append("8BITMIME")
    session.offers_dsn = await listed(settings.dsn_advertise_hosts, connection)
    if session.offers_dsn:
        lines.append("DSN")
    lines += [
        phase.name
        for phase in (AclPhase.ETRN, AclPhase.VRFY, AclPhase.EXPN)
        if parts.policy.configured(phase)
    ]
    session.offers_pipelining = not connection.no_pipelining and await listed(
        settings.pipelining_advertise_hosts, connection
    )
    if session.offers_pipelining:
        lines.append("PIPELINING")
    if connection.lmtp:  # RFC 2033 5
        lines.append("ENHANCEDSTATUSCODES")
    session.mechanisms = []
    if await listed(settings.auth_advertise_hosts, connection):
        session.mechanisms = await parts.authentication.advertised(connection)
    if session.mechanisms:
        lines.append(f"AUTH {' '.join(session.mechanisms)}")
    session.offers_chunking = await listed(settings.chunking_advertise_hosts, connection)
    if session.offers_chunking:
        lines.append("CHUNKING")
    session.offers_tls = (
        not connection.origin.tls_cipher
        and not connection.tls_on_connect
        and connection.caller is None
        and connection.origin.host_address != ""  # a Unix socket of this machine
        and parts.tls is not None
        and parts.tls.configured
        and await listed(settings.tls_advertise_hosts, connection)
    )
    if session.offers_tls:
        lines.append("STARTTLS")
    session.offers_utf8 = await listed(settings.smtputf8_advertise_hosts, connection)
    if session.offers_utf8:
        lines.append("SMTPUTF8")
    lines.append("HELP")
    return lines


async def starttls(session: Dialogue, command: Command) -> None:
    """STARTTLS: the session begins anew behind the handshake (``Dialogue.tls_started``)."""
    parts, connection = session.parts, session.connection
    if not session.offers_tls or parts.tls is None:
        session.protocol_error(503, "STARTTLS command used when not advertised")
        return
    verdict = await parts.policy.check(AclPhase.STARTTLS, connection)
    if session.refused(verdict, "STARTTLS"):
        return
    if not session.in_step(command):
        return
    try:
        context = await parts.tls.context(parts.scope(connection))
    except TemporaryFailure as failure:
        parts.log.main(f"TLS error on connection from {session.host}: {failure.reason}")
        session.say(454, "TLS currently unavailable")
        return
    session.drop_message()
    session.say(220, "TLS go ahead")
    session.channel.start_tls(context)

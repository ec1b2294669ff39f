"""A new connection: whether it is taken, and the greeting (specification 14, 44.4)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mailsrv.connection import wording
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.hostname import lookup_host_name
from mailsrv.expansion.template import Template
from mailsrv.interfaces import AclPhase
from mailsrv.mail.status import LOCAL_PROBLEM
from mailsrv.wire.reply import reply

if TYPE_CHECKING:
    from mailsrv.connection.dialogue import Dialogue


async def arrived(session: Dialogue, total: int) -> None:
    """Log a new connection; ``total`` are all connections, this one included."""
    parts = session.parts
    if not parts.log.selected("smtp_connection"):
        return
    quiet = await parts.listed(parts.settings.hosts_connection_nolog, session.connection)
    session.logs_connection = not quiet
    session.log_connection(f"(TCP/IP connection count = {total})")


async def greet(session: Dialogue, total: int, of_host: int) -> None:
    """Decide about a new connection, and greet it."""
    connection, parts = session.connection, session.parts
    settings = parts.settings
    connection.active_hostname = settings.primary_hostname or ""
    if await _refused_by_limits(session, total, of_host):
        return
    name = await parts.expand(settings.smtp_active_hostname, connection)
    connection.active_hostname = name or connection.active_hostname
    if await parts.listed(settings.host_lookup, connection):
        await look_up_host(session)
    if await parts.listed(settings.hosts_proxy, connection):
        # What it says of the client would be lost, and the client taken for the proxy.
        parts.log.main(
            f"refused connection from {session.host}: hosts_proxy is known to Exim, not to mailsrv",
            rejection=True,
        )
        session.end(reply(421, "Service not available"), "local-problem")
        return
    if await parts.listed(settings.host_reject_connection, connection):
        parts.log.main(
            f"refused connection from {session.host} (host_reject_connection)", rejection=True
        )
        session.end(reply(554, "SMTP service not available"), "connection-reject")
        return
    await read_options(session)
    verdict = await parts.policy.check(AclPhase.CONNECT, connection)
    if not verdict.accepted:
        session.log_refusal(verdict, 'connection in "connect" ACL')
        assert verdict.status is not None, "a refusal has its reply"
        status = verdict.status
        code = 450 if status.code == 451 and status == LOCAL_PROBLEM else status.code
        session.end(reply(code, status.text), "acl-drop")
        return
    if _talks_early(session):
        return
    if verdict.status is not None:
        banner = verdict.status.text
    else:
        banner = await parts.expand(settings.smtp_banner, connection)
    session.channel.write(reply(220, banner.strip("\n")))


async def look_up_host(session: Dialogue) -> None:
    """Look up the client's name, once; a failure is noted in the connection."""
    connection, parts = session.connection, session.parts
    try:
        await lookup_host_name(connection.origin, connection, parts.resolver, parts.log)
    except TemporaryFailure:
        pass  # the connection says that it was deferred; ACLs decide what that means


def _talks_early(session: Dialogue) -> bool:
    early = session.channel.sent_early()
    if not early or not session.enforces_sync():
        return False
    shown = early[:128].decode("latin-1")
    session.parts.log.main(
        "SMTP protocol synchronization error (input sent without waiting for greeting): "
        f'rejected connection from {session.host} input="{shown}"',
        rejection=True,
    )
    session.end(reply(554, "SMTP synchronization error"), "synchronization-error")
    return True


async def read_options(session: Dialogue) -> None:
    """Expand the options that hold for the whole connection."""
    settings = session.parts.settings
    session.message_size_limit = await _number(
        session, settings.message_size_limit, "message_size_limit"
    )
    session.messages_max = await _number(
        session, settings.smtp_accept_max_per_connection, "smtp_accept_max_per_connection"
    )
    text = await session.parts.expand(settings.smtp_receive_timeout, session.connection)
    try:
        session.receive_timeout = float(wording.seconds(text))
    except ValueError:
        raise TemporaryFailure(reason=f'bad value of smtp_receive_timeout: "{text}"') from None


async def _number(session: Dialogue, option: Template | None, name: str) -> int:
    text = await session.parts.expand(option, session.connection)
    try:
        return wording.number(text)
    except ValueError:
        raise TemporaryFailure(reason=f'bad value of {name}: "{text}"') from None


async def _refused_by_limits(session: Dialogue, total: int, of_host: int) -> bool:
    """Refuse with 421 what is above smtp_accept_max …, or comes at a load above the reserve."""
    why, text = await _exceeded(session, total, of_host)
    if not why:
        return False
    session.parts.log.main(f"Connection from {session.host} refused: {why}")
    session.end(reply(421, f"{text}; please try again later."), "")
    return True


async def _exceeded(session: Dialogue, total: int, of_host: int) -> tuple[str, str]:
    """Return the log's and the client's words for the limit that is exceeded, or two ""."""
    parts, settings = session.parts, session.parts.settings
    limit = settings.smtp_accept_max or parts.file_limit
    reserve = settings.smtp_accept_reserve if settings.smtp_accept_max else 0
    load_limit = settings.smtp_load_reserve
    load = 0.0 if load_limit is None else os.getloadavg()[0]
    crowded = bool(limit) and total > limit - reserve
    heavy = load_limit is not None and load > load_limit
    favoured = (crowded or heavy) and await parts.listed(
        settings.smtp_reserve_hosts, session.connection
    )
    if (limit and total > limit) or (crowded and not favoured):
        return "too many connections", "Too many concurrent SMTP connections"
    if heavy and not favoured:
        return f"load average = {load:.2f}", "Too much load"
    most = await _number(session, settings.smtp_accept_max_per_host, "smtp_accept_max_per_host")
    if most and session.connection.origin.host_address and of_host > most:
        return (
            "too many connections from that IP address",
            "Too many concurrent SMTP connections from this IP address",
        )
    return "", ""

"""MAIL and RCPT: the envelope of a message (RFC 5321 4.1.1.2, 4.1.1.3; chapter 45.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.connection import pace
from mailsrv.connection.local.sender import permitted
from mailsrv.connection.parts import Parts
from mailsrv.interfaces import AclPhase, Action, Verdict
from mailsrv.mail.message import Recipient, Transaction
from mailsrv.mail.taint import Tainted
from mailsrv.wire import command as wire
from mailsrv.wire.command import Command, Path, SyntaxProblem
from mailsrv.wire.reply import from_status, reply

if TYPE_CHECKING:
    from mailsrv.connection.dialogue import Dialogue

_MOST_PERCENTS = 5  # that are followed in one address
_POSTMASTER = "postmaster"


async def mail(session: Dialogue, command: Command) -> None:
    """MAIL FROM: begin a message."""
    connection, parts = session.connection, session.parts
    if not connection.helo_seen and await parts.listed(
        parts.settings.hosts_require_helo, connection
    ):
        given, wanted = ("LHLO",) * 2 if connection.lmtp else ("HELO/EHLO", "HELO or EHLO")
        parts.log.main(f"rejected MAIL from {session.host}: no {given} given", rejection=True)
        session.protocol_error(503, f"{wanted} required")
        return
    if connection.transaction is not None:
        session.protocol_error(503, "sender already given")
        return
    if not command.argument:
        session.protocol_error(501, "MAIL must have an address operand", syntax=True)
        return
    await pace.hold(session, "mail")
    limit = session.messages_max
    if limit and connection.messages_received >= limit:
        parts.log.main(f"too many messages in one connection from {session.host}")
        session.end(reply(421, "too many messages in this connection"), "")
        return
    transaction = session.begin_transaction()
    connection.submission, connection.queue_only = None, False
    connection.origin.authenticated_sender = ""
    try:
        path = read_path(session, await _rewritten(session, command, "sender"))
        transaction.sender = await _sender(session, path)
        if connection.caller is not None:
            wanted = transaction.sender
            transaction.sender = await permitted(parts, connection, wanted, smtp=True)
        for name, value in path.parameters:
            _mail_parameter(session, transaction, name, value, path)
        session.name_protocol()
        if not await _believes_authenticated_sender(session):
            return
        _check_octets(transaction.sender, transaction.smtputf8)
    except SyntaxProblem as problem:
        session.drop_message()
        session.protocol_error(problem.code, problem.text, syntax=True)
        return
    size = transaction.declared_size
    if session.message_size_limit and size > session.message_size_limit:
        parts.log.rejected(
            connection,
            f"rejected MAIL FROM:<{transaction.sender}>",
            f"message too big: size={size} max={session.message_size_limit}",
        )
        session.drop_message()
        session.say(552, "Message size exceeds maximum permitted")
        return
    if not has_room(parts, size if parts.settings.smtp_check_spool_space else 0):
        parts.log.main("SMTP message refused: space or inodes short in the spool")
        session.drop_message()
        session.say(452, "Space shortage, please try later")
        return
    verdict = await parts.policy.check(AclPhase.MAIL, connection)
    if session.refused(verdict, f"MAIL <{transaction.sender}>"):
        session.drop_message()
        return
    if verdict.action is Action.DISCARD:
        transaction.discarded = True
        session.discard_reason = verdict.log_message
    if verdict.status is not None:
        session.channel.write(from_status(verdict.status))
    else:
        session.say(250, "OK")


async def _rewritten(session: Dialogue, command: Command, what: str) -> str:
    """Return the argument of MAIL (``sender``) or RCPT (``recipient``), rewritten (31.9)."""
    rewriter = session.parts.rewriter
    if not rewriter.active:
        return command.argument
    return await rewriter.smtp(command.argument, what, session.parts.scope(session.connection))


def read_path(session: Dialogue, argument: str) -> Path:
    """Read the argument of MAIL, RCPT or VRFY as the options about addresses say."""
    if session.parts.settings.strip_excess_angle_brackets:
        argument = wire.without_excess_brackets(argument)
    if session.parts.settings.strip_trailing_dot:
        argument = wire.without_final_dot(argument)
    return wire.parse_path(argument)


async def _believes_authenticated_sender(session: Dialogue) -> bool:
    """Decide about AUTH= on MAIL (33.2): what is not believed is forgotten, and logged.

    False: the ACL deferred, and the reply was given.
    """
    connection, parts = session.connection, session.parts
    origin = connection.origin
    given = origin.authenticated_sender
    if not given:
        return True
    why = ""
    if parts.policy.configured(AclPhase.MAILAUTH):
        verdict = await parts.policy.check(AclPhase.MAILAUTH, connection)
        if verdict.action is Action.DEFER:
            session.refused(verdict, f"AUTH={given[:256]}")
            session.drop_message()
            return False
        why = "" if verdict.accepted else "rejected by ACL"
    elif not origin.authenticator:
        why = "client not authenticated"
    if not why and origin.authenticator:
        kept = await parts.authentication.keeps_mail_auth(connection)
        why = "" if kept else "server_mail_auth_condition failed"
    if why:
        origin.authenticated_sender = ""
        parts.log.main(f"ignoring AUTH={given[:256]} from {session.host} ({why})")
    return True


async def _sender(session: Dialogue, path: Path) -> Tainted:
    address = path.address
    if not address:
        return address
    _check_literal(session, path)
    if not path.qualified:
        listed = session.parts.listed
        settings = session.parts.settings
        if session.connection.caller is None and not await listed(
            settings.sender_unqualified_hosts, session.connection
        ):
            raise SyntaxProblem(f"{path.shown}: sender address must contain a domain")
        return Tainted(f"{address}@{settings.qualify_domain}")
    return address


def _check_literal(session: Dialogue, path: Path) -> None:
    if path.address.endswith("]") and not session.parts.settings.allow_domain_literals:
        raise SyntaxProblem(f"{path.shown}: domain literals not allowed")


def _check_octets(address: str, utf8: bool) -> None:
    """Octets above 127 need SMTPUTF8, and must be UTF-8 (RFC 6531 3.5, 3.3)."""
    if wire.is_ascii(address):
        return
    if not utf8:
        raise SyntaxProblem("no support for internationalised mailbox name", 533)
    if not wire.is_utf8(address):
        raise SyntaxProblem(f"<{address[:256]}>: malformed address: no UTF-8")


def _mail_parameter(
    session: Dialogue,
    transaction: Transaction,
    name: str,
    value: Tainted | None,
    path: Path,
) -> None:
    """Take one parameter of MAIL; one that was not offered is refused as Exim does."""
    esmtp = session.connection.esmtp
    if name == "SIZE" and esmtp:
        transaction.declared_size = wire.parse_size(value)
    elif name == "BODY" and session.parts.settings.accept_8bitmime and esmtp:
        transaction.body_8bitmime = wire.parse_body(value)
    elif name == "AUTH" and esmtp:
        session.connection.origin.authenticated_sender = wire.parse_mail_auth(value)
    elif name == "RET" and session.offers_dsn:
        transaction.ret = wire.parse_ret(value)
    elif name == "ENVID" and session.offers_dsn:
        transaction.envid = wire.parse_envid(value)
    elif name == "SMTPUTF8" and session.offers_utf8 and value is None:
        transaction.smtputf8 = True
    else:
        raise wire.unknown_parameter(path, name, value)


async def rcpt(session: Dialogue, command: Command) -> None:
    """RCPT TO: add a recipient."""
    connection, parts = session.connection, session.parts
    transaction = connection.transaction
    if transaction is None:
        session.refused_rcpt = None
        session.protocol_error(503, "sender not yet given")
        return
    if not command.argument:
        session.protocol_error(501, "RCPT must have an address operand", syntax=True)
        return
    await pace.hold(session, "rcpt")
    transaction.recipients_seen += 1
    try:
        recipient = await _recipient(session, command, transaction)
    except SyntaxProblem as problem:
        transaction.recipients_refused += 1
        _remember(session, transaction, reply(problem.code, problem.text))
        session.protocol_error(problem.code, problem.text, syntax=True)
        return
    most = parts.settings.recipients_max
    if most and len(transaction.recipients) >= most:
        _too_many(session, transaction)
        return
    if transaction.discarded:  # then the ACL has no say about recipients any more
        verdict = Verdict(Action.DISCARD, log_message=session.discard_reason)
    else:
        verdict = await parts.policy.check(AclPhase.RCPT, connection, recipient.address)
    if session.refused(verdict, f"RCPT <{recipient.address}>"):
        if verdict.action is Action.DEFER:
            transaction.recipients_deferred += 1
        else:
            transaction.recipients_refused += 1
        assert verdict.status is not None, "a refusal has its reply"
        _remember(session, transaction, from_status(verdict.status))
        return
    if verdict.action is Action.DISCARD:
        session.discarded_recipients = True
        transaction.recipients_refused += 1
        phase = "MAIL" if transaction.discarded else "RCPT"
        why = f": {verdict.log_message}" if verdict.log_message else ""
        parts.log.main(
            f"H={session.host} F=<{transaction.sender}> RCPT <{recipient.address}>: "
            f"discarded by {phase} ACL{why}",
            rejection=True,
        )
    else:
        transaction.recipients.append(recipient)
    transaction.recipients_taken += 1
    if verdict.status is not None:
        session.channel.write(from_status(verdict.status))
    else:
        session.say(250, "Accepted")


def _too_many(session: Dialogue, transaction: Transaction) -> None:
    reject = session.parts.settings.recipients_max_reject
    if transaction.recipients_seen == session.parts.settings.recipients_max + 1 + (
        transaction.recipients_refused + transaction.recipients_deferred
    ):
        # One line a message, not one for each of 10,000 recipients.
        word = "message rejected" if reject else "excess temporarily rejected"
        session.parts.log.main(
            f"too many recipients: {word}: sender=<{transaction.sender}> H={session.host}"
        )
    session.say(552 if reject else 452, "too many recipients")
    if reject:
        session.drop_message()


def _remember(session: Dialogue, transaction: Transaction, octets: bytes) -> None:
    """Keep the refusal for the answer to DATA, as long as all recipients had the same."""
    first = transaction.recipients_refused + transaction.recipients_deferred == 1
    if first:
        session.refused_rcpt = octets
    elif session.refused_rcpt != octets:
        session.refused_rcpt = None


async def _recipient(session: Dialogue, command: Command, transaction: Transaction) -> Recipient:
    path = read_path(session, await _rewritten(session, command, "recipient"))
    address = await recipient_address(session, path, utf8=transaction.smtputf8)
    notify: frozenset[str] = frozenset()
    orcpt = ""
    for name, value in path.parameters:
        if name == "NOTIFY" and session.offers_dsn:
            notify = wire.parse_notify(value)
        elif name == "ORCPT" and session.offers_dsn:
            orcpt = wire.parse_orcpt(value, transaction.smtputf8)
        else:
            raise wire.unknown_parameter(path, name, value)
    return Recipient(address, notify, orcpt)


async def recipient_address(session: Dialogue, path: Path, *, utf8: bool) -> Tainted:
    """Return the address of a recipient, with its domain.

    :raises SyntaxProblem: it is not acceptable here.
    """
    address = path.address
    if not address:
        raise SyntaxProblem(f"{path.shown}: missing or malformed local part")
    _check_literal(session, path)
    if not path.qualified:
        address = await _qualified(session, path)
    _check_octets(address, utf8)
    return await _without_percent(session, address)


async def _without_percent(session: Dialogue, address: Tainted) -> Tainted:
    """Return ``user@other`` for ``user%other@here`` if here is in percent_hack_domains."""
    domains = session.parts.settings.percent_hack_domains
    for _ in range(_MOST_PERCENTS):
        local_part, _, domain = address.rpartition("@")
        user, percent, other = local_part.rpartition("%")
        if domains is None or not percent or not user or not other:
            break
        if not await session.parts.in_domains(domains, domain, session.connection):
            break
        address = Tainted(f"{user}@{other}")
    return address


async def _qualified(session: Dialogue, path: Path) -> Tainted:
    """Add the domain to a recipient without one; <postmaster> is always taken (RFC 5321 4.5.1)."""
    settings = session.parts.settings
    free = path.address.lower() == _POSTMASTER or session.connection.caller is not None
    if not free and not await session.parts.listed(
        settings.recipient_unqualified_hosts, session.connection
    ):
        raise SyntaxProblem(f"{path.shown}: recipient address must contain a domain")
    return Tainted(f"{path.address}@{settings.qualify_recipient}")


def has_room(parts: Parts, size: int) -> bool:
    """Tell whether the spool's disk has the room that check_spool_space asks for, and ``size``."""
    settings = parts.settings
    if not parts.spool_directory or not (settings.check_spool_space or settings.check_spool_inodes):
        return True
    space = settings.check_spool_space + size if settings.check_spool_space else 0
    now = parts.clock.seconds()
    return parts.disk.has(parts.spool_directory, now, space, settings.check_spool_inodes)

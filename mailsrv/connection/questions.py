"""VRFY, EXPN and ETRN: answered only as far as an ACL lets a client ask (chapter 44.13, 49)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.connection import envelope
from mailsrv.interfaces import AclPhase
from mailsrv.mail.taint import Tainted
from mailsrv.wire.command import Command, SyntaxProblem
from mailsrv.wire.reply import from_status

if TYPE_CHECKING:
    from mailsrv.connection.dialogue import Dialogue


async def vrfy(session: Dialogue, command: Command) -> None:
    """VRFY: tell whether an address is deliverable."""
    if not command.argument:
        session.say(501, "empty address")
        return
    if await _answered_by_acl(session, command):
        return
    parts = session.parts
    try:
        address = await _address(session, command)
    except SyntaxProblem as problem:
        session.say(problem.code, problem.text)
        return
    if parts.verifier is None:
        session.say(252, "Cannot VRFY user; try RCPT TO to attempt delivery")
        return
    routed = await parts.verifier.verify(address, session.connection)
    if routed.status is None:
        session.say(250, f"<{address}> is deliverable")
        return
    if routed.status.permanent:
        parts.log.main(f"VRFY failed for {command.argument[:256]} H={session.host}")
    session.say(550 if routed.status.permanent else 451, f"<{address}> {routed.status.text}")


async def expn(session: Dialogue, command: Command) -> None:
    """EXPN: tell what an address becomes; all that does not verify is 553, as in Exim."""
    if not command.argument:
        session.say(501, "missing address")
        return
    if await _answered_by_acl(session, command):
        return
    verifier = session.parts.verifier
    if verifier is None:
        session.say(252, "Cannot EXPN list; try RCPT TO to attempt delivery")
        return
    try:
        address = await _address(session, command, qualify=True)
    except SyntaxProblem:
        session.say(553, f"{command.argument[:256]} is undeliverable")
        return
    routed = await verifier.expand(address, session.connection)
    if routed.status is None:
        every = [*routed.addresses, *(each.address for each in routed.unrouted)]
        found = dict.fromkeys(each.address for each in every) or (address,)
        session.say(250, "\n".join(f"<{each}>" for each in found))
    elif routed.status.permanent:
        session.say(553, f"{address} is undeliverable")
    else:
        session.say(553, f"{address} cannot be resolved at this time")


async def etrn(session: Dialogue, command: Command) -> None:
    """ETRN: each deferred delivery has its own time, so there is no queue run to start."""
    if session.connection.transaction is not None:
        session.protocol_error(503, "ETRN is not permitted inside a transaction")
    elif not command.argument:
        session.say(501, "missing argument")
    elif not await _answered_by_acl(session, command):
        session.say(458, "Unable to queue messages for this node")


async def _address(session: Dialogue, command: Command, *, qualify: bool = False) -> Tainted:
    """Return the address that is asked for; ``qualify``: it may lack its domain.

    :raises SyntaxProblem: it is none.
    """
    path = envelope.read_path(session, command.argument)
    if path.parameters:
        raise SyntaxProblem(f"{command.argument[:256]}: malformed address")
    if qualify and path.address and not path.qualified:
        return Tainted(f"{path.address}@{session.parts.settings.qualify_recipient}")
    return await envelope.recipient_address(session, path, utf8=session.offers_utf8)


async def _answered_by_acl(session: Dialogue, command: Command) -> bool:
    """Run the command's ACL; reply if it refuses, or has a text of its own."""
    phase = AclPhase[command.verb]
    verdict = await session.parts.policy.check(phase, session.connection, command.argument)
    if session.refused(verdict, f"{command.verb} {command.argument[:256]}"):
        return True
    if verdict.status is None:
        return False
    session.channel.write(from_status(verdict.status))
    return True

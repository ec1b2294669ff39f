"""DATA and BDAT: may a message begin now (RFC 5321 4.1.1.4, RFC 3030; chapter 44.8)?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.connection import envelope
from mailsrv.connection.reception import Reception
from mailsrv.interfaces import AclPhase
from mailsrv.wire.command import Command, SyntaxProblem, parse_bdat
from mailsrv.wire.reply import reply

if TYPE_CHECKING:
    from mailsrv.connection.dialogue import Dialogue

_GO_AHEAD = 'Enter message, ending with "." on a line by itself'


async def data(session: Dialogue, command: Command) -> None:
    """DATA: what follows 354 is a message."""
    if _no_message_yet(session, "DATA"):
        return
    transaction = session.connection.transaction
    assert transaction is not None, "there are recipients, or it is discarded"
    verdict = await session.parts.policy.check(AclPhase.PREDATA, session.connection)
    if session.refused(verdict, "DATA"):
        return
    if not session.in_step(command) or not _has_room(session):
        return
    session.reception = Reception(session, transaction, chunked=False)
    session.say(354, _GO_AHEAD if verdict.status is None else verdict.status.text)
    session.channel.input.begin_data()


async def bdat(session: Dialogue, command: Command) -> None:
    """BDAT: what follows the command is a chunk, whatever the answer."""
    try:
        size, last = parse_bdat(command.argument)
    except SyntaxProblem as problem:
        session.drop_message()
        session.protocol_error(501, problem.text, syntax=True)
        return
    if session.reception is None and not await _may_begin_chunks(session, last):
        # All its octets are swallowed (RFC 3030 2): they are no commands.
        session.reception = None if session.finished else Reception.swallowing(session)
    if session.reception is not None:
        session.reception.begin_chunk(size, last)
        session.channel.input.begin_chunk(size)


async def _may_begin_chunks(session: Dialogue, last: bool) -> bool:
    if not session.offers_chunking:
        session.protocol_error(503, "BDAT command used when CHUNKING not advertised")
        return False
    if _no_message_yet(session, "BDAT"):
        return False
    verdict = await session.parts.policy.check(AclPhase.PREDATA, session.connection)
    transaction = session.connection.transaction
    assert transaction is not None, "it has recipients, or is discarded"
    copies = session.replies_to_message(transaction) if last else 1
    if session.refused(verdict, "DATA", copies=copies) or not _has_room(session, copies):
        return False
    session.reception = Reception(session, transaction, chunked=True)
    return True


def _no_message_yet(session: Dialogue, verb: str) -> bool:
    transaction = session.connection.transaction
    if transaction is not None and (
        transaction.recipients or transaction.discarded or session.discarded_recipients
    ):
        return False
    text = f"valid RCPT command must precede {verb}"
    if session.refused_rcpt is not None:
        lines = session.refused_rcpt.decode("latin-1").rstrip("\r\n").split("\r\n")
        text = "\n".join(["All RCPT commands were rejected with this error:", *lines, text])
    if session.offers_pipelining and session.last_was_rcpt:
        session.say(503, text)  # a client that pipelines could not know
    else:
        session.protocol_error(503, text)
    return True


def _has_room(session: Dialogue, copies: int = 1) -> bool:
    """Check the spool's disk before a message is taken (check_spool_space)."""
    if envelope.has_room(session.parts, 0):
        return True
    session.parts.log.main("SMTP message refused: space or inodes short in the spool")
    session.channel.write(reply(452, "Space shortage, please try later") * copies)
    return False

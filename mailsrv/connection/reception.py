"""A message on its way from the wire to the spool: DATA and BDAT (RFC 5321 4.1.1.4, RFC 3030).

Octets are handled in the pieces in which they come.  Once something is wrong
the rest of the message is read and thrown away, and the reply stands behind
its end.  Until the spool has stored a message, giving up leaves nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from mailsrv.connection.local.fixups import mended
from mailsrv.connection.submission import Submitter, message_id, qualified, submitted
from mailsrv.errors import MailFailure
from mailsrv.expansion.errors import ForcedFailure
from mailsrv.expansion.rewrite import RECIPIENT, SENDER
from mailsrv.expansion.template import Template
from mailsrv.interfaces import AclPhase, Action, IBodyWriter, Verdict
from mailsrv.mail import fixups
from mailsrv.mail.header import Header
from mailsrv.mail.message import Message, Transaction, counted_size
from mailsrv.wire.data import LineEnds
from mailsrv.wire.reply import from_status, reply
from mailsrv.wire.session import Piece

if TYPE_CHECKING:
    from mailsrv.connection.dialogue import Dialogue

_BARE = "message contains a CR or LF that is not part of CRLF, or a NUL"


class Reception:
    """One message; the session drops it when it is answered.

    ``phase`` is that of the ACL which sees it whole, ``after`` how the log calls it.
    """

    phase: ClassVar[AclPhase] = AclPhase.DATA
    after: ClassVar[str] = "after DATA"

    def __init__(self, session: Dialogue, transaction: Transaction, *, chunked: bool) -> None:
        self.session = session
        self.transaction = transaction
        self.chunked = chunked
        self._began = session.parts.clock.seconds()
        self.received = 0  # octets of the message, for the watch over slow clients too
        self.failure: bytes | None = None
        self._settings = session.parts.settings
        self._mends = self._settings.smtp_bare_newline == "mend"
        self._ends = LineEnds(mend=self._mends)
        self._head: bytes | None = b""  # None: the header is complete
        self._headers: list[Header] = []
        self._header_size = 0
        self._writer: IBodyWriter | None = None
        self._chunk_size = 0
        self._last_chunk = not chunked
        self._silent = False  # the reply was given before the octets came
        self._ended = False
        self._chunk_over = False

    @classmethod
    def swallowing(cls, session: Dialogue) -> Reception:
        """Take a chunk that was refused: its octets are no commands."""
        result = cls(session, Transaction(), chunked=True)
        result.failure = b""
        result._silent = True
        return result

    def begin_chunk(self, size: int, last: bool) -> None:
        """The next octets are a chunk of ``size`` octets."""
        self._chunk_size, self._last_chunk = size, last

    def fail(self, octets: bytes) -> None:
        """Refuse the message: now if its end, or the chunk's, has come, else behind it."""
        self._discard_body()
        if self._ended:
            self.session.message_done()
            self._answer(octets)
            return
        if self.failure is None:
            self.failure = octets
        if self._chunk_over:
            self._chunk_done()

    def abort(self) -> None:
        """Forget the message."""
        self._discard_body()
        self._head = None

    def _discard_body(self) -> None:
        if self._writer is not None:
            self._writer.abort()
            self._writer = None

    def _answer(self, octets: bytes) -> None:
        """Reply to the whole message."""
        session = self.session
        session.channel.write(octets * session.replies_to_message(self.transaction))

    # --- octets --------------------------------------------------------------

    async def piece(self, piece: Piece) -> None:
        """Take the next octets, and answer if they are the last."""
        self.received += len(piece.data)
        self._ended = piece.last and self._last_chunk
        self._chunk_over = piece.last and not self._last_chunk
        if self.failure is None:
            data = self._ends.feed(piece.data)
            if self._ended:
                data += self._ends.finish()
            await self._content(data)
        if self._chunk_over:
            self._chunk_done()
        elif self._ended:
            await self._end()

    def _chunk_done(self) -> None:
        if self.failure is None:
            self.session.say(250, f"{self._chunk_size} byte chunk received")
            return
        # After an error only RSET helps (RFC 3030 2); further chunks are swallowed.
        session, silent, failure = self.session, self._silent, self.failure
        session.drop_message()
        if not silent:
            session.channel.write(failure)

    async def _content(self, data: bytes) -> None:
        limit = self.session.message_size_limit
        if limit and self.received > limit:
            self._log_rejected("message too big", f"read={self.received} max={limit}")
            self.fail_later(552, "Message size exceeds maximum permitted")
            return
        if self._ends.bad and not self._mends:
            self._log_rejected("rejected", _BARE)
            self.fail_later(550, _BARE)
            return
        if self._head is not None:
            data = self._header(data)
        if data and self.failure is None:
            await self._write(data)

    def fail_later(self, code: int, text: str) -> None:
        """Refuse the message behind its end, which may have come already."""
        self._discard_body()
        if self.failure is None:
            self.failure = reply(code, text)

    async def _write(self, data: bytes) -> None:
        if self._writer is None:
            self._writer = self.session.parts.spool.new_body()
        waiting = self._writer.write(data)
        if waiting is not None:
            await waiting

    # --- header --------------------------------------------------------------

    def _header(self, data: bytes) -> bytes:
        """Take octets of the header; return those of the body behind it."""
        assert self._head is not None, "called within the header"
        start = max(0, len(self._head) - 3)
        head = self._head + data
        most = self._settings.header_maxsize
        if head.startswith(b"\r\n"):
            self._head = None
            return head[2:]
        end = head.find(b"\r\n\r\n", start)
        if end >= 0:
            rest = self._split(head[:end], head[end + 4 :])
        elif self._ended:
            rest = self._split(head.removesuffix(b"\r\n"), None)
        elif len(head) > most:
            # Perhaps it is a body without a header: then its first line that is none ends it.
            whole = head.rfind(b"\r\n")
            headers, _ = fixups.split_header(_text(head[: max(whole, 0)]))
            size = sum(len(header.text) for header in headers)
            if size >= most or whole < 0 or size + len(headers) >= len(_text(head[:whole])):
                self._too_long("Message header is ridiculously long")
                return b""
            rest = self._split(head[:whole], None) + head[whole + 2 :]
        else:
            self._head = head
            return b""
        self._head = None
        if self._header_size > most:
            self._too_long("Message header is ridiculously long")
        return rest

    def _split(self, head: bytes, body: bytes | None) -> bytes:
        """Keep the header fields; from the first line that is none on, it is body."""
        self._header_size = len(head)
        self._headers, rest = fixups.split_header(_text(head))
        longest = self._settings.header_line_maxsize
        if longest and any(len(header.text) > longest for header in self._headers):
            self._too_long("A message header line is too long")
        if not rest:
            return body or b""
        before = rest.encode("latin-1").replace(b"\n", b"\r\n") + b"\r\n"
        return before if body is None else before + b"\r\n" + body

    def _too_long(self, text: str) -> None:
        most = self._settings.header_maxsize
        self.session.parts.log.main(
            f"ridiculously long message header received from {self.session.host} "
            f"(more than {most} characters): message abandoned"
        )
        self.fail_later(552, text)

    # --- the end of data -------------------------------------------------------

    async def _end(self) -> None:
        session = self.session
        if self._silent:
            session.reception = None
            return
        if self.failure is None:
            await self._accept()
        if self.failure is not None:
            failure = self.failure
            session.message_done()
            self._answer(failure)

    async def _accept(self) -> None:
        session, transaction, settings = self.session, self.transaction, self._settings
        parts, connection = session.parts, session.connection
        transaction.id = self.new_id()
        transaction.received_at = parts.clock.seconds()
        if self._writer is None:
            self._writer = parts.spool.new_body()
        hops = sum(header.called("Received") for header in self._headers)
        if hops > settings.received_headers_max:
            self._log_rejected("rejected", 'Too many "Received" headers - suspected mail loop')
            self.fail_later(550, 'Too many "Received" headers - suspected mail loop')
            return
        headers = fixups.without_local_fields(
            self._headers,
            return_path=settings.return_path_remove,
            envelope_to=settings.envelope_to_remove,
            delivery_date=settings.delivery_date_remove,
        )
        headers = await self._rewritten(await self._mended(headers))
        transaction.headers = fixups.with_received(headers, await self._received())
        transaction.body = await self._writer.finish()
        transaction.size = counted_size(self._headers, transaction.body)
        self._take_acl_headers()
        if transaction.discarded or not transaction.recipients:
            self._thrown_away("MAIL" if transaction.discarded else "RCPT")
            return
        verdict = await parts.policy.check(self.phase, connection)
        copies = session.replies_to_message(transaction)
        if session.refused(verdict, self.after, copies=copies):
            self._discard_body()
            session.message_done()
            return
        self._take_acl_headers()
        if verdict.action is Action.DISCARD:
            self._thrown_away("DATA", verdict)
            return
        if session.gone:  # whatever ran meanwhile took no notice: the body is given up
            self._discard_body()
            return
        message = self._message()
        await self._store(message)
        self._say_accepted(message.id, verdict)

    def new_id(self) -> str:
        """Draw the message's id."""
        return self.session.parts.next_id()

    def due(self, message: Message) -> float:
        """When the spool is to say that the message is due."""
        return self.session.parts.queue.first_attempt(message)

    def hand_over(self, message: Message) -> None:
        """The message is stored: it is the queue's."""
        self.session.parts.queue.submit(message)

    def _say_accepted(self, id: str, verdict: Verdict | None = None) -> None:
        feigned = self.transaction.feigned
        if feigned is not None:
            self._answer(from_status(feigned))
            return
        if verdict is not None and verdict.status is not None:
            self._answer(from_status(verdict.status))
            return
        if self.chunked:
            text = f" {self._chunk_size} byte chunk, total {self.received}\nOK id={id}"
        else:
            text = f"OK id={id}"
        self._answer(reply(250, text))

    async def _mended(self, headers: list[Header]) -> list[Header]:
        """Mend what a submission lacks (48.1), and qualify what this host may leave out (48.3)."""
        transaction, settings = self.transaction, self._settings
        connection, parts = self.session.connection, self.session.parts
        submission = transaction.submission or connection.submission
        if transaction.no_fixups and submission is None:
            return headers if connection.caller is None else self._qualified(headers)
        if connection.caller is not None and submission is None:
            return mended(
                headers,
                transaction.sender,
                connection.caller,
                settings,
                await self._message_id(),
                transaction.received_at,
                forced=True,
            )
        if submission is not None:
            headers, transaction.sender = submitted(
                headers,
                transaction.sender,
                submission,
                Submitter(
                    connection.origin.authenticated_id,
                    settings.qualify_domain or "",
                    await self._message_id(),
                    settings.local_from_prefix or "",
                    settings.local_from_suffix or "",
                ),
                transaction.received_at,
            )
        senders = await parts.listed(settings.sender_unqualified_hosts, connection)
        recipients = await parts.listed(settings.recipient_unqualified_hosts, connection)
        if not (senders or recipients):
            return headers
        return qualified(
            headers,
            settings.qualify_domain or "" if senders else "",
            settings.qualify_recipient or "" if recipients else "",
        )

    def _qualified(self, headers: list[Header]) -> list[Header]:
        settings = self._settings
        return qualified(headers, settings.qualify_domain or "", settings.qualify_recipient or "")

    async def _rewritten(self, headers: list[Header]) -> list[Header]:
        """Rewrite the envelope, then the header (31.2); what ACLs add comes later.

        Recipients come first: their rules see the sender as it came, and all see the header.
        """
        session, transaction = self.session, self.transaction
        rewriter = session.parts.rewriter
        if not rewriter.active:
            return headers
        scope = session.parts.scope(session.connection)
        transaction.headers = headers
        transaction.recipients[:] = [
            replace(each, address=await rewriter.address(each.address, RECIPIENT, scope))
            for each in transaction.recipients
        ]
        if not transaction.sender_rewritten:  # as it is once it was verified
            transaction.sender = await rewriter.address(transaction.sender, SENDER, scope)
        return await rewriter.headers(headers, scope)

    async def _message_id(self) -> str:
        settings, text = self._settings, self._unless_forced
        return message_id(
            self.transaction.id,
            await text(settings.message_id_header_domain) or settings.primary_hostname or "",
            await text(settings.message_id_header_text),
        )

    async def _unless_forced(self, template: Template | None) -> str:
        """Expand an option; "" if it is not set, or its expansion is forced to fail."""
        try:
            return await self.session.parts.expand(template, self.session.connection)
        except ForcedFailure:
            return ""

    async def _received(self) -> str:
        text = await self._unless_forced(self._settings.received_header_text)
        return fixups.stamp(text, self.transaction.received_at)

    def _take_acl_headers(self) -> None:
        """Do what the ACLs asked for so far with add_header and remove_header (44.24, 44.25)."""
        transaction = self.transaction
        if transaction.removed_headers:
            transaction.headers = fixups.without(transaction.headers, transaction.removed_headers)
            transaction.removed_headers = []
        if transaction.added_headers:
            transaction.headers = fixups.with_added(transaction.headers, transaction.added_headers)
            transaction.added_headers = []

    def _thrown_away(self, phase: str, verdict: Verdict | None = None) -> None:
        """Accept the message without keeping it; ``phase`` is that of the ACL that said so."""
        session, log = self.session, self.session.parts.log
        message = self._message()
        self._discard_body()
        why = f": {verdict.log_message}" if verdict is not None and verdict.log_message else ""
        log.received(message, seconds=message.received_at - self._began)
        log.main(f"=> blackhole ({phase} ACL discarded recipients){why}", message.id)
        log.completed(message)
        session.connection.messages_received += 1
        session.message_done()
        self._say_accepted(message.id, verdict)

    def _message(self) -> Message:
        transaction, connection = self.transaction, self.session.connection
        assert transaction.body is not None, "the body is complete"
        now = self.session.parts.clock.seconds()
        return Message(
            id=transaction.id,
            sender=transaction.sender,
            recipients=tuple(transaction.recipients),
            origin=connection.origin.snapshot(),
            headers=transaction.headers,
            body=transaction.body,
            received_at=transaction.received_at,
            body_8bitmime=transaction.body_8bitmime,
            smtputf8=transaction.smtputf8,
            ret=transaction.ret,
            envid=transaction.envid,
            acl_m=dict(transaction.acl_m),
            size=counted_size(transaction.headers, transaction.body),
            frozen_at=now if transaction.frozen else 0.0,
            no_tell=transaction.no_tell,
            queue_only=(transaction.queue_only or connection.queue_only or connection.only_queued),
        )

    async def _store(self, message: Message) -> None:
        """Make the message durable; from then on it is the queue's, whatever the client does."""
        session, parts = self.session, self.session.parts
        session.storing = True
        try:
            await parts.spool.store(message, self.due(message))
        except MailFailure:
            self._discard_body()
            raise
        finally:
            session.storing = False
        self._writer = None
        parts.log.received(message, seconds=message.received_at - self._began)
        self._log_delay(message)
        session.connection.messages_received += 1
        session.message_done()
        self.hand_over(message)

    def _log_delay(self, message: Message) -> None:
        """Log why the message is not delivered at once, if an ACL wants that."""
        log = self.session.parts.log
        if message.frozen_at:
            log.main("frozen by ACL", message.id)
        if message.queue_only and log.selected("delay_delivery"):
            log.main("no immediate delivery: queued by ACL", message.id)

    def _log_rejected(self, what: str, text: str) -> None:
        session = self.session
        session.parts.log.rejected(session.connection, f"{what} {self.after}", text, self._headers)


def _text(raw: bytes) -> str:
    return raw.decode("latin-1").replace("\r\n", "\n")

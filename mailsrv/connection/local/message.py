"""A message that comes without SMTP (specification 47, 5.2): options, then octets.

It is a session of its own kind: what is answered is one SMTP reply, which the
command turns into an exit status.  The message takes the same way to the spool
as all others (``connection/reception.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mailsrv.connection import envelope, greeting, wording
from mailsrv.connection.dialogue import Dialogue
from mailsrv.connection.local.fixups import mended, written
from mailsrv.connection.local.frames import Request
from mailsrv.connection.local.pretended import pretend
from mailsrv.connection.local.sender import own_address, permitted
from mailsrv.connection.parts import Parts
from mailsrv.connection.reception import Reception
from mailsrv.errors import MailFailure, PermanentFailure
from mailsrv.expansion.errors import ForcedFailure
from mailsrv.expansion.mailboxes import Bad, Malformed, Place, mailboxes, read_one
from mailsrv.expansion.regex import compile_regex, groups
from mailsrv.interfaces import AclPhase, Verdict
from mailsrv.mail.caller import Caller
from mailsrv.mail.case import lower
from mailsrv.mail.connection import Connection
from mailsrv.mail.header import Header, render
from mailsrv.mail.message import Body, Message, Recipient
from mailsrv.mail.origin import Origin
from mailsrv.mail.status import Status
from mailsrv.mail.taint import Tainted
from mailsrv.wire import command as wire
from mailsrv.wire.command import SyntaxProblem
from mailsrv.wire.data import LineEnds
from mailsrv.wire.reply import reply
from mailsrv.wire.session import Input, Piece

BAD_RECIPIENT = "Mail failure - malformed recipient address"
_SOME_BAD = (
    "A message that you sent contained one or more recipient addresses that were",
    "incorrectly constructed:",
    "",
)
_OTHERS_PASSED = (
    "This address has been ignored. The other addresses in the message were",
    "syntactically valid and have been passed on for an attempt at delivery.",
)
MOST_COPIED = 1 << 20  # octets of a message that is returned
LONGEST_FROM_LINE = 1000  # octets
MOST_TOLD = 20  # bad addresses that are named


def origin_of(caller: Caller, protocol: str, parts: Parts) -> Origin:
    """The origin of a local message: no host, the login name as ident."""
    return Origin(
        ident=caller.login,
        protocol=protocol,
        authenticated_id=caller.login,
        authenticated_sender=own_address(parts.settings, caller),
    )


class Replies:
    """Keeps the replies of a session (an ``IChannel`` without a connection)."""

    def __init__(self) -> None:
        self.input = Input()
        self.octets = b""

    def write(self, octets: bytes) -> None:
        """Keep a reply."""
        self.octets += octets

    def hang_up(self) -> None:
        """Nothing is connected."""

    def start_tls(self, context: Any) -> None:
        """Refuse: there is no TLS without SMTP."""
        raise TypeError("no TLS here")

    def sent_early(self) -> bytes:
        """Nothing is early."""
        return b""


class LocalMessage(Dialogue):
    """The reception of one message; ``answer`` has the reply when it is done.

    ``id`` is the message's id, if it is known before; ``hold`` are seconds for
    which the spool's own plan leaves it alone, so that the caller of
    :meth:`begin` can end their own record of it before it is delivered.
    """

    def __init__(
        self, parts: Parts, caller: Caller, request: Request, *, id: str = "", hold: float = 0.0
    ) -> None:
        self._replies = Replies()
        super().__init__(
            parts,
            Connection(
                origin_of(caller, "local-bsmtp" if request.batch else "local", parts), caller=caller
            ),
            self._replies,
        )
        self.caller = caller
        self.request = request
        self.given_id = id
        self.hold = hold
        self._wanted: str | None = None  # the sender that the caller wants
        self.bad: list[Bad] = []  # recipients in the header that are no addresses
        self.stored: Message | None = None  # in the spool; of one with ``hold`` the queue knows not

    @property
    def answer(self) -> bytes:
        """What is to be told: an SMTP reply; b"" while there is none."""
        return self._replies.octets

    @property
    def host(self) -> str:
        """The caller as log lines show it."""
        return wording.host(self.connection.origin)

    async def begin(self) -> None:
        """Read the options and ask ``acl_not_smtp_start``; a refusal is in :attr:`answer`."""
        try:
            await self._begin()
        except (MailFailure, SyntaxProblem) as failure:
            status = failure.status if isinstance(failure, MailFailure) else None
            code, text = (
                (status.code, status.text) if status else (501, getattr(failure, "text", ""))
            )
            self.parts.log.main(f"{self.host}: {text}")
            self.drop_message()
            self.say(code, text)
        except Exception as error:
            if self.gone:
                raise
            self.parts.log.panic(f"unexpected error in local submission: {error!r}", error)
            self.drop_message()
            self.say(451, "Temporary local problem - please try later")

    async def _begin(self) -> None:
        request, parts, settings = self.request, self.parts, self.parts.settings
        connection, transaction = self.connection, self.begin_transaction()
        if not envelope.has_room(parts, 0):
            raise MailFailure(Status(452, 3, 1, "Space shortage, please try later"))
        await greeting.read_options(self)
        if self.caller.trusted:
            pretend(connection.origin, request)
        self._wanted = None if request.sender is None else self._sender(request.sender)
        transaction.sender = Tainted(await self._permitted())
        transaction.ret = wire.parse_ret(request.ret) if request.ret else ""
        transaction.queue_only = request.queue_only
        if not request.extract or not settings.extract_addresses_remove_arguments:
            self._add(self._given())
        await parts.policy.check(AclPhase.NOT_SMTP_START, connection)  # what it says is ignored
        self.reception = LocalReception(self, transaction, chunked=False)

    async def _permitted(self) -> str:
        """The sender that the caller wants, if they may."""
        wanted, smtp = self._wanted, self.request.batch
        return await permitted(self.parts, self.connection, wanted, smtp=smtp)

    def _sender(self, text: str) -> str:
        """The address given with ``-f``; "" for the null sender."""
        bare = text.strip(" ")
        if bare in ("", "<>"):
            return ""
        try:
            found = read_one(bare).address
        except Malformed as problem:
            why = _shown(str(problem))
            raise SyntaxProblem(f'bad -f address "{_shown(text)}": {why}') from None
        return self.address(found, self.parts.settings.qualify_domain or "")

    def address(self, text: str, domain: str) -> Tainted:
        """Check an address as SMTP does, and qualify it.

        :raises SyntaxProblem: it is none.
        """
        path = wire.parse_path(f"<{text}>")
        if not path.address or path.parameters:
            raise SyntaxProblem(f"{_shown(text)}: malformed address")
        if path.qualified:
            return path.address
        if not domain:
            raise SyntaxProblem(f"{_shown(text)}: unqualified recipient address not allowed")
        return Tainted(f"{path.address}@{domain}")

    @property
    def _recipient_domain(self) -> str:
        """What an unqualified recipient gets; "" with ``-bnq``, which refuses them."""
        return (self.parts.settings.qualify_recipient or "") if self.request.qualify else ""

    def _given(self) -> list[str]:
        """The recipients of the command line; each argument may have several."""
        found = []
        for argument in self.request.recipients:
            addresses = list(mailboxes(argument))
            bad = [each for each in addresses if isinstance(each, Bad)]
            if bad or not addresses:
                raise SyntaxProblem(
                    f"{_shown(argument)}: malformed recipient address"
                    + "".join(f": {_shown(each.why)}" for each in bad[:1])
                )
            found += [each.address for each in addresses if isinstance(each, Place)]
        return found

    def _add(self, addresses: list[str], bad: list[Bad] | None = None) -> None:
        """Add recipients to the envelope, each once; what is no address goes to ``bad``."""
        transaction, settings = self.connection.transaction, self.parts.settings
        assert transaction is not None, "the message has begun"
        notify = wire.parse_notify(self.request.notify) if self.request.notify else frozenset()
        known = {recipient.address for recipient in transaction.recipients}
        for text in addresses:
            try:
                address = self.address(text, self._recipient_domain)
            except SyntaxProblem as problem:
                if bad is None:
                    raise
                bad.append(Bad(text, problem.text))
                continue
            if address not in known:
                known.add(address)
                transaction.recipients.append(Recipient(address, notify))
            if settings.recipients_max and len(known) > settings.recipients_max:
                raise PermanentFailure(Status(552, 5, 3, "too many recipients"))
        transaction.recipients_seen = len(transaction.recipients)

    def take_recipients(self, headers: list[Header]) -> list[Header]:
        """Do what ``-t`` says: recipients come from the header, ``Bcc:`` goes.

        :raises PermanentFailure: there are none.
        """
        transaction = self.connection.transaction
        assert transaction is not None, "the message has begun"
        if self.request.extract:
            found = written(headers)
            headers, addresses, self.bad = found.headers, found.recipients, found.bad
            if self.parts.settings.extract_addresses_remove_arguments:
                refused = {self._normal(text) for text in self._given()}
                addresses = [text for text in addresses if self._normal(text) not in refused]
            self._add(addresses, self.bad)
        if not transaction.recipients:
            text = "no recipients found in headers" if self.request.extract else "no recipients"
            if self.bad:
                text = "\n".join(["bad addresses found in headers", *self.told()])
            raise PermanentFailure(Status(550, 5, 1, text))
        return headers

    async def tell_sender(self, subject: str, lines: Sequence[str], original: bytes) -> bool:
        """Send a message about this one to its sender; False if there is nobody to tell."""
        parts, caller = self.parts, self.caller
        try:
            sender = await self._permitted()
            report = await parts.failure(sender, subject, lines, original) if sender else None
            if report is None:
                return False
            await parts.spool.store(report, parts.queue.first_attempt(report))
        except MailFailure as failure:
            parts.log.panic(f"{caller.login} cannot be told of a failure: {failure.reason}")
            return False
        parts.log.received(report)
        parts.queue.submit(report)
        return True

    async def tell_of_bad(self, headers: list[Header], body: Body) -> None:
        """Tell the sender which recipients in the header are none.

        The message is the queue's by now: it may be delivered already, and its body gone.
        """
        original = render(headers) + b"\r\n"
        try:
            async for piece in body.chunks():
                original += piece
                if len(original) > MOST_COPIED:
                    break
        except MailFailure:
            original += b"(the body is not there any more)\r\n"
        bad = [f"  {line}" for line in self.told()]
        await self.tell_sender(BAD_RECIPIENT, [*_SOME_BAD, *bad, "", *_OTHERS_PASSED], original)

    def told(self) -> list[str]:
        """Lines about the recipients in the header that are no addresses."""
        lines = [f"{_shown(each.text)}: {_shown(each.why)}" for each in self.bad[:MOST_TOLD]]
        more = len(self.bad) - MOST_TOLD
        return lines if more <= 0 else [*lines, f"and {more} more"]

    def _normal(self, text: str) -> str:
        address = self.address(text, self._recipient_domain)
        local_part, at, domain = address.rpartition("@")
        return f"{local_part}{at}{lower(domain)}"

    async def take(self, data: bytes) -> None:
        """Take octets of the message; none are its end."""
        await self.handle(Piece(data, not data))

    def give_up(self, code: int, text: str) -> None:
        """Refuse what is not complete."""
        self.drop_message()
        self._replies.octets = reply(code, text)


class LocalReception(Reception):
    """The message of a local program."""

    phase = AclPhase.NOT_SMTP
    after = "by non-SMTP ACL"
    session: LocalMessage

    def __init__(self, session: LocalMessage, transaction: Any, *, chunked: bool) -> None:
        super().__init__(session, transaction, chunked=chunked)
        self._ends = LineEnds(mend=True)
        self._mends = True
        # of the first line, while it may be a From line
        self._first: bytes | None = None if session.request.batch else b""
        self._forced = session.request.sender is not None

    def new_id(self) -> str:
        """The message's id."""
        return self.session.given_id or super().new_id()

    async def _content(self, data: bytes) -> None:
        if self._first is not None:
            data = self._first + data
            line, end, rest = data.partition(b"\r\n")
            if not (end or self._ended) and len(line) < LONGEST_FROM_LINE:
                self._first = data
                return
            self._first = None
            if await self._is_from_line(line.decode("latin-1")):
                data = rest
        await super()._content(data)

    async def _is_from_line(self, line: str) -> bool:
        """Tell whether the first line is one of UUCP; of a trusted caller it names the sender."""
        session, settings = self.session, self._settings
        found = compile_regex(settings.uucp_from_pattern or "(?!)").search(line)
        if found is None:
            return False
        template = settings.uucp_from_sender
        if not session.caller.trusted or self._forced or template is None:
            return True
        scope = session.parts.scope(session.connection).within({}, groups(found))
        try:
            text = await template.expand(scope)
        except ForcedFailure:
            return True
        try:
            address = read_one(text).address
            self.transaction.sender = session.address(address, settings.qualify_domain or "")
            self._forced = True
        except (Malformed, SyntaxProblem) as problem:
            session.parts.log.main(f"From line: {_shown(text)} is no address: {problem}")
        return True

    async def _mended(self, headers: list[Header]) -> list[Header]:
        session, transaction = self.session, self.transaction
        headers = session.take_recipients(headers)
        if transaction.submission is not None:
            return await super()._mended(headers)
        if session.connection.origin.host_address:
            return headers
        if transaction.no_fixups:  # 48.3 is none of them
            return self._qualified(headers) if session.request.qualify else headers
        return mended(
            headers,
            transaction.sender,
            session.caller,
            self._settings,
            await self._message_id(),
            transaction.received_at,
            forced=self._forced,
            qualify=session.request.qualify,
        )

    async def _store(self, message: Message) -> None:
        session, headers = self.session, [*self._headers]
        await super()._store(message)
        if session.bad:
            await session.tell_of_bad(headers, message.body)

    def due(self, message: Message) -> float:
        """When the spool's plan begins; see :class:`LocalMessage`."""
        return max(super().due(message), message.received_at + self.session.hold)

    def hand_over(self, message: Message) -> None:
        """Give the message to the queue, at once or later."""
        self.session.stored = message
        if not self.session.hold:
            super().hand_over(message)

    def _say_accepted(self, id: str, verdict: Verdict | None = None) -> None:
        if not self.session.bad:
            super()._say_accepted(id, verdict)
            return
        lines = ["bad addresses found in headers", *self.session.told(), f"OK id={id}"]
        self._answer(reply(250, "\n".join(lines)))


def _shown(text: str) -> str:
    return "".join(c if " " <= c != "\x7f" else "?" for c in text[:256])

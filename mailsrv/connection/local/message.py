"""A message that comes without SMTP (specification 47, 5.2): options, then octets.

It is a session of its own kind: what is answered is one SMTP reply, which the
command turns into an exit status.  The message takes the same way to the spool
as all others (``connection/reception.py``).
"""

from __future__ import annotations

from typing import Any

from mailsrv.connection import envelope, greeting, wording
from mailsrv.connection.dialogue import Dialogue
from mailsrv.connection.local.fixups import mended, written
from mailsrv.connection.local.frames import Request
from mailsrv.connection.local.sender import own_address, permitted
from mailsrv.connection.parts import Parts
from mailsrv.connection.reception import Reception
from mailsrv.errors import MailFailure, PermanentFailure
from mailsrv.expansion.mailboxes import addresses_of
from mailsrv.interfaces import AclPhase
from mailsrv.mail.caller import Caller
from mailsrv.mail.case import lower
from mailsrv.mail.connection import Connection
from mailsrv.mail.header import Header
from mailsrv.mail.message import Message, Recipient
from mailsrv.mail.origin import Origin
from mailsrv.mail.status import Status
from mailsrv.mail.taint import Tainted
from mailsrv.wire import command as wire
from mailsrv.wire.command import SyntaxProblem
from mailsrv.wire.data import LineEnds
from mailsrv.wire.reply import reply
from mailsrv.wire.session import Input, Piece

_SYNTAX = Status(501, 1, 3, "syntax error")


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
        protocol = request.protocol if request.protocol and caller.trusted else "local"
        self._replies = Replies()
        super().__init__(
            parts, Connection(origin_of(caller, protocol, parts), caller=caller), self._replies
        )
        self.caller = caller
        self.request = request
        self.given_id = id
        self.hold = hold
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
        wanted = None if request.sender is None else self._sender(request.sender)
        transaction.sender = Tainted(await permitted(parts, connection, wanted))
        transaction.ret = wire.parse_ret(request.ret) if request.ret else ""
        transaction.queue_only = request.queue_only
        if not request.extract or not settings.extract_addresses_remove_arguments:
            self._add(self._given())
        verdict = await parts.policy.check(AclPhase.NOT_SMTP_START, connection)
        if self.refused(verdict, "by non-SMTP-start ACL"):
            self.drop_message()
            return
        self.reception = LocalReception(self, transaction, chunked=False)

    def _sender(self, text: str) -> str:
        """The address given with ``-f``; "" for the null sender."""
        bare = text.strip(" ")
        if bare in ("", "<>"):
            return ""
        found = addresses_of(bare)
        if len(found) != 1:
            raise SyntaxProblem(f"bad -f address {_shown(text)}")
        return self.address(found[0], self.parts.settings.qualify_domain or "")

    def address(self, text: str, domain: str) -> Tainted:
        """Check an address as SMTP does, and qualify it.

        :raises SyntaxProblem: it is none.
        """
        path = wire.parse_path(f"<{text}>")
        if not path.address or path.parameters:
            raise SyntaxProblem(f"{_shown(text)}: malformed address")
        if path.qualified or not self.request.qualify:
            return path.address
        return Tainted(f"{path.address}@{domain}")

    def _given(self) -> list[str]:
        """The recipients of the command line; each argument may have several."""
        found = []
        for argument in self.request.recipients:
            addresses = addresses_of(argument)
            if not addresses:
                raise SyntaxProblem(f"{_shown(argument)}: malformed recipient address")
            found += addresses
        return found

    def _add(self, addresses: list[str]) -> None:
        """Add recipients to the envelope, each once."""
        transaction, settings = self.connection.transaction, self.parts.settings
        assert transaction is not None, "the message has begun"
        notify = wire.parse_notify(self.request.notify) if self.request.notify else frozenset()
        known = {recipient.address for recipient in transaction.recipients}
        for text in addresses:
            address = self.address(text, settings.qualify_recipient or "")
            if address not in known:
                known.add(address)
                transaction.recipients.append(Recipient(address, notify))
        transaction.recipients_seen = len(transaction.recipients)
        if settings.recipients_max and len(known) > settings.recipients_max:
            raise PermanentFailure(Status(552, 5, 3, "too many recipients"))

    def take_recipients(self, headers: list[Header]) -> list[Header]:
        """Do what ``-t`` says: recipients come from the header, ``Bcc:`` goes.

        :raises PermanentFailure: there are none.
        """
        transaction = self.connection.transaction
        assert transaction is not None, "the message has begun"
        if self.request.extract:
            found = written(headers)
            headers, addresses = found.headers, found.recipients
            if self.parts.settings.extract_addresses_remove_arguments:
                refused = {self._normal(text) for text in self._given()}
                addresses = [text for text in addresses if self._normal(text) not in refused]
            try:
                self._add(addresses)
            except SyntaxProblem as problem:
                raise PermanentFailure(_SYNTAX.saying(problem.text)) from None
        if not transaction.recipients:
            text = "no recipients found in the header" if self.request.extract else "no recipients"
            raise PermanentFailure(Status(550, 5, 1, text))
        return headers

    def _normal(self, text: str) -> str:
        address = self.address(text, self.parts.settings.qualify_recipient or "")
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

    def new_id(self) -> str:
        """The message's id."""
        return self.session.given_id or super().new_id()

    async def _mended(self, headers: list[Header]) -> list[Header]:
        session, transaction = self.session, self.transaction
        headers = session.take_recipients(headers)
        if transaction.submission is not None:
            return await super()._mended(headers)
        return mended(
            headers,
            transaction.sender,
            session.caller,
            self._settings,
            await self._message_id(),
            transaction.received_at,
            qualify=session.request.qualify,
        )

    def due(self, message: Message) -> float:
        """When the spool's plan begins; see :class:`LocalMessage`."""
        return max(super().due(message), message.received_at + self.session.hold)

    def hand_over(self, message: Message) -> None:
        """Give the message to the queue, at once or later."""
        self.session.stored = message
        if not self.session.hold:
            super().hand_over(message)


def _shown(text: str) -> str:
    return "".join(c if " " <= c != "\x7f" else "?" for c in text[:256])

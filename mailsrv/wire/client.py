"""The client's side of SMTP (RFC 5321) and LMTP (RFC 2033), without IO.

A :class:`Session` holds what a kept connection knows (the next hop's
extensions); its methods are generators that say what is to be done next:

- ``bytes``: write them;
- :class:`Receive`: wait for one :class:`Reply` and send it into the generator;
- :class:`SendContent`: write the message, dot-stuffed by :class:`DotStuffer`;
- :class:`SendChunk`: write its next chunk, and send in whether it was the last;
- :class:`StartTls`: begin TLS and send in its facts; nothing received before may be used after it;
- :class:`Ask`: await something, and send in what it gave.

The adapter (``transport/connection.py``) does these things and nothing else.
Whatever the next hop says that is not a reply of the protocol raises
:class:`ProtocolError`: a lie is an error of the connection, never of our
program.  All that is sent is checked first: a value that could end a command
line early raises :class:`UnsafeValue` and nothing was sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from mailsrv.interfaces import IClientExchange
from mailsrv.wire import sasl
from mailsrv.wire.envelope import Envelope, EnvelopeRecipient, UnsafeValue, path, word, xtext
from mailsrv.wire.replies import Phase, ProtocolError, Reply, printable

T = TypeVar("T")

MAX_CHALLENGES = 20  # of one AUTH command: a next hop that never ends it is broken


class Receive(NamedTuple):
    """Wait for the next reply."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class SendContent:
    """Write the message with its final dot."""


@dataclass(frozen=True, slots=True)
class SendChunk:
    """Write the next BDAT command with its chunk."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """Begin TLS, wait for the handshake, and send in what it brought."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Await something that is not the next hop's, such as an authenticator's response."""

    question: Awaitable[Any]


Step = bytes | Receive | SendContent | SendChunk | StartTls | Ask
Steps = Generator[Step, Any, T]


@dataclass(frozen=True, slots=True)
class TlsUse:
    """Whether TLS is to be used."""

    wanted: bool = False
    required: bool = False  # without TLS there is no session
    implicit: bool = False  # TLS from the first octet on (smtps), without STARTTLS
    clear_on_4xx: bool = True  # a 4yz to STARTTLS means: in clear (tls_tempfail_tryclear)


@dataclass(frozen=True, slots=True)
class AuthUse:
    """Whether to authenticate: ``attempts`` gives what may be tried.

    It takes the names offered, and what TLS brought (:attr:`Session.tls`).
    """

    attempts: Callable[[Sequence[str], Any], Awaitable[Sequence[IClientExchange]]]
    required: bool = False


@dataclass(slots=True)
class Answers:
    """How a transaction went.

    It is filled while the transaction runs, so that it also tells what was
    settled before a connection was lost.  ``replies`` holds, by the recipient's
    index in the envelope, the last reply that concerns it and its phase;
    ``unsafe`` says why a recipient could not be sent at all.
    """

    replies: dict[int, tuple[Phase, Reply]] = field(default_factory=dict)
    unsafe: dict[int, str] = field(default_factory=dict)
    pipelined: bool = False
    dsn_passed_on: bool = False
    chunking: bool = False
    waiting: int | None = None  # the recipient whose reply is, or was, awaited

    def settled(self, index: int) -> tuple[Phase, Reply] | None:
        """The reply that decides about a recipient, or None if none did."""
        answer = self.replies.get(index)
        if answer is None or (answer[0] is not Phase.FINAL and not answer[1].refusal):
            return None
        return answer


class Refused(Exception):
    """The greeting or EHLO was refused; the session did not begin."""

    def __init__(self, phase: Phase, reply: Reply) -> None:
        super().__init__(f"{phase.value}: {reply}")
        self.phase = phase
        self.reply = reply


class Unmet(Exception):
    """The session cannot be as the configuration requires it.

    ``error`` is the retry rules' name: ``tls_required`` or ``auth_failed``.
    """

    def __init__(self, phase: Phase, error: str, reason: str) -> None:
        super().__init__(reason)
        self.phase = phase
        self.error = error
        self.reason = reason


class Session:
    """One connection's conversation, from the greeting to QUIT.

    ``lmtp`` chooses LHLO and a final reply for each recipient; ``ignore_quota``
    adds IGNOREQUOTA to RCPT where it is offered.  ``usable`` becomes False when
    no further transaction may follow; ``midway`` is True while the next hop waits for
    a message's end, and takes all for a part of it.  ``chunking`` allows BDAT where it is offered.
    """

    def __init__(
        self,
        helo: str,
        *,
        lmtp: bool = False,
        pipelining: bool = True,
        esmtp: bool = True,
        ignore_quota: bool = False,
        chunking: bool = False,
        tls: TlsUse | None = None,
        auth: AuthUse | None = None,
    ) -> None:
        self.helo = helo
        self.lmtp = lmtp
        self.extensions: dict[str, str] = {}  # keyword in upper case → its parameters
        self.usable = True
        self.midway = False
        self.tls: Any = None  # what the handshake brought; None: the session is in clear
        self.authenticator = ""  # name of the one that succeeded
        self.auth_failures: list[tuple[str, str]] = []  # authenticator, why
        self._may_pipeline = pipelining
        self._esmtp = esmtp
        self._ignore_quota = ignore_quota
        self._chunking = chunking
        self._tls = tls or TlsUse()
        self._auth = auth

    def open(self) -> Steps[None]:
        """Begin the session: greeting, EHLO, TLS and AUTH as far as they are wanted.

        :raises Refused: by a 4yz or 5yz reply.
        :raises Unmet: there is no TLS or no login, and there must be.
        """
        if self._tls.implicit:
            self.tls = yield StartTls()
        greeting = yield Receive(Phase.GREETING)
        self._expect(Phase.GREETING, greeting)
        yield from self._hello()
        if self.tls is None and (self._tls.wanted or self._tls.required):
            yield from self._start_tls()
        if self._auth is not None:
            yield from self._authenticate(self._auth)

    def _hello(self) -> Steps[None]:
        """Say EHLO, LHLO, or HELO where EHLO is not known."""
        name = word(self.helo)
        self.extensions = {}
        verb = "LHLO" if self.lmtp else "EHLO" if self._esmtp else "HELO"
        yield f"{verb} {name}\r\n".encode("latin-1")
        reply = yield Receive(Phase.HELLO)
        if reply.code // 100 == 5 and verb == "EHLO":
            yield f"HELO {name}\r\n".encode("latin-1")
            reply = yield Receive(Phase.HELLO)
            self._expect(Phase.HELLO, reply)
            return
        self._expect(Phase.HELLO, reply)
        if verb != "HELO":
            self.extensions = _extensions(reply)

    def _start_tls(self) -> Steps[None]:
        """Say STARTTLS where it is offered; what EHLO said in clear is forgotten (RFC 3207 4.2)."""
        required = "a TLS session is required, but "
        if "STARTTLS" not in self.extensions:
            if self._tls.required:
                text = required + "the server did not offer TLS support"
                raise Unmet(Phase.STARTTLS, "tls_required", text)
            return
        yield b"STARTTLS\r\n"
        reply = yield Receive(Phase.STARTTLS)
        if not self._done(reply):
            if not self.usable:
                raise Refused(Phase.STARTTLS, reply)
            if self._tls.required:
                text = required + f"an attempt to start TLS failed: {reply}"
                raise Unmet(Phase.STARTTLS, "tls_required", text)
            if reply.code // 100 == 4 and not self._tls.clear_on_4xx:
                raise Refused(Phase.STARTTLS, reply)
            return
        self.tls = yield StartTls()
        yield from self._hello()

    def _authenticate(self, use: AuthUse) -> Steps[None]:
        """Try the authenticators in turn; a 5yz answer leads to the next (specification 33)."""
        offered = self.extensions.get("AUTH", "").upper().split()
        attempts = (yield Ask(use.attempts(offered, self.tls))) if offered else ()
        for exchange in attempts:
            reply = yield from self._exchange(exchange)
            if reply is None:
                continue
            if reply.positive:
                identity = yield Ask(exchange.identity())
                self.authenticator = ":".join(filter(None, (exchange.name, printable(identity))))
                return
            self.auth_failures.append((exchange.name, str(reply)))
            if reply.code // 100 == 4:
                self.usable = reply.code != 421
                raise Refused(Phase.AUTH, reply)
        if use.required:
            if not offered:
                why = "authentication required but server did not advertise AUTH support"
            elif not attempts:
                why = f"no usable authenticator for {' '.join(offered)}"
            else:
                said = "; ".join(f"{name}: {why}" for name, why in self.auth_failures)
                why = f"authentication attempt(s) failed ({said})"
            raise Unmet(Phase.AUTH, "auth_failed", why)

    def _exchange(self, exchange: IClientExchange) -> Steps[Reply | None]:
        """Run one AUTH command; None: we had nothing to answer, so it was cancelled or not begun.

        :raises ProtocolError: challenges without end.
        """
        initial = yield Ask(exchange.initial())
        line = f"AUTH {word(exchange.mechanism)}".encode("latin-1")
        if initial is not None:
            line += b" " + (sasl.encode(initial) or b"=")
        yield line + b"\r\n"
        for _ in range(MAX_CHALLENGES):
            reply: Reply = yield Receive(Phase.AUTH)
            if reply.code != 334:
                self._done(reply)
                return reply
            challenge = _challenge(reply)
            if challenge is None and exchange.ignore_invalid:
                challenge = b""
            response = None if challenge is None else (yield Ask(exchange.respond(challenge)))
            if response is None:
                yield sasl.CANCEL + b"\r\n"
                self._done((yield Receive(Phase.AUTH)))
                self.auth_failures.append((exchange.name, "cancelled: nothing to answer"))
                return None
            yield sasl.encode(response) + b"\r\n"
        raise ProtocolError("too many challenges to AUTH")

    def transaction(self, envelope: Envelope, answers: Answers) -> Steps[None]:
        """Send one message; ``answers`` (a fresh one) tells what became of each recipient.

        :raises UnsafeValue: the sender cannot be sent; nothing was.
        """
        mail = self._mail(envelope)
        sent, commands = self._rcpts(envelope, answers)
        if not sent:
            return
        answers.pipelined = self._may_pipeline and "PIPELINING" in self.extensions
        answers.dsn_passed_on = "DSN" in self.extensions
        answers.chunking = self._chunking and "CHUNKING" in self.extensions and not self.lmtp
        if answers.pipelined:
            yield mail + b"".join(commands) + (b"" if answers.chunking else b"DATA\r\n")
        else:
            yield mail
        accepted = yield from self._envelope(answers, sent, commands)
        if not accepted and (answers.chunking or not answers.pipelined):
            yield from self._leave()
            return
        if answers.chunking:
            yield from self._chunks(answers, accepted)
            return
        if not answers.pipelined:
            yield b"DATA\r\n"
        reply = yield Receive(Phase.DATA)
        yield from self._content(answers, accepted, reply)

    def probe(self, sender: str, recipient: str, found: list[tuple[Phase, Reply]]) -> Steps[None]:
        """Ask whether a recipient would be taken; ``found`` is given the reply that decides.

        :raises UnsafeValue: an address cannot be sent; nothing was.
        """
        mail, rcpt = self._mail(Envelope(sender, ())), self._rcpt(EnvelopeRecipient(recipient))
        for phase, command in ((Phase.MAIL, mail), (Phase.RCPT, rcpt)):
            yield command
            reply = yield Receive(phase)
            found[:] = [(phase, reply)]
            if not self._done(reply):
                break
        yield from self._leave()

    def _envelope(
        self, answers: Answers, sent: list[int], commands: list[bytes]
    ) -> Steps[list[int]]:
        """Take the replies to MAIL and each RCPT; the value is the recipients accepted."""
        reply = yield Receive(Phase.MAIL)
        mail_accepted = self._done(reply)
        if not mail_accepted:
            for index in sent:
                answers.replies[index] = (Phase.MAIL, reply)
            if not answers.pipelined:
                return []
        accepted = []
        for index, command in zip(sent, commands, strict=True):
            if not answers.pipelined:
                yield command
            answers.waiting = index
            reply = yield Receive(Phase.RCPT)
            done = self._done(reply)
            if not mail_accepted:
                continue
            answers.replies[index] = (Phase.RCPT, reply)
            if done:
                accepted.append(index)
        return accepted

    def _content(self, answers: Answers, accepted: list[int], reply: Reply) -> Steps[None]:
        """Send the message after DATA's reply and take the final replies."""
        if reply.refusal:
            for index in accepted:
                answers.replies[index] = (Phase.DATA, reply)
            yield from self._leave(reply)
            return
        if reply.code != 354:
            raise ProtocolError(f"unexpected answer to DATA: {reply}")
        self.midway = True
        if not accepted:
            # The next hop wants a message for nobody; closing says no more clearly.
            self.usable = False
            return
        yield SendContent()
        if self.lmtp:  # RFC 2033 4.2: one reply for each accepted recipient, in order
            for index in accepted:
                reply = yield Receive(Phase.FINAL)
                self._done(reply)
                answers.replies[index] = (Phase.FINAL, reply)
            return
        reply = yield Receive(Phase.FINAL)
        self._done(reply)
        for index in accepted:
            answers.replies[index] = (Phase.FINAL, reply)

    def _chunks(self, answers: Answers, accepted: list[int]) -> Steps[None]:
        """Send the message with BDAT; each chunk has its reply (RFC 3030 2)."""
        last = False
        while not last:
            last = yield SendChunk()
            phase = Phase.FINAL if last else Phase.CHUNK
            reply = yield Receive(phase)
            if not self._done(reply) or last:
                for index in accepted:
                    answers.replies[index] = (phase, reply)
                break
        if not last:
            yield from self._leave(reply)

    def _leave(self, reply: Reply | None = None) -> Steps[None]:
        """End a transaction that was begun and not finished."""
        if not self.usable or (reply is not None and reply.code == 421):
            self.usable = False
            return
        yield b"RSET\r\n"
        reply = yield Receive(Phase.RESET)
        self.usable = reply.positive

    def close(self) -> Steps[None]:
        """Say QUIT and wait for its reply."""
        self.usable = False
        yield b"QUIT\r\n"
        yield Receive(Phase.QUIT)

    def _done(self, reply: Reply) -> bool:
        """Tell whether a command was done; a 421 makes the connection unusable.

        :raises ProtocolError: the reply is neither a success nor a refusal.
        """
        if reply.code == 421:
            self.usable = False
        if reply.positive or reply.refusal:
            return reply.positive
        self.usable = False
        raise ProtocolError(f"unexpected reply: {reply}")

    def _expect(self, phase: Phase, reply: Reply) -> None:
        if not self._done(reply):
            self.usable = False
            raise Refused(phase, reply)

    def _mail(self, envelope: Envelope) -> bytes:
        line = f"MAIL FROM:{path(envelope.sender)}"
        if envelope.size and "SIZE" in self.extensions:
            line += f" SIZE={envelope.size}"
        if envelope.eight_bit and "8BITMIME" in self.extensions:
            line += " BODY=8BITMIME"
        if envelope.utf8 and "SMTPUTF8" in self.extensions:
            line += " SMTPUTF8"
        if envelope.auth and "AUTH" in self.extensions:
            line += f" AUTH={xtext(envelope.auth)}"
        if "DSN" in self.extensions:
            line += _parameter("RET", envelope.ret) + _parameter("ENVID", envelope.envid)
        return line.encode("latin-1") + b"\r\n"

    def _rcpts(self, envelope: Envelope, answers: Answers) -> tuple[list[int], list[bytes]]:
        """Return which recipients can be sent, and their commands."""
        sent, commands = [], []
        for index, recipient in enumerate(envelope.recipients):
            try:
                commands.append(self._rcpt(recipient))
            except UnsafeValue as error:
                answers.unsafe[index] = str(error)
            else:
                sent.append(index)
        return sent, commands

    def _rcpt(self, recipient: EnvelopeRecipient) -> bytes:
        if not recipient.address:
            raise UnsafeValue("empty address")
        line = f"RCPT TO:{path(recipient.address)}"
        if "DSN" in self.extensions:
            line += _parameter("NOTIFY", recipient.notify) + _parameter("ORCPT", recipient.orcpt)
        if self._ignore_quota and "IGNOREQUOTA" in self.extensions:
            line += " IGNOREQUOTA"
        return line.encode("latin-1") + b"\r\n"


def _parameter(name: str, value: str) -> str:
    return f" {name}={word(value)}" if value else ""


def _extensions(reply: Reply) -> dict[str, str]:
    """Return EHLO's keywords; the first line is the next hop's name (RFC 5321 4.1.1.1)."""
    result: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, _, parameters = line.strip(" \t").partition(" ")
        if keyword:
            result[keyword.upper()] = parameters.strip(" \t")
    return result


def _challenge(reply: Reply) -> bytes | None:
    """Return what a 334 reply asks; None: it is not base64."""
    try:
        return sasl.decode(reply.lines[0].encode("latin-1"))
    except sasl.SaslError:
        return None

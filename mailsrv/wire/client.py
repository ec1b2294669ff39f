"""The client's side of SMTP (RFC 5321) and LMTP (RFC 2033), without IO.

A :class:`Session` holds what a kept connection knows (the next hop's
extensions); its methods are generators that say what is to be done next:

- ``bytes``: write them;
- :class:`Receive`: wait for one :class:`Reply` and send it into the generator;
- :class:`SendContent`: write the message, dot-stuffed by :class:`DotStuffer`.

The adapter (``transport/connection.py``) does these things and nothing else.
Whatever the next hop says that is not a reply of the protocol raises
:class:`ProtocolError`: a lie is an error of the connection, never of our
program.  All that is sent is checked first: a value that could end a command
line early raises :class:`UnsafeValue` and nothing was sent.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from mailsrv.mail.status import Status

T = TypeVar("T")

MAX_LINE = 4096  # octets of one reply line; RFC 5321 4.5.3.1.5 says 512
MAX_LINES = 300  # lines of one reply


class ProtocolError(Exception):
    """The next hop broke the protocol; the connection cannot be used further."""


class UnsafeValue(ValueError):
    """A value that would not stay inside its command; it was not sent."""


class Phase(enum.Enum):
    """What a reply answers; the value is the name that log lines use for it."""

    GREETING = "initial connection"
    HELLO = "EHLO"
    MAIL = "MAIL FROM"
    RCPT = "RCPT TO"
    DATA = "DATA"
    FINAL = "end of data"
    RESET = "RSET"
    QUIT = "QUIT"


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply: its code and the texts of its lines, without code and end of line."""

    code: int
    lines: tuple[str, ...]

    @property
    def positive(self) -> bool:
        """Whether the command was done (2yz)."""
        return self.code // 100 == 2

    @property
    def refusal(self) -> bool:
        """Whether the command was refused, for now (4yz) or for good (5yz)."""
        return self.code // 100 in (4, 5)

    def __str__(self) -> str:
        """Return the reply as one printable line for a log: its lines with ``\\n`` between them."""
        marks = ["-"] * (len(self.lines) - 1) + [" "]
        lines = (f"{self.code}{m}{text}" for m, text in zip(marks, self.lines, strict=True))
        return printable("\\n".join(lines))

    @property
    def status(self) -> Status:
        """The reply with its enhanced status code, which is taken out of the text."""
        found = _ENHANCED.match(self.lines[0])
        if found is None or int(found[1]) != self.code // 100:
            return Status(self.code, 0, 0, printable("\n".join(self.lines), keep="\n"))
        prefix = found[0]
        texts = [line.removeprefix(prefix) for line in self.lines]
        return Status(
            self.code, int(found[2]), int(found[3]), printable("\n".join(texts), keep="\n")
        )


_ENHANCED = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: |$)", re.ASCII)
_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_UNPRINTABLE = re.compile(r"[^ -~\x80-\xff]")


def printable(text: str, keep: str = "") -> str:
    """Return ``text`` with control characters (but those in ``keep``) as ``\\ooo``."""
    return _UNPRINTABLE.sub(lambda m: m[0] if m[0] in keep else f"\\{ord(m[0]):03o}", text)


class ReplyParser:
    """Takes octets in pieces of any size and gives whole replies.

    Bounded: a line, a reply and the replies that wait may only be so large.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._code = 0
        self._lines: list[str] = []

    @property
    def partial(self) -> bool:
        """Whether a reply has begun that is not complete."""
        return bool(self._buffer or self._lines)

    def feed(self, data: bytes) -> Iterator[Reply]:
        """Give the replies that are complete with ``data``; to be taken to the end.

        :raises ProtocolError: what came (after those given) is no reply, or too much.
        """
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            reply = self._line(line)
            if reply is not None:
                yield reply
        if len(self._buffer) > MAX_LINE:
            raise ProtocolError("reply line too long")

    def _line(self, line: bytes) -> Reply | None:
        if len(line) > MAX_LINE:
            raise ProtocolError("reply line too long")
        if not line.endswith(b"\r") or b"\r" in line[:-1] or b"\0" in line:
            raise ProtocolError(f"malformed reply {_shown(line)}")
        found = _REPLY_LINE.fullmatch(line[:-1])
        if found is None or (self._lines and int(found[1]) != self._code):
            raise ProtocolError(f"malformed reply {_shown(line)}")
        self._code = int(found[1])
        self._lines.append((found[3] or b"").decode("latin-1"))
        if found[2] == b"-":
            if len(self._lines) >= MAX_LINES:
                raise ProtocolError("reply has too many lines")
            return None
        reply = Reply(self._code, tuple(self._lines))
        self._lines = []
        return reply


def _shown(line: bytes) -> str:
    return '"' + printable(line[:80].decode("latin-1")) + '"'


# --- the message's octets ----------------------------------------------------


class LineEnds:
    """Makes every line end of a stream CRLF, whatever pieces it comes in (RFC 5321 2.3.8).

    A bare CR and a bare LF are line ends here: neither may leave us, because
    receivers do not agree about what they mean (SMTP smuggling).
    """

    _odd = re.compile(rb"\r\n|\r|\n")

    def __init__(self) -> None:
        self._held = b""  # a CR whose LF may come with the next piece

    def feed(self, data: bytes) -> bytes:
        """Return the next octets; a CR at the end waits for what follows."""
        data = self._held + data
        self._held = b""
        if data.endswith(b"\r"):
            data, self._held = data[:-1], b"\r"
        pairs = data.count(b"\r\n")
        if pairs != data.count(b"\n") or pairs != data.count(b"\r"):
            data = self._odd.sub(b"\r\n", data)
        return data

    def end(self) -> bytes:
        """Return what was held."""
        held, self._held = self._held, b""
        return b"\r\n" if held else b""


class DotStuffer:
    """Turns a message into the octets between 354 and the final reply (RFC 5321 4.5.2).

    Works on whole pieces; a dot is doubled at the start of every line, the
    first one and those that begin with a piece included.
    """

    def __init__(self) -> None:
        self._ends = LineEnds()
        self._at_start = True

    def feed(self, data: bytes) -> bytes:
        """Return the octets to send for the next piece."""
        return self._stuff(self._ends.feed(data))

    def _stuff(self, data: bytes) -> bytes:
        if not data:
            return b""
        first = b"." if self._at_start and data.startswith(b".") else b""
        self._at_start = data.endswith(b"\n")
        return first + data.replace(b"\n.", b"\n..")

    def end(self) -> bytes:
        """Return the octets that end the message: a line end if it lacks one, and the dot."""
        rest = self._stuff(self._ends.end())
        return rest + (b".\r\n" if self._at_start else b"\r\n.\r\n")


# --- commands ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EnvelopeRecipient:
    """A recipient as RCPT names it, with its DSN parameters (RFC 3461); "" = not given."""

    address: str
    notify: str = ""  # NEVER, or SUCCESS,FAILURE,DELAY in any choice
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What MAIL and RCPT say of one message."""

    sender: str
    recipients: tuple[EnvelopeRecipient, ...]
    size: int = 0  # octets as sent, at most; 0 = not said
    eight_bit: bool = False
    utf8: bool = False  # the envelope or header holds UTF-8 (RFC 6531)
    ret: str = ""
    envid: str = ""


_SAFE_PATH = re.compile(r"(?:[^\x00-\x20\x7f<>\"\\]|\"(?:[^\x00-\x1f\x7f\"\\]|\\[\x20-\x7e])*\")*")
_SAFE_WORD = re.compile(r"[!-~]+", re.ASCII)


def path(address: str) -> str:
    """Return an address in angle brackets.

    :raises UnsafeValue: it has a control character, or a blank, bracket or
        backslash outside quotes.
    """
    if _SAFE_PATH.fullmatch(address) is None:
        raise UnsafeValue(f"unsafe address {printable(address[:200])}")
    return f"<{address}>"


def word(text: str) -> str:
    """Return ``text`` if it can be one word of a command, else raise :class:`UnsafeValue`."""
    if _SAFE_WORD.fullmatch(text) is None:
        raise UnsafeValue(f"unsafe word {printable(text[:200])}")
    return text


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for the next reply."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class SendContent:
    """Write the message with its final dot."""


Step = bytes | Receive | SendContent
Steps = Generator[Step, Reply, T]


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


class Session:
    """One connection's conversation, from the greeting to QUIT.

    ``lmtp`` chooses LHLO and a final reply for each recipient; ``ignore_quota``
    adds IGNOREQUOTA to RCPT where it is offered.  ``usable`` becomes False when
    no further transaction may follow.
    """

    def __init__(
        self,
        helo: str,
        *,
        lmtp: bool = False,
        pipelining: bool = True,
        esmtp: bool = True,
        ignore_quota: bool = False,
    ) -> None:
        self.helo = helo
        self.lmtp = lmtp
        self.extensions: dict[str, str] = {}  # keyword in upper case → its parameters
        self.usable = True
        self._may_pipeline = pipelining
        self._esmtp = esmtp
        self._ignore_quota = ignore_quota

    def open(self) -> Steps[None]:
        """Take the greeting and say EHLO, LHLO, or HELO where EHLO is not known.

        :raises Refused: by a 4yz or 5yz reply.
        """
        name = word(self.helo)
        greeting = yield Receive(Phase.GREETING)
        self._expect(Phase.GREETING, greeting)
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
        if answers.pipelined:
            yield mail + b"".join(commands) + b"DATA\r\n"
        else:
            yield mail
        accepted = yield from self._envelope(answers, sent, commands)
        if not accepted and not answers.pipelined:
            yield from self._leave()
            return
        if not answers.pipelined:
            yield b"DATA\r\n"
        reply = yield Receive(Phase.DATA)
        yield from self._content(answers, accepted, reply)

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

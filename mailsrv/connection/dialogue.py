"""One SMTP or LMTP session: what is answered to each line, in Exim's words (RFC 5321, 2033).

A :class:`Dialogue` takes the events of ``wire/session.py`` one at a time.  Its
coroutines wait for nothing but policy, authentication and spool, so that most
run to their end without a Deferred.  It knows no transport: it acts on an
:class:`IChannel`.  Each other file of the folder has its commands: the connection's
beginning in ``greeting.py``, HELO, LHLO and STARTTLS in ``hello.py``, MAIL and RCPT in
``envelope.py``, AUTH in ``login.py``, VRFY and its like in
``questions.py``, DATA and BDAT in ``content.py``, the message itself in ``reception.py``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError

from mailsrv.connection import content, envelope, hello, login, questions, wording
from mailsrv.connection.pace import Pace
from mailsrv.connection.parts import IChannel, Parts
from mailsrv.connection.reception import Reception
from mailsrv.errors import MailFailure
from mailsrv.interfaces import AclPhase, Action, IAuthExchange, Verdict
from mailsrv.logs.lines import duration
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Transaction
from mailsrv.mail.status import LOCAL_PROBLEM
from mailsrv.wire.command import Command, parse_command
from mailsrv.wire.reply import from_status, reply
from mailsrv.wire.session import MAX_COMMAND, Event, Line, Piece

# Nothing may follow these in the same packet (RFC 2920 3.1), nor the second
# group if PIPELINING was not offered.
_LAST_IN_GROUP = frozenset(
    ("HELO", "EHLO", "LHLO", "DATA", "VRFY", "EXPN", "NOOP", "ETRN", "STARTTLS")
)
_PIPELINED = frozenset(("MAIL", "RCPT", "RSET"))
# Commands of smtp_accept_max_nonmail; the second group's first use after each message is free.
_NONMAIL = frozenset(("NOOP", "ETRN", "EXPN", "VRFY", "HELP"))
_NONMAIL_LATER = frozenset(("RSET", "HELO", "EHLO", "LHLO", "AUTH", "STARTTLS"))
_COUNTED = _NONMAIL | _NONMAIL_LATER
LAST = 20  # commands that are remembered for the log; an idle session costs a short list
_NO_ARGUMENT = frozenset(("DATA", "RSET", "QUIT", "STARTTLS"))


class Dialogue:
    """The state of a session; ``connection`` is what ACLs see of it."""

    def __init__(self, parts: Parts, connection: Connection, channel: IChannel) -> None:
        self.parts = parts
        self.connection = connection
        self.channel = channel
        self.finished = False  # a last reply was given
        self.gone = False  # the connection was lost
        self.storing = False  # a message is being made durable: not to be cancelled
        self.reception: Reception | None = None
        self.exchange: IAuthExchange | None = None
        self.login_steps = 0
        self.login_failures = 0
        self.message_size_limit = 0
        self.messages_max = 0
        self.receive_timeout = 300.0
        self.logs_connection = False
        self.offers_tls = False
        self.offers_pipelining = False
        self.offers_dsn = False
        self.offers_utf8 = False
        self.offers_chunking = False
        self.mechanisms: list[str] = []
        self.only_rset = False  # a BDAT sequence went wrong
        self.discarded_recipients = False  # an ACL took some, to throw them away
        self.discard_reason = ""  # of the MAIL ACL, for the log
        self.refused_rcpt: bytes | None = None  # the reply, while all RCPTs had the same
        self.last_was_rcpt = False
        self._began = parts.clock.seconds()
        self._unknown = 0
        self._errors = 0
        self._nonmail = 0
        self._free = set(_NONMAIL_LATER)
        self._history: list[str] = []
        self._done_with_acl = False
        self.paces: dict[str, Pace] = {}

    # --- replies and errors ---------------------------------------------------

    @property
    def host(self) -> str:
        """The client as log lines show it."""
        return wording.host(self.connection.origin)

    def say(self, code: int, text: str) -> None:
        """Reply."""
        self.channel.write(reply(code, text))

    def end(self, last: bytes, reason: str) -> None:
        """Give the last reply and close; ``reason`` is ``$smtp_notquit_reason`` ("": not told)."""
        self.finished = True
        self.connection.notquit_reason = reason
        self.channel.write(last)
        self.channel.hang_up()

    def protocol_error(
        self, code: int, text: str, *, syntax: bool = False, logged: bool = False
    ) -> None:
        """Reply to a fault of the client, and count it (smtp_max_synprot_errors).

        ``logged``: it has its line in the log already.
        """
        kind = "syntax" if syntax else "protocol"
        if not logged and self.parts.log.selected(f"smtp_{kind}_error"):
            line = f"{self.connection.command} {self.connection.argument}".strip(" ")
            self.parts.log.main(f'SMTP {kind} error in "{line[:512]}" H={self.host} {text}')
        self._errors += 1
        if self._errors <= self.parts.settings.smtp_max_synprot_errors:
            self.say(code, text)
            return
        commands = ",".join(self._history)
        last = f"{self.connection.command} {self.connection.argument}".strip(" ")
        self.parts.log.main(
            f"SMTP call from {self.host} dropped: too many syntax or protocol errors "
            f'(last command was "{last[:128]}",  C={commands})',
            rejection=True,
        )
        self.end(reply(code, f"{text}\nToo many syntax or protocol errors"), "synprot-error")

    def refused(self, verdict: Verdict, what: str, *, copies: int = 1) -> bool:
        """Reply to and log a refusal of an ACL; tell whether it was one.

        The reply is given ``copies`` times.
        """
        if verdict.accepted:
            return False
        self.log_refusal(verdict, what)
        assert verdict.status is not None, "a refusal has its reply"
        octets = from_status(verdict.status) * copies
        if verdict.action is Action.DROP:
            self.log_connection("closed by DROP in ACL")
            self.end(octets, "acl-drop")
        else:
            self.channel.write(octets)
        return True

    def log_refusal(self, verdict: Verdict, what: str) -> None:
        """Log a refusal of an ACL, unless it asked for silence."""
        if not verdict.log or verdict.status is None:
            return
        text = verdict.log_message or verdict.status.text.partition("\n")[0]
        word = "temporarily rejected" if verdict.action is Action.DEFER else "rejected"
        transaction = self.connection.transaction
        self.parts.log.rejected(
            self.connection,
            f"{word} {what}",
            "" if verdict.bare else text,
            transaction.headers if transaction else (),
        )

    def log_connection(self, text: str) -> None:
        """Log what becomes of the connection (log selector smtp_connection)."""
        if self.logs_connection:
            self.parts.log.main(f"SMTP connection from {self.host} {text}")

    def enforces_sync(self) -> bool:
        """Tell whether input before its time ends the session (smtp_enforce_sync).

        A local program that sends all at once is no attack.
        """
        if not self.connection.origin.host_address:
            return False
        chosen = self.connection.enforce_sync
        return self.parts.settings.smtp_enforce_sync if chosen is None else chosen

    # --- events ----------------------------------------------------------------

    async def handle(self, event: Event) -> None:
        """Answer one event.  Whatever goes wrong costs this command: 451."""
        try:
            if isinstance(event, Line):
                if self.exchange is None:
                    await self._command(event)
                else:
                    await login.proceed(self, event.line)
            elif isinstance(event, Piece):
                assert self.reception is not None, "pieces come in a message"
                await self.reception.piece(event)
            else:
                await self._long_line()
        except CancelledError as error:
            if self.gone:
                raise
            self.parts.log.panic(f"cancelled in SMTP session with {self.host}", error)
            self._give_up_command(reply(LOCAL_PROBLEM.code, LOCAL_PROBLEM.text))
        except MailFailure as failure:
            self.parts.log.main(f"{self.host}: {failure.explained}")
            self._give_up_command(reply(failure.status.code, failure.status.text))
        except Exception as error:
            self.parts.log.panic(
                f"unexpected error in SMTP session with {self.host}: {error!r}", error
            )
            self._give_up_command(reply(LOCAL_PROBLEM.code, LOCAL_PROBLEM.text))

    def _give_up_command(self, octets: bytes) -> None:
        if self.reception is not None:
            self.reception.fail(octets)
            return
        if self.exchange is not None:
            self.stop_exchange()
        if self.connection.command == "MAIL":
            self.drop_message()  # it was not accepted
        self.channel.write(octets)

    async def _long_line(self) -> None:
        if self.exchange is not None:
            self.stop_exchange()
        self.connection.command, self.connection.argument = "(too long)", ""
        self.protocol_error(500, "command line too long", syntax=True)

    def stop_exchange(self) -> None:
        """End an AUTH that is under way, without a reply."""
        if self.exchange is not None:
            self.exchange.cancel()
        self.exchange = None
        self.channel.input.longest = MAX_COMMAND

    async def _command(self, event: Line) -> None:
        command = parse_command(event.line)
        connection = self.connection
        connection.command = command.verb or command.line.partition(" ")[0][:64]
        connection.argument = command.argument
        if command.verb == "AUTH":  # no response of it reaches an ACL or a log
            connection.argument = command.argument.partition(" ")[0]
        self._history.append(command.verb or "???")
        if len(self._history) > LAST:
            del self._history[0]
        if not self.in_step(command):
            return
        if b"\0" in command.raw:
            self.protocol_error(501, "NUL characters are not allowed in SMTP commands", syntax=True)
            return
        if command.verb in _COUNTED and await self._too_many_nonmail(command):
            return
        if self.only_rset and command.verb not in ("RSET", "QUIT"):
            self.protocol_error(503, "only RSET accepted now")
            return
        if self.reception is not None and command.verb not in ("BDAT", "RSET", "QUIT"):
            self.only_rset = True
            self.drop_message()
            self.protocol_error(503, "only BDAT permissible after non-LAST BDAT")
            return
        if command.verb in _NO_ARGUMENT and command.argument:
            self.protocol_error(501, "unexpected argument data", syntax=True)
            return
        handlers = _LMTP_HANDLERS if connection.lmtp else _HANDLERS
        handler = handlers.get(command.verb)
        if handler is None:
            self._unknown_command(command)
            return
        was_rcpt = command.verb == "RCPT"
        await handler(self, command)
        self.last_was_rcpt = was_rcpt

    def in_step(self, command: Command) -> bool:
        """Refuse input that came before the answer to a command that ends a group."""
        if not (
            command.verb in _LAST_IN_GROUP
            or (command.verb in _PIPELINED and not self.offers_pipelining)
        ):
            return True
        # STARTTLS is checked even with enforce_sync off: what follows in clear is never run.
        if not (self.enforces_sync() or command.verb == "STARTTLS"):
            return True
        waiting = self.channel.input.waiting
        if not waiting:
            return True
        self.log_incomplete("sync failure")
        told = "" if self.offers_pipelining else " not"
        shown = waiting[:128].decode("latin-1")
        self.parts.log.main(
            "SMTP protocol synchronization error (next input sent too soon: pipelining was"
            f'{told} advertised): rejected "{command.line[:512]}" H={self.host} '
            f'next input="{shown}"',
            rejection=True,
        )
        self.end(reply(554, "SMTP synchronization error"), "synchronization-error")
        return False

    async def _too_many_nonmail(self, command: Command) -> bool:
        if command.verb in self._free:
            self._free.discard(command.verb)
            return False
        settings = self.parts.settings
        self._nonmail += 1
        if self._nonmail <= settings.smtp_accept_max_nonmail:
            return False
        if not await self.parts.listed(settings.smtp_accept_max_nonmail_hosts, self.connection):
            return False
        self.log_incomplete("too many non-mail commands")
        self.parts.log.main(
            f"SMTP call from {self.host} dropped: too many nonmail commands "
            f'(last was "{command.verb}")',
            rejection=True,
        )
        self.end(reply(554, "Too many nonmail commands"), "bad-commands")
        return True

    def _unknown_command(self, command: Command) -> None:
        self._unknown += 1
        if self.parts.log.selected("smtp_syntax_error"):
            self.parts.log.main(
                f'SMTP syntax error in "{command.line[:512]}" H={self.host} unrecognized command'
            )
        if self._unknown > self.parts.settings.smtp_max_unknown_commands:
            self.log_incomplete("unrecognized command")
            self.parts.log.main(
                f"SMTP call from {self.host} dropped: too many unrecognized commands "
                f'(last was "{command.line[:128]}")',
                rejection=True,
            )
            self.end(reply(500, "Too many unrecognized commands"), "bad-commands")
            return
        self.say(500, "unrecognized command")

    # --- the transaction --------------------------------------------------------

    def begin_transaction(self) -> Transaction:
        """A MAIL comes; what earlier ones left is forgotten."""
        transaction = self.connection.transaction = Transaction()
        self.refused_rcpt = None
        self.discarded_recipients = False
        self.discard_reason = ""
        return transaction

    def log_incomplete(self, why: str) -> None:
        """Log a message that was begun and is given up (log selector smtp_incomplete_transaction).

        The reasons are those that Exim has a line for.
        """
        transaction, log = self.connection.transaction, self.parts.log
        if transaction is None or not log.selected("smtp_incomplete_transaction"):
            return
        recipients = " ".join(recipient.address for recipient in transaction.recipients)
        log.main(
            f"H={self.host} incomplete transaction ({why}) from <{transaction.sender}>"
            + (f" for {recipients}" if recipients else "")
        )

    def replies_to_message(self, transaction: Transaction) -> int:
        """Return how many replies the end of a message has.

        In LMTP each RCPT that was taken has its own, in their order (RFC 2033 4.2, 4.3).  They
        are equal: what the spool has taken is the queue's for each of the recipients.
        """
        return max(1, transaction.recipients_taken) if self.connection.lmtp else 1

    def drop_message(self) -> None:
        """Forget the message in hand, and what was received of it."""
        if self.reception is not None:
            self.reception.abort()
            self.reception = None
        self.connection.transaction = None
        self.refused_rcpt = None

    def message_done(self) -> None:
        """A message was answered: the next one may begin."""
        self.reception = None
        self.connection.transaction = None
        self.refused_rcpt = None
        self._free.update(("RSET", "HELO", "EHLO", "LHLO"))

    # --- simple commands ----------------------------------------------------------

    def name_protocol(self) -> None:
        """Set ``$received_protocol`` (11.9): esmtp, s for TLS, a for AUTH, utf8 first (60)."""
        origin, transaction = self.connection.origin, self.connection.transaction
        utf8 = "utf8" if transaction is not None and transaction.smtputf8 else ""
        local = "local-" if self.connection.caller is not None else ""
        name = "lmtp" if self.connection.lmtp else "esmtp" if self.connection.esmtp else "smtp"
        secure = "s" if origin.tls_cipher else ""
        origin.protocol = utf8 + local + name + secure + ("a" if origin.authenticator else "")

    def tls_started(self) -> None:
        """TLS is on: the client must begin anew, nothing said in clear counts (RFC 3207 4.2)."""
        connection, origin = self.connection, self.connection.origin
        self.drop_message()
        self.only_rset = False
        connection.helo_seen = connection.esmtp = False
        origin.helo_name = ""
        origin.helo_verified = False
        origin.authenticator = origin.authenticated_id = origin.authenticated_sender = ""
        self.offer_nothing()
        self.name_protocol()

    def offer_nothing(self) -> None:
        """Take back what the last EHLO offered: the client says who it is anew."""
        self.offers_tls = self.offers_pipelining = self.offers_dsn = False
        self.offers_utf8 = self.offers_chunking = False
        self.mechanisms = []

    async def _rset(self, command: Command) -> None:
        self.log_incomplete("RSET")
        self.drop_message()
        self.only_rset = False
        self.say(250, "Reset OK")

    async def _noop(self, command: Command) -> None:
        self.say(250, "OK")

    async def _help(self, command: Command) -> None:
        words = ["AUTH"] if self.mechanisms else []
        words += ["STARTTLS"] if self.offers_tls else []
        words += ["LHLO"] if self.connection.lmtp else ["HELO", "EHLO"]
        words += ["MAIL", "RCPT", "DATA"]
        words += ["BDAT"] if self.offers_chunking else []
        words += ["NOOP", "QUIT", "RSET", "HELP"]
        configured = self.parts.policy.configured
        words += [
            phase.name
            for phase in (AclPhase.ETRN, AclPhase.EXPN, AclPhase.VRFY)
            if configured(phase)
        ]
        self.say(214, f"Commands supported:\n{' '.join(words)}")

    async def _quit(self, command: Command) -> None:
        self.log_incomplete("QUIT")
        verdict = await self.parts.policy.check(AclPhase.QUIT, self.connection)
        text = f"{self.connection.active_hostname} closing connection"
        if verdict.status is not None:
            text = verdict.status.text
        self.log_connection("closed by QUIT")
        if self.parts.log.selected("smtp_no_mail") and not self.connection.messages_received:
            self._log_no_mail()
        self.drop_message()
        self._done_with_acl = True
        self.end(reply(221, text), "")

    def _log_no_mail(self) -> None:
        commands = ",".join(self._history)
        self.parts.log.main(f"no MAIL in SMTP connection from {self.host} C={commands}")

    # --- the end ----------------------------------------------------------------

    async def lost(self, reason: str) -> None:
        """The connection is gone: log it, and run the ACL for an end without QUIT."""
        log, connection = self.parts.log, self.connection
        if self.reception is not None and not self.finished:
            if log.selected("lost_incoming_connection"):
                log.main(f"SMTP connection from {self.host} lost while reading message data")
        elif not self.finished:
            self._log_lost()
        if not self.storing:
            self.drop_message()
        self.stop_exchange()
        if self._done_with_acl or not (connection.notquit_reason or reason):
            return
        connection.notquit_reason = connection.notquit_reason or reason
        self._done_with_acl = True
        if self.parts.policy.configured(AclPhase.NOTQUIT):
            await self.parts.policy.check(AclPhase.NOTQUIT, connection)

    def _log_lost(self) -> None:
        """Log an end without QUIT between commands: as a loss only if a message had begun."""
        log = self.parts.log
        lasted = f"D={duration(self.parts.clock.seconds() - self._began)}"
        if self.connection.transaction is None:
            self.log_connection(f"lost {lasted}")
            return
        self.log_incomplete("connection lost")
        if log.selected("lost_incoming_connection"):
            log.main(
                f"unexpected disconnection while reading SMTP command from {self.host} {lasted}"
            )

    def timed_out(self) -> None:
        """The client was silent, or too slow, for longer than smtp_receive_timeout."""
        transaction = self.connection.transaction
        if self.channel.input.in_message:
            sender = transaction.sender if transaction else ""
            self.parts.log.main(
                f"SMTP data timeout (message abandoned) on connection from {self.host} F=<{sender}>"
            )
            self.drop_message()
            self.end(reply(421, "SMTP incoming data timeout"), "data-timeout")
            return
        secure = " TLS" if self.connection.origin.tls_cipher else ""
        self.parts.log.main(f"SMTP command timeout on{secure} connection from {self.host}")
        name = self.connection.active_hostname or self.parts.settings.primary_hostname
        self.end(
            reply(421, f"{name}: SMTP command timeout - closing connection"), "command-timeout"
        )

    def shut_down(self) -> None:
        """The server stops: tell a client that is between messages."""
        name = self.connection.active_hostname or self.parts.settings.primary_hostname
        self.drop_message()
        self.end(reply(421, f"{name}: Service not available - closing connection"), "signal-exit")


Handler = Callable[[Dialogue, Command], Awaitable[None]]

_HANDLERS: dict[str, Handler] = {
    "HELO": hello.hello,
    "EHLO": hello.hello,
    "MAIL": envelope.mail,
    "RCPT": envelope.rcpt,
    "DATA": content.data,
    "BDAT": content.bdat,
    "AUTH": login.begin,
    "STARTTLS": hello.starttls,
    "RSET": Dialogue._rset,
    "NOOP": Dialogue._noop,
    "HELP": Dialogue._help,
    "QUIT": Dialogue._quit,
    "VRFY": questions.vrfy,
    "EXPN": questions.expn,
    "ETRN": questions.etrn,
}
# Neither HELO nor EHLO may be taken (RFC 2033 4.1).
_LMTP_HANDLERS = {"LHLO": hello.hello} | {
    verb: handler for verb, handler in _HANDLERS.items() if verb not in ("HELO", "EHLO")
}

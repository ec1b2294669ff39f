"""One SMTP session: what is answered to each line, in Exim's words (RFC 5321).

A :class:`Dialogue` takes the events of ``wire/session.py`` one at a time.  Its
coroutines wait for nothing but policy, authentication and spool, so that most
run to their end without a Deferred.  It knows no transport: it acts on an
:class:`IChannel`.  MAIL and RCPT are in ``envelope.py``, AUTH in ``login.py``,
the message in ``reception.py``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError

from mailsrv.connection import envelope, login, wording
from mailsrv.connection.parts import IChannel, Parts
from mailsrv.connection.reception import Reception
from mailsrv.errors import MailFailure, TemporaryFailure
from mailsrv.expansion.hostname import lookup_host_name
from mailsrv.interfaces import AclPhase, Action, IAuthExchange, Verdict
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Transaction
from mailsrv.mail.status import LOCAL_PROBLEM
from mailsrv.wire.command import Command, SyntaxProblem, helo_is_valid, parse_bdat, parse_command
from mailsrv.wire.reply import from_status, reply
from mailsrv.wire.session import MAX_COMMAND, Event, Line, LongLine, Piece

# Nothing may follow these in the same packet (RFC 2920 3.1), nor the second
# group if PIPELINING was not offered.
_LAST_IN_GROUP = frozenset(("HELO", "EHLO", "DATA", "VRFY", "EXPN", "NOOP", "ETRN", "STARTTLS"))
_PIPELINED = frozenset(("MAIL", "RCPT", "RSET"))
# Commands of smtp_accept_max_nonmail; the second group's first use after each message is free.
_NONMAIL = frozenset(("NOOP", "ETRN", "EXPN", "VRFY", "HELP"))
_NONMAIL_LATER = frozenset(("RSET", "HELO", "EHLO", "AUTH", "STARTTLS"))
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
        self.offers_tls = False
        self.offers_pipelining = False
        self.offers_dsn = False
        self.offers_utf8 = False
        self.offers_chunking = False
        self.mechanisms: list[str] = []
        self.only_rset = False  # a BDAT sequence went wrong
        self.discarded_recipients = False  # an ACL took some, to throw them away
        self.refused_rcpt: bytes | None = None  # the reply, while all RCPTs had the same
        self.last_was_rcpt = False
        self._unknown = 0
        self._errors = 0
        self._nonmail = 0
        self._free = set(_NONMAIL_LATER)
        self._history: list[str] = []
        self._done_with_acl = False

    # --- the beginning --------------------------------------------------------

    async def greet(self, total: int, of_host: int) -> None:
        """Decide about a new connection, and greet it."""
        if await self._refused_by_limits(total, of_host):
            return
        connection, settings = self.connection, self.parts.settings
        expand = self.parts.expand
        name = await expand(settings.smtp_active_hostname, connection)
        connection.active_hostname = name or settings.primary_hostname
        if await self.parts.listed(settings.host_lookup, connection):
            await self._look_up_host()
        if await self.parts.listed(settings.host_reject_connection, connection):
            self.parts.log.main(f"refused connection from {self.host} (host_reject_connection)")
            self.end(reply(554, "SMTP service not available"), "connection-reject")
            return
        self.message_size_limit = await self._number(
            settings.message_size_limit, "message_size_limit"
        )
        self.messages_max = await self._number(
            settings.smtp_accept_max_per_connection, "smtp_accept_max_per_connection"
        )
        self.receive_timeout = await self._timeout()
        verdict = await self.parts.policy.check(AclPhase.CONNECT, connection)
        if not verdict.accepted:
            self._log_refusal(verdict, 'connection in "connect" ACL')
            assert verdict.status is not None, "a refusal has its reply"
            status = verdict.status
            code = 450 if status.code == 451 and status == LOCAL_PROBLEM else status.code
            self.end(reply(code, status.text), "acl-drop")
            return
        early = self.channel.sent_early()
        if early and self._enforces_sync():
            shown = early[:128].decode("latin-1")
            self.parts.log.main(
                "SMTP protocol synchronization error (input sent without waiting for greeting): "
                f'rejected connection from {self.host} input="{shown}"'
            )
            self.end(reply(554, "SMTP synchronization error"), "synchronization-error")
            return
        if verdict.status is not None:
            banner = verdict.status.text
        else:
            banner = await expand(settings.smtp_banner, connection)
        self.channel.write(reply(220, banner.strip("\n")))

    async def _refused_by_limits(self, total: int, of_host: int) -> bool:
        settings, origin = self.parts.settings, self.connection.origin
        limit = settings.smtp_accept_max or self.parts.file_limit
        reserve = settings.smtp_accept_reserve if settings.smtp_accept_max else 0
        over = bool(limit) and total > limit
        if not over and limit and reserve and total > limit - reserve:
            over = not await self.parts.listed(settings.smtp_reserve_hosts, self.connection)
        if over:
            self.parts.log.main(f"Connection from {self.host} refused: too many connections")
            text = "Too many concurrent SMTP connections; please try again later."
            self.end(reply(421, text), "")
            return True
        most = await self._number(settings.smtp_accept_max_per_host, "smtp_accept_max_per_host")
        if most and origin.host_address and of_host > most:
            self.parts.log.main(
                f"Connection from {self.host} refused: too many connections from that IP address"
            )
            text = (
                "Too many concurrent SMTP connections from this IP address; please try again later."
            )
            self.end(reply(421, text), "")
            return True
        return False

    async def _look_up_host(self) -> None:
        try:
            await lookup_host_name(self.connection.origin, self.connection, self.parts.resolver)
        except TemporaryFailure:
            pass  # the connection says that it was deferred; ACLs decide what that means

    async def _number(self, option: object, name: str) -> int:
        text = await self.parts.expand(option, self.connection)  # type: ignore[arg-type]
        try:
            return wording.number(text)
        except ValueError:
            raise TemporaryFailure(reason=f'bad value of {name}: "{text}"') from None

    async def _timeout(self) -> float:
        text = await self.parts.expand(self.parts.settings.smtp_receive_timeout, self.connection)
        try:
            return float(wording.seconds(text)) if text else 300.0
        except ValueError:
            raise TemporaryFailure(reason=f'bad value of smtp_receive_timeout: "{text}"') from None

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

    def protocol_error(self, code: int, text: str, *, syntax: bool = False) -> None:
        """Reply to a fault of the client, and count it (smtp_max_synprot_errors)."""
        kind = "syntax" if syntax else "protocol"
        if self.parts.log.selected(f"smtp_{kind}_error"):
            line = f"{self.connection.command} {self.connection.argument}".strip(" ")
            self.parts.log.main(f'SMTP {kind} error in "{line[:512]}" H={self.host} {text}')
        self._errors += 1
        if self._errors <= self.parts.settings.smtp_max_synprot_errors:
            self.say(code, text)
            return
        commands = ",".join(self._history[-20:])
        last = f"{self.connection.command} {self.connection.argument}".strip(" ")
        self.parts.log.main(
            f"SMTP call from {self.host} dropped: too many syntax or protocol errors "
            f'(last command was "{last[:128]}",  C={commands})'
        )
        self.end(reply(code, f"{text}\nToo many syntax or protocol errors"), "synprot-error")

    def refused(self, verdict: Verdict, what: str) -> bool:
        """Reply to and log a refusal of an ACL; tell whether it was one."""
        if verdict.accepted:
            return False
        self._log_refusal(verdict, what)
        assert verdict.status is not None, "a refusal has its reply"
        octets = from_status(verdict.status)
        if verdict.action is Action.DROP:
            self._log_connection("closed by DROP in ACL")
            self.end(octets, "acl-drop")
        else:
            self.channel.write(octets)
        return True

    def _log_refusal(self, verdict: Verdict, what: str) -> None:
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

    def _log_connection(self, text: str) -> None:
        if self.parts.log.selected("smtp_connection"):
            self.parts.log.main(f"SMTP connection from {self.host} {text}")

    def _enforces_sync(self) -> bool:
        chosen = self.connection.enforce_sync
        return self.parts.settings.smtp_enforce_sync if chosen is None else chosen

    # --- events ----------------------------------------------------------------

    async def handle(self, event: Event) -> None:
        """Answer one event.  Whatever goes wrong costs this command: 451."""
        try:
            if isinstance(event, Piece):
                assert self.reception is not None, "pieces come in a message"
                await self.reception.piece(event)
            elif isinstance(event, LongLine):
                await self._long_line()
            elif self.exchange is not None:
                await login.proceed(self, event.line)
            else:
                await self._command(event)
        except CancelledError as error:
            if self.gone:
                raise
            self.parts.log.panic(f"cancelled in SMTP session with {self.host}", error)
            self._give_up_command(reply(LOCAL_PROBLEM.code, LOCAL_PROBLEM.text))
        except MailFailure as failure:
            self.parts.log.main(f"{self.host}: {failure.reason}")
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
        del self._history[:-20]
        if not self._in_step(command):
            return
        if "\0" in command.line:
            self.protocol_error(501, "NUL characters are not allowed in SMTP commands", syntax=True)
            return
        if self._too_many_nonmail(command):
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
        handler = _HANDLERS.get(command.verb)
        if handler is None:
            self._unknown_command(command)
            return
        was_rcpt = command.verb == "RCPT"
        await handler(self, command)
        self.last_was_rcpt = was_rcpt

    def _in_step(self, command: Command) -> bool:
        """Refuse input that came before the answer to a command that ends a group."""
        if not (
            command.verb in _LAST_IN_GROUP
            or (command.verb in _PIPELINED and not self.offers_pipelining)
        ):
            return True
        # STARTTLS is checked even with enforce_sync off: what follows in clear is never run.
        if not (self._enforces_sync() or command.verb == "STARTTLS"):
            return True
        waiting = self.channel.input.waiting
        if not waiting:
            return True
        told = "" if self.offers_pipelining else " not"
        shown = waiting[:128].decode("latin-1")
        self.parts.log.main(
            "SMTP protocol synchronization error (next input sent too soon: pipelining was"
            f'{told} advertised): rejected "{command.line[:512]}" H={self.host} '
            f'next input="{shown}"'
        )
        self.end(reply(554, "SMTP synchronization error"), "synchronization-error")
        return False

    def _too_many_nonmail(self, command: Command) -> bool:
        if command.verb in self._free:
            self._free.discard(command.verb)
            return False
        if command.verb not in _NONMAIL and command.verb not in _NONMAIL_LATER:
            return False
        hosts = self.parts.settings.smtp_accept_max_nonmail_hosts
        if hosts is not None and hosts.constant == "":
            return False
        self._nonmail += 1
        if self._nonmail <= self.parts.settings.smtp_accept_max_nonmail:
            return False
        self.parts.log.main(
            f"SMTP call from {self.host} dropped: too many nonmail commands "
            f'(last was "{command.verb}")'
        )
        self.end(reply(554, "Too many nonmail commands"), "bad-commands")
        return True

    def _unknown_command(self, command: Command) -> None:
        self._unknown += 1
        if self._unknown > self.parts.settings.smtp_max_unknown_commands:
            self.parts.log.main(
                f"SMTP call from {self.host} dropped: too many unrecognized commands "
                f'(last was "{command.line[:128]}")'
            )
            self.end(reply(500, "Too many unrecognized commands"), "bad-commands")
            return
        if self.parts.log.selected("smtp_syntax_error"):
            self.parts.log.main(
                f'SMTP syntax error in "{command.line[:512]}" H={self.host} unrecognized command'
            )
        self.say(500, "unrecognized command")

    # --- the transaction --------------------------------------------------------

    def begin_transaction(self) -> Transaction:
        """A MAIL comes; what earlier ones left is forgotten."""
        transaction = self.connection.transaction = Transaction()
        self.refused_rcpt = None
        self.discarded_recipients = False
        return transaction

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
        self._free.update(("RSET", "HELO", "EHLO"))

    # --- simple commands ----------------------------------------------------------

    async def _helo(self, command: Command) -> None:
        connection, settings = self.connection, self.parts.settings
        name = command.argument
        good = helo_is_valid(name, settings.helo_allow_chars)
        if not good:
            junk = await self.parts.listed(settings.helo_accept_junk_hosts, connection)
            good = bool(name) and junk
        if not good:
            self.parts.log.main(
                f"rejected {command.verb} from {self.host}: syntactically invalid argument(s): "
                f"{name or '(no argument given)'}"
            )
            self.protocol_error(
                501, f"Syntactically invalid {command.verb} argument(s)", syntax=True
            )
            return
        connection.origin.helo_name = name
        connection.origin.helo_verified = False
        if await self._helo_refused():
            return
        verdict = await self.parts.policy.check(AclPhase.HELO, connection)
        if self.refused(verdict, "EHLO or HELO"):
            connection.origin.helo_name = ""
            connection.helo_seen = False
            return
        self.drop_message()
        connection.helo_seen = True
        connection.esmtp = command.verb == "EHLO"
        self.name_protocol()
        origin = connection.origin
        if verdict.status is not None:
            first = verdict.status.text
        elif origin.host_address:
            client = f"{origin.host_name} [{origin.host_address}]".lstrip(" ")
            if not origin.host_name:
                client = f"{name} [{origin.host_address}]"
            first = f"{connection.active_hostname} Hello {client}"
        else:
            first = f"{connection.active_hostname} Hello {name}"
        lines = [first]
        if connection.esmtp:
            lines += await self._extensions()
        self.say(250, "\n".join(lines))

    async def _helo_refused(self) -> bool:
        """Check the HELO name where the options ask for it (helo_verify_hosts)."""
        connection, settings = self.connection, self.parts.settings
        must = await self.parts.listed(settings.helo_verify_hosts, connection)
        if not must and not await self.parts.listed(settings.helo_try_verify_hosts, connection):
            return False
        await self._verify_helo()
        if not must or connection.origin.helo_verified:
            return False
        self.parts.log.main(
            f'rejected "{connection.command} {connection.origin.helo_name}" from {self.host}'
        )
        connection.origin.helo_name = ""
        self.say(550, f"{connection.command} argument does not match calling host")
        return True

    async def _verify_helo(self) -> None:
        """The name verifies if it is the literal, the looked-up name, or leads to the address."""
        origin = self.connection.origin
        name = origin.helo_name.lower()
        if name.startswith("["):
            literal = name.strip("[]").removeprefix("ipv6:")
            origin.helo_verified = literal == origin.host_address.lower()
            return
        await self._look_up_host()
        if origin.host_name and origin.host_name.lower() == name:
            origin.helo_verified = True
        elif self.parts.resolver is not None:
            try:
                found = await self.parts.resolver.addresses(name)
            except TemporaryFailure:
                return
            origin.helo_verified = origin.host_address in found

    async def _extensions(self) -> list[str]:
        """The keywords of EHLO, in Exim's order."""
        parts, connection = self.parts, self.connection
        settings, policy, listed = parts.settings, parts.policy, parts.listed
        limit = self.message_size_limit
        lines = [f"SIZE {limit}" if limit else "SIZE"]
        if settings.accept_8bitmime:
            lines.append("8BITMIME")
        self.offers_dsn = await listed(settings.dsn_advertise_hosts, connection)
        if self.offers_dsn:
            lines.append("DSN")
        lines += [
            phase.name
            for phase in (AclPhase.ETRN, AclPhase.VRFY, AclPhase.EXPN)
            if policy.configured(phase)
        ]
        self.offers_pipelining = await listed(settings.pipelining_advertise_hosts, connection)
        if self.offers_pipelining:
            lines.append("PIPELINING")
        self.mechanisms = []
        if await listed(settings.auth_advertise_hosts, connection):
            self.mechanisms = await parts.authentication.advertised(connection)
        if self.mechanisms:
            lines.append(f"AUTH {' '.join(self.mechanisms)}")
        self.offers_chunking = await listed(settings.chunking_advertise_hosts, connection)
        if self.offers_chunking:
            lines.append("CHUNKING")
        self.offers_tls = (
            not connection.origin.tls_cipher
            and not connection.tls_on_connect
            and parts.tls is not None
            and parts.tls.configured
            and await listed(settings.tls_advertise_hosts, connection)
        )
        if self.offers_tls:
            lines.append("STARTTLS")
        self.offers_utf8 = await listed(settings.smtputf8_advertise_hosts, connection)
        if self.offers_utf8:
            lines.append("SMTPUTF8")
        lines.append("HELP")
        return lines

    def name_protocol(self) -> None:
        """Set ``$received_protocol`` (specification 11.9): esmtp, s for TLS, a for AUTH."""
        origin = self.connection.origin
        name = "esmtp" if self.connection.esmtp else "smtp"
        secure = "s" if origin.tls_cipher else ""
        origin.protocol = name + secure + ("a" if origin.authenticator else "")

    async def _starttls(self, command: Command) -> None:
        connection = self.connection
        if not self.offers_tls or self.parts.tls is None:
            self.protocol_error(503, "STARTTLS command used when not advertised")
            return
        verdict = await self.parts.policy.check(AclPhase.STARTTLS, connection)
        if self.refused(verdict, "STARTTLS"):
            return
        if not self._in_step(command):
            return
        try:
            context = await self.parts.tls.context(self.parts.scope(connection))
        except TemporaryFailure as failure:
            self.parts.log.main(f"TLS error on connection from {self.host}: {failure.reason}")
            self.say(454, "TLS currently unavailable")
            return
        self.drop_message()
        self.say(220, "TLS go ahead")
        self.channel.start_tls(context)

    def tls_started(self) -> None:
        """TLS is on: the client must begin anew, nothing said in clear counts (RFC 3207 4.2)."""
        connection, origin = self.connection, self.connection.origin
        self.drop_message()
        self.only_rset = False
        connection.helo_seen = connection.esmtp = False
        origin.helo_name = ""
        origin.helo_verified = False
        origin.authenticator = origin.authenticated_id = origin.authenticated_sender = ""
        self.offers_tls = self.offers_pipelining = self.offers_dsn = False
        self.offers_utf8 = self.offers_chunking = False
        self.mechanisms = []
        self.name_protocol()

    async def _rset(self, command: Command) -> None:
        self.drop_message()
        self.only_rset = False
        self.say(250, "Reset OK")

    async def _noop(self, command: Command) -> None:
        self.say(250, "OK")

    async def _help(self, command: Command) -> None:
        words = ["AUTH"] if self.mechanisms else []
        words += ["STARTTLS"] if self.offers_tls else []
        words += ["HELO", "EHLO", "MAIL", "RCPT", "DATA"]
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
        verdict = await self.parts.policy.check(AclPhase.QUIT, self.connection)
        text = f"{self.connection.active_hostname} closing connection"
        if verdict.status is not None:
            text = verdict.status.text
        self._log_connection("closed by QUIT")
        if self.parts.log.selected("smtp_no_mail") and not self.connection.messages_received:
            self._log_no_mail()
        self.drop_message()
        self._done_with_acl = True
        self.end(reply(221, text), "")

    def _log_no_mail(self) -> None:
        commands = ",".join(self._history)
        self.parts.log.main(f"no MAIL in SMTP connection from {self.host} C={commands}")

    async def _question(self, command: Command) -> None:
        """VRFY and EXPN: the ACL's answer."""
        phase = AclPhase[command.verb]
        if not command.argument:
            self.say(501, "empty address" if phase is AclPhase.VRFY else "missing address")
            return
        verdict = await self.parts.policy.check(phase, self.connection, command.argument)
        if verdict.accepted and verdict.status is None:
            # What an address stands for is not told; that it is acceptable is.
            self.say(252, "Cannot VRFY user; try RCPT TO to attempt delivery (or try finger)")
        elif verdict.accepted:
            assert verdict.status is not None, "the other case is above"
            self.channel.write(from_status(verdict.status))
        else:
            self.refused(verdict, f"{command.verb} {command.argument[:256]}")

    async def _etrn(self, command: Command) -> None:
        if self.connection.transaction is not None:
            self.protocol_error(503, "ETRN is not permitted inside a transaction")
            return
        if not command.argument:
            self.say(501, "missing argument")
            return
        verdict = await self.parts.policy.check(AclPhase.ETRN, self.connection, command.argument)
        if not self.refused(verdict, f"ETRN {command.argument[:256]}"):
            # Each deferred delivery has its own time: there is no queue run to start.
            self.say(458, "Unable to queue messages for this node")

    async def _data(self, command: Command) -> None:
        if self._no_message_yet("DATA"):
            return
        transaction = self.connection.transaction
        assert transaction is not None, "there are recipients, or it is discarded"
        verdict = await self.parts.policy.check(AclPhase.PREDATA, self.connection)
        if self.refused(verdict, "DATA"):
            return
        if not self._in_step(command):
            return
        if not await self._has_room():
            return
        self.reception = Reception(self, transaction, chunked=False)
        text = 'Enter message, ending with "." on a line by itself'
        self.say(354, verdict.status.text if verdict.status is not None else text)
        self.channel.input.begin_data()

    async def _bdat(self, command: Command) -> None:
        try:
            size, last = parse_bdat(command.argument)
        except SyntaxProblem as problem:
            self.drop_message()
            self.protocol_error(501, problem.text, syntax=True)
            return
        if self.reception is None and not await self._may_begin_chunks():
            # All its octets are swallowed (RFC 3030 2): they are no commands.
            self.reception = None if self.finished else Reception.swallowing(self)
        if self.reception is not None:
            self.reception.begin_chunk(size, last)
            self.channel.input.begin_chunk(size)

    async def _may_begin_chunks(self) -> bool:
        if not self.offers_chunking:
            self.protocol_error(503, "BDAT command used when CHUNKING not advertised")
            return False
        if self._no_message_yet("BDAT"):
            return False
        verdict = await self.parts.policy.check(AclPhase.PREDATA, self.connection)
        if self.refused(verdict, "DATA") or not await self._has_room():
            return False
        transaction = self.connection.transaction
        assert transaction is not None, "it has recipients, or is discarded"
        self.reception = Reception(self, transaction, chunked=True)
        return True

    def _no_message_yet(self, verb: str) -> bool:
        transaction = self.connection.transaction
        if transaction is not None and (transaction.recipients or transaction.discarded):
            return False
        if transaction is not None and self.discarded_recipients:
            return False
        text = f"valid RCPT command must precede {verb}"
        if self.refused_rcpt is not None:
            lines = self.refused_rcpt.decode("latin-1").rstrip("\r\n").split("\r\n")
            text = "\n".join(["All RCPT commands were rejected with this error:", *lines, text])
        if self.offers_pipelining and self.last_was_rcpt:
            self.say(503, text)  # a client that pipelines could not know
        else:
            self.protocol_error(503, text)
        return True

    async def _has_room(self) -> bool:
        """Check the spool's disk before a message is taken (check_spool_space)."""
        settings = self.parts.settings
        if envelope.has_room(settings, 0):
            return True
        self.parts.log.main("SMTP message refused: space or inodes short in the spool")
        self.say(452, "Space shortage, please try later")
        return False

    # --- the end ----------------------------------------------------------------

    async def lost(self, reason: str) -> None:
        """The connection is gone: log it, and run the ACL for an end without QUIT."""
        log, connection = self.parts.log, self.connection
        if self.reception is not None and not self.finished:
            if log.selected("lost_incoming_connection"):
                log.main(f"SMTP connection from {self.host} lost while reading message data")
        elif not self.finished:
            sender = connection.transaction.sender if connection.transaction else None
            text = f"unexpected disconnection while reading SMTP command from {self.host}"
            if sender is not None:
                text += f" F=<{sender}>"
            if log.selected("lost_incoming_connection"):
                log.main(text)
        if not self.storing:
            self.drop_message()
        self.stop_exchange()
        if self._done_with_acl or not (connection.notquit_reason or reason):
            return
        connection.notquit_reason = connection.notquit_reason or reason
        self._done_with_acl = True
        if self.parts.policy.configured(AclPhase.NOTQUIT):
            await self.parts.policy.check(AclPhase.NOTQUIT, connection)

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
    "HELO": Dialogue._helo,
    "EHLO": Dialogue._helo,
    "MAIL": envelope.mail,
    "RCPT": envelope.rcpt,
    "DATA": Dialogue._data,
    "BDAT": Dialogue._bdat,
    "AUTH": login.begin,
    "STARTTLS": Dialogue._starttls,
    "RSET": Dialogue._rset,
    "NOOP": Dialogue._noop,
    "HELP": Dialogue._help,
    "QUIT": Dialogue._quit,
    "VRFY": Dialogue._question,
    "EXPN": Dialogue._question,
    "ETRN": Dialogue._etrn,
}

"""The modifiers of ACL statements (44.21), but ``control`` (``controls.py``)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mailsrv.acl.item import Item, not_in_mailsrv
from mailsrv.acl.model import ALL_PHASES, MESSAGE_PHASES, PHASE_NAMES, SMTP_PHASES, Undecided
from mailsrv.config.types import parse_time
from mailsrv.errors import ConfigError, Position
from mailsrv.expansion.lists import split_list
from mailsrv.expansion.separated import separator_of
from mailsrv.interfaces import AclPhase
from mailsrv.mail.taint import like
from mailsrv.net.datagram import send_datagram

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation

# The longest delay that is imposed, in seconds: no client waits longer (RFC 5321 4.5.3.2).
LONGEST_DELAY = 3600


class Modifier(Item):
    """What takes effect when it is reached, and is always met."""

    deed = "use"
    negatable = False


class Message(Modifier):
    """The reply's text, expanded when the ACL ends with this statement."""

    name = "message"

    async def test(self, run: Evaluation) -> bool:
        """Take effect; always met."""
        run.state.message = self.argument
        return True


class LogMessage(Modifier):
    """The log's text, expanded when the ACL ends with this statement."""

    name = "log_message"

    async def test(self, run: Evaluation) -> bool:
        """Take effect; always met."""
        run.state.log_message = self.argument
        return True


class Endpass(Modifier):
    """Conditions that fail after it deny."""

    name = "endpass"
    takes_argument = False
    verbs = frozenset({"accept", "discard"})

    async def test(self, run: Evaluation) -> bool:
        """Take effect; always met."""
        run.state.endpass = True
        return True


class Continue(Modifier):
    """Expanded for what its expansion does."""

    name = "continue"

    async def test(self, run: Evaluation) -> bool:
        """Take effect; always met."""
        await run.expanded(self.argument)
        return True


class SetVariable(Modifier):
    """``set acl_c… = `` or ``set acl_m… =`` (44.19)."""

    name = "set"
    variable = ""

    @classmethod
    def named(cls, variable: str, value: str, text: str, where: Position | None) -> SetVariable:
        """Make the modifier of a variable.

        :raises ConfigError: if the variable's name is none.
        """
        problem = ""
        if variable in ("dkim_verify_status", "dkim_verify_reason"):
            made = cls(value, where)
            made.late = not_in_mailsrv(f'"set {variable}"', where)
            return made
        bad = re.search(r"[^A-Za-z0-9_]", variable)
        if not variable.startswith(("acl_c", "acl_m")):
            problem = '(must start "acl_c" or "acl_m")'
        elif not re.match(r"[0-9_]", variable[5:]):
            problem = "(digit or underscore must follow acl_c or acl_m)"
        if problem:
            what = f'invalid variable name after "set" in ACL modifier "set {text}" {problem}'
            raise ConfigError(what, where)
        if bad:
            raise ConfigError(
                f'invalid character "{bad[0]}" in variable name in ACL modifier "set {text}"', where
            )
        made = cls(value, where)
        made.variable = variable.removeprefix("acl_")
        return made

    async def test(self, run: Evaluation) -> bool:
        """Take effect; always met.

        :raises Undecided: the variable is one of DKIM's.
        """
        if self.late is not None:
            raise Undecided(log=self.late.problem, error=True)
        value = await run.expanded(self.argument)
        if self.variable.startswith("c"):
            run.connection.origin.acl_c[self.variable] = value
        else:
            run.transaction.acl_m[self.variable] = value
        return True


class Delay(Modifier):
    """Wait; a lost connection cancels the wait with the whole command."""

    name = "delay"
    phases = ALL_PHASES - {AclPhase.NOTQUIT}

    async def test(self, run: Evaluation) -> bool:
        """Take effect; always met."""
        # Imported here: a check of a configuration needs no event loop.
        from twisted.internet.defer import Deferred

        text = await run.expanded(self.argument)
        try:
            seconds = parse_time(text)
        except ConfigError:
            log = f'syntax error in argument for "delay" modifier: "{text}" is not a time value'
            raise Undecided(log=log, error=True) from None
        if seconds > 0:
            waiting: Deferred[None] = Deferred(lambda _: call.cancel())
            call = run.clock.callLater(min(seconds, LONGEST_DELAY), waiting.callback, None)
            await waiting
        return True


class LogWrite(Modifier):
    """Write a line to a log at once; ``:main,reject,panic:`` before it chooses the logs."""

    name = "logwrite"

    async def test(self, run: Evaluation) -> bool:
        """Take effect; always met."""
        text = await run.expanded(self.argument)
        logs = ["main"]
        if text.startswith(":") and ":" in text[1:]:
            names, _, line = text[1:].partition(":")
            logs = [name.strip(" ") for name in names.split(",")]
            if not set(logs) <= {"main", "reject", "panic"}:
                phase = PHASE_NAMES[run.phase]
                problem = f':unknown log name in "{text}" in "logwrite" in {phase} ACL'
                run.log.panic(problem.lstrip(":"))
                logs = ["main"]
            text = line
        text = text.lstrip(" \t\n")
        if "panic" in logs:
            run.log.panic(text)
        if "main" in logs:
            run.log.main(text, run.message_id, rejection="reject" in logs)
        elif "reject" in logs:
            run.log.reject(text, run.message_id)
        return True


class LogRejectTarget(Modifier):
    """Whether a refusal is logged: an empty list means that it is not."""

    name = "log_reject_target"

    def __init__(self, argument: str, where: Position | None) -> None:
        super().__init__(argument, where)
        constant = self.argument.constant
        if constant is not None and _targets(constant) not in (set(), {"main", "reject"}):
            self.late = ConfigError(f'unknown log name in "log_reject_target = {constant}"', where)
            if _targets(constant) <= {"main", "reject", "panic"}:
                self.late = not_in_mailsrv(f'"log_reject_target = {constant}"', where)

    async def test(self, run: Evaluation) -> bool:
        """Take effect; always met."""
        run.log_refusal = bool(_targets(await run.expanded(self.argument)))
        return True


def _targets(text: str) -> set[str]:
    return {name for name in (part.strip(" \t\n") for part in text.split(":")) if name}


_PLACE = re.compile(r":(?:at_start|at_start_rfc|after_received|at_end):[ \t]*")
_FIELD = re.compile(r"[!-9;-~]+[ \t]*:")


def header_lines(text: str) -> list[str]:
    """Return the header fields that ``add_header`` gives (44.24), ``:at_start:`` before them kept.

    A line that is no header field gets ``X-ACL-Warn:``; a line that begins
    with a blank continues the one before.  CR and NUL never pass.
    """
    text = re.sub(r"[\r\x00]", "", text).strip("\n")
    fields: list[str] = []
    for line in re.split(r"\n(?![ \t])", text) if text else []:
        place = _PLACE.match(line)
        body = line[place.end() :] if place else line
        if not body.strip(" \t\n"):
            continue
        if not _FIELD.match(body):
            body = f"X-ACL-Warn: {body}"
        prefix = place[0].rstrip(" \t") if place and place[0] != ":at_end:" else ""
        fields.append(like(prefix + body, text))
    return fields


class AddHeader(Modifier):
    """Header fields for the message, if it is accepted."""

    name = "add_header"
    phases = MESSAGE_PHASES

    async def test(self, run: Evaluation) -> bool:
        """Take effect; always met."""
        run.add_headers(await run.expanded(self.argument))
        return True


class RemoveHeader(Modifier):
    """Names of header fields that are taken from the message (44.25)."""

    name = "remove_header"
    phases = MESSAGE_PHASES

    async def test(self, run: Evaluation) -> bool:
        """Take effect; always met."""
        names = split_list(await run.expanded(self.argument))
        run.transaction.removed_headers.extend(name for name in names if name)
        return True


class Queue(Modifier):
    """The name of a queue; mailsrv has one."""

    name = "queue"
    phases = SMTP_PHASES - {AclPhase.DATA}

    def notes(self) -> Iterator[str]:
        """See :meth:`Item.notes`."""
        yield "queue has no effect here: there is one queue, and the message is in it"

    async def test(self, run: Evaluation) -> bool:
        """Take effect; always met."""
        await run.expanded(self.argument)
        return True


class UdpSend(Modifier):
    """Send a datagram: server, port and text, separated as in a list (44.21)."""

    name = "udpsend"

    async def test(self, run: Evaluation) -> bool:
        """Take effect; always met."""
        text = await run.expanded(self.argument)
        separator, rest = separator_of(text)
        host, port, data = (part.strip(" \t\n") for part in [*rest.split(separator, 2), "", ""][:3])
        if not host or not port.isdigit() or not data:
            what = "host" if not host else "port number" if not port.isdigit() else "string"
            raise Undecided(log=f'missing or malformed {what} in "udpsend" modifier', error=True)
        addresses: tuple[str, ...] = (host,)
        if run.resolver is not None:
            addresses = await run.resolver.addresses(host)
        if not addresses:
            raise Undecided(log=f'"udpsend" unknown host {host}')
        try:
            send_datagram(addresses[0], int(port), data.encode("latin-1"))
        except OSError as error:
            raise Undecided(log=f'"udpsend" to {host} failed: {error.strerror}') from error
        return True


MODIFIERS: tuple[type[Modifier], ...] = (
    AddHeader,
    Continue,
    Delay,
    Endpass,
    LogMessage,
    LogRejectTarget,
    LogWrite,
    Message,
    Queue,
    RemoveHeader,
    SetVariable,
    UdpSend,
)

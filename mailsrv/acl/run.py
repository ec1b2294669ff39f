"""All ACLs of a configuration, as the SMTP server asks them (:class:`mailsrv.interfaces.IPolicy`).

:class:`Acls` finds the ACL of a phase, runs it and makes the reply of its
decision.  Default texts and codes are Exim's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from mailsrv.acl.evaluation import Evaluation
from mailsrv.acl.model import MESSAGE_PHASES, PHASE_NAMES, Acl, AclTable, Undecided
from mailsrv.acl.parse import parse_text
from mailsrv.errors import ConfigError, MailFailure
from mailsrv.expansion.errors import ExpansionError, ForcedFailure
from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.template import Template
from mailsrv.interfaces import (
    AclPhase,
    Action,
    ICallout,
    IClock,
    IMailLog,
    IRates,
    IResolver,
    IVerifier,
    Verdict,
)
from mailsrv.mail.address import split, unquoted
from mailsrv.mail.case import lower
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Recipient, Transaction
from mailsrv.mail.routed import RoutedAddress
from mailsrv.mail.status import LOCAL_PROBLEM, Status
from mailsrv.mail.taint import is_tainted, like

PROHIBITED = "Administrative prohibition"

# Unset, these deny (44.14); the others accept.
_DENY_UNSET = frozenset({AclPhase.RCPT, AclPhase.ETRN, AclPhase.EXPN, AclPhase.VRFY})
_DECIDE_NOTHING = frozenset({AclPhase.QUIT, AclPhase.NOTQUIT})
_MAY_DISCARD = MESSAGE_PHASES - {AclPhase.PREDATA, AclPhase.NOT_SMTP_START}
# A discard here is one for the whole message.
_DISCARDS_MESSAGE = frozenset({AclPhase.MAIL, AclPhase.DATA, AclPhase.NOT_SMTP})

_REFUSAL_CODES = {AclPhase.VRFY: 252, AclPhase.ETRN: 458, AclPhase.AUTH: 503}
_ACCEPT_CODES = {
    AclPhase.CONNECT: 220,
    AclPhase.STARTTLS: 220,
    AclPhase.QUIT: 221,
    AclPhase.NOTQUIT: 421,
    AclPhase.PREDATA: 354,
}
_CODE = re.compile(r"([0-9]{3}) (?:([0-9])\.([0-9]{1,3})\.([0-9]{1,3})(?:[ ]|$))?")
_ACCEPTED = Verdict(Action.ACCEPT)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # a tab may stand in a reply (RFC 5321 4.2)

ReadFile = Callable[[str], str]


def _read(path: str) -> str:
    with open(path, encoding="latin-1", newline="") as file:
        return file.read()


class Acls:
    """Provides :class:`mailsrv.interfaces.IPolicy`.

    ``options`` maps a phase to the value of its ``acl_smtp_…`` option;
    ``read_file`` reads the text of an ACL that is named by its path, once.
    ``unbuilt`` are the options that a phase would obey and cannot: it defers.
    """

    def __init__(
        self,
        table: AclTable,
        options: Mapping[AclPhase, Template | None],
        services: Services,
        *,
        verifier: IVerifier,
        callout: ICallout | None = None,
        resolver: IResolver | None,
        clock: IClock,
        log: IMailLog,
        rates: IRates | None = None,
        read_file: ReadFile = _read,
        unbuilt: Mapping[AclPhase, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self.table = table
        self.options = {phase: option for phase, option in options.items() if option is not None}
        self.services = services
        self.verifier = verifier
        self.callout = callout
        self.resolver = resolver
        self.clock = clock
        self.log = log
        self.rates = rates
        self._read_file = read_file
        self._unbuilt = unbuilt
        self._texts: dict[str, Acl] = {}  # files and inline texts that have been read

    # --- IPolicy -------------------------------------------------------------

    def configured(self, phase: AclPhase) -> bool:
        """Tell whether an ACL is set for the phase."""
        return phase in self.options or phase in self._unbuilt

    async def check(self, phase: AclPhase, connection: Connection, address: str = "") -> Verdict:
        """Run the ACL of a phase; see :class:`mailsrv.interfaces.IPolicy`."""
        option = self.options.get(phase)
        if option is None and phase not in self._unbuilt:
            return _denied(phase) if phase in _DENY_UNSET else _ACCEPTED
        unbuilt = self._unbuilt.get(phase, ())
        transaction = connection.transaction or Transaction()
        scope = Scope(
            self.services,
            connection=connection,
            message=transaction,
            origin=connection.origin,
            address=_routed(address) if address else None,
        )
        run = Evaluation(self, phase, connection, transaction, scope)
        variables, connection.acl_phase = connection.variables, phase.value
        try:
            if option is None or unbuilt:
                log = f"{' and '.join(unbuilt)}: known to Exim, not to mailsrv"
                raise Undecided(log=log, error=True)
            action = await self._run(run, option)
        except Undecided as undecided:
            run.text, run.log_text = undecided.text, undecided.log
            action = Action.DEFER
        except MailFailure as failure:
            run.text, run.log_text = "", failure.explained
            action = Action.DEFER
        except Exception as error:  # a bug costs this command alone
            if _is_cancellation(error):
                raise
            self.log.panic(f"{PHASE_NAMES[phase]} ACL failed", error)
            run.text, run.log_text = "", f"{type(error).__name__} in {PHASE_NAMES[phase]} ACL"
            action = Action.DEFER
        finally:  # $host_data and the like last for one ACL
            connection.variables = variables
            connection.acl_verify_message = ""
        return self._verdict(run, action)

    async def call(
        self, name: str, arguments: tuple[str, ...], scope: Scope
    ) -> tuple[bool | None, str]:
        """Run an ACL for ``${acl{…}}`` (11.5) or the condition ``acl`` (11.7).

        Returns whether it accepted (None: it deferred), and its message.

        :raises ExpansionError: there is no connection, or no such ACL.
        """
        connection = scope.connection
        if connection is None:
            raise ExpansionError(f'acl "{name}" cannot be called here')
        transaction = connection.transaction or Transaction()
        phase = AclPhase(connection.acl_phase or AclPhase.CONNECT.value)
        run = Evaluation(self, phase, connection, transaction, scope.within({}))
        before, connection.acl_args = connection.acl_args, arguments
        try:
            action = await run.obey(await self.find(name, run))
        except Undecided as undecided:
            if undecided.error:
                raise ForcedFailure(f'ERROR from acl "{name}"') from undecided
            return None, undecided.text
        finally:
            connection.acl_args = before
        if action is Action.DEFER:
            return None, run.text
        return action in (Action.ACCEPT, Action.DISCARD), run.text

    # --- finding an ACL (44.12) ----------------------------------------------

    def named(self, name: str) -> Acl | None:
        """Return the ACL of the section with this name."""
        return self.table.acls.get(name)

    async def find(self, text: str, run: Evaluation) -> Acl | None:
        """Return the ACL that an expanded string means; None for an empty one.

        :raises Undecided: it cannot be read, or a peer chose the text.
        """
        if is_tainted(text):
            self.log.panic(f'attempt to use tainted ACL text "{text}"')
            raise Undecided(log="internal configuration error", error=True)
        text = text.strip(" \t\n")
        known = self.table.acls.get(text) or self._texts.get(text)
        if known is not None or not text:
            return known
        if text.startswith("/"):
            source, name = self._from_file(text), text
        else:
            source, name = text, ""
        try:
            acl = parse_text(source, name)
        except ConfigError as error:
            raise Undecided(log=str(error), error=True) from error
        self._texts[text] = acl
        return acl

    def _from_file(self, path: str) -> str:
        """Read a file that the configuration names; it is small, local and read once a process."""
        try:
            return self._read_file(path)
        except OSError as error:
            log = f'failed to open ACL file "{path}": {error.strerror}'
            raise Undecided(log=log, error=True) from error

    # --- running -------------------------------------------------------------

    async def _run(self, run: Evaluation, option: Template) -> Action:
        try:
            text = await run.expanded(option)
        except ForcedFailure:
            return Action.ACCEPT
        action = await run.obey(await self.find(text, run))
        return self._permitted(run, action)

    def _permitted(self, run: Evaluation, action: Action) -> Action:
        """Refuse outcomes that make no sense in the phase, as Exim does."""
        phase = PHASE_NAMES[run.phase]
        if run.phase in _DECIDE_NOTHING:
            if action is not Action.ACCEPT and run.decided_by is not None:
                verb = run.decided_by.value
                name = "QUIT" if run.phase is AclPhase.QUIT else "not-QUIT"
                self.log.panic(
                    f"ACL for {name} returned ERROR: "
                    f"QUIT or not-QUIT toplevel ACL may not fail ('{verb}' verb used incorrectly)"
                )
        elif action is Action.DISCARD and run.phase not in _MAY_DISCARD:
            self.log.panic(f'"discard" verb not allowed in {phase} ACL')
            raise Undecided(error=True)
        return action

    # --- the reply -----------------------------------------------------------

    def _verdict(self, run: Evaluation, action: Action) -> Verdict:
        if run.phase in _DECIDE_NOTHING:
            text = run.text if action is Action.ACCEPT else ""
            status = Status(_ACCEPT_CODES[run.phase], 0, 0, _clean(text)) if text else None
            return Verdict(Action.ACCEPT, status)
        if action is Action.DISCARD and run.phase in _DISCARDS_MESSAGE:
            run.transaction.discarded = True
        if action in (Action.ACCEPT, Action.DISCARD):
            status = self._status(run, _ACCEPT_CODES.get(run.phase, 250)) if run.text else None
            return Verdict(action, status, _first_line(run.log_text))
        refusal = 451 if action is Action.DEFER else _REFUSAL_CODES.get(run.phase, 550)
        status = self._status(run, refusal)
        log = _first_line(run.log_text)
        if action is not Action.DEFER:
            status = self._with_details(run, status)
        return Verdict(action, status, log, run.log_refusal, bare=not log)

    def _status(self, run: Evaluation, code: int) -> Status:
        """Return the reply, with the code that the text may begin with (44.21)."""
        text = _clean(run.text)
        if run.connection.one_line_replies:
            text = text.partition("\n")[0]
        if not text:
            default = LOCAL_PROBLEM.text if code == LOCAL_PROBLEM.code else PROHIBITED
            return Status(code, 0, 0, default)
        match = _CODE.match(text)
        if match is None:
            return Status(code, 0, 0, text)
        rest = text[match.end() :]
        if match[1][0] != str(code)[0] and run.phase is not AclPhase.VRFY:
            self.log.panic(
                "configured error code starts with incorrect digit "
                f'(expected {code // 100}) in "{text}"'
            )
            if run.log_text == run.text:
                run.log_text = f"{code} {rest}"
            return Status(code, 0, 0, rest)
        code = int(match[1])
        if match[2] is None or int(match[2]) != code // 100:
            return Status(code, 0, 0, text[4:])
        return Status(code, int(match[3]), int(match[4]), rest)

    def _with_details(self, run: Evaluation, status: Status) -> Status:
        """Put the details of a failed sender verification before the text, once (44.50)."""
        details = run.memory.pop("sender verify details", None)
        if not isinstance(details, tuple) or run.phase is AclPhase.CONNECT:
            return status
        sender, why = details
        if self.log.selected("sender_verify_fail"):
            run.warn(f"sender verify fail for <{sender}>: {why}")
        if run.connection.one_line_replies:
            return status
        return status.saying(_clean(f"Verification failed for <{sender}>\n{why}\n{status.text}"))


def _denied(phase: AclPhase) -> Verdict:
    """Return what a phase answers that is not open to anybody without an ACL."""
    code = _REFUSAL_CODES.get(phase, 550)
    return Verdict(Action.DENY, Status(code, 0, 0, PROHIBITED), bare=True)


def _is_cancellation(error: Exception) -> bool:
    """Tell whether the caller ended the wait: the connection is lost."""
    from twisted.internet.defer import CancelledError  # here, so that -bV stays quick

    return isinstance(error, CancelledError)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _clean(text: str) -> str:
    """Make a text fit for a reply: no control character but the ends of lines, none empty."""
    lines = [_UNPRINTABLE.sub("?", line.strip(" \r\t")) for line in text.split("\n")]
    return "\n".join(line for line in lines if line)


def _routed(address: str) -> RoutedAddress:
    """Return the address in hand as ``$local_part`` and ``$domain`` see it."""
    local_part, domain = split(address)
    local_part = unquoted(local_part)
    return RoutedAddress(
        Recipient(address),
        address,
        like(lower(local_part), address),
        like(lower(domain), address),
    )

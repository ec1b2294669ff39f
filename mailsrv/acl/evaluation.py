"""One run of an ACL: statements in order, conditions from left to right (44.18, 44.20).

The texts follow Exim: a condition that fails (a verification, a nested ACL) may
leave a text for the peer and one for the log; ``message`` replaces the first,
``log_message`` goes before the second, and both are expanded only when the
statement decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailsrv.acl.model import WHOLE_PHASES, Acl, Discarded, Statement, Undecided, Verb
from mailsrv.acl.modifiers import header_lines
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.errors import ExpansionError, ForcedFailure, LookupDeferred
from mailsrv.expansion.lists import Match
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import Template
from mailsrv.interfaces import AclPhase, Action, ICallout, IClock, IMailLog, IResolver, IVerifier
from mailsrv.logs.lines import host_and_ident
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Transaction

if TYPE_CHECKING:
    from mailsrv.acl.run import Acls

# Nested ACLs may be this deep (44.26); the limit catches loops.
DEEPEST = 20

_WHEN_MET = {
    Verb.ACCEPT: Action.ACCEPT,
    Verb.DEFER: Action.DEFER,
    Verb.DENY: Action.DENY,
    Verb.DISCARD: Action.DISCARD,
    Verb.DROP: Action.DROP,
}
_WITH_ENDPASS = (Verb.ACCEPT, Verb.DISCARD)


@dataclass(slots=True)
class State:
    """What the clauses of one statement have set so far."""

    message: Template | None = None
    log_message: Template | None = None
    endpass: bool = False
    dropped: bool = False  # a nested ACL said "drop"


@dataclass(slots=True)
class Evaluation:
    """The state of one run; conditions read it and leave their effects through it."""

    acls: Acls
    phase: AclPhase
    connection: Connection
    transaction: Transaction  # an empty one outside of a message: effects on it are lost
    scope: Scope
    text: str = ""  # for the peer, from a condition
    log_text: str = ""  # for the log, from a condition
    log_refusal: bool = True
    depth: int = 0
    decided_by: Verb | None = None  # the verb that ended the outermost ACL
    state: State = field(default_factory=State)
    rates: dict[str, float] = field(default_factory=dict)  # measured for ratelimit in this command

    @property
    def clock(self) -> IClock:
        """Time and timers."""
        return self.acls.clock

    @property
    def log(self) -> IMailLog:
        """The logs."""
        return self.acls.log

    @property
    def resolver(self) -> IResolver | None:
        """The DNS."""
        return self.acls.resolver

    @property
    def verifier(self) -> IVerifier:
        """Routing for verification."""
        return self.acls.verifier

    @property
    def callout(self) -> ICallout | None:
        """Callouts to next hops; None where there can be none."""
        return self.acls.callout

    @property
    def message_id(self) -> str:
        """The message's id for log lines; "" before its data."""
        return self.transaction.id if self.phase in WHOLE_PHASES else ""

    @property
    def memory(self) -> dict[str, object]:
        """What is remembered for the length of the message, or of this run outside of one."""
        return self.transaction.noted

    # --- for conditions and modifiers ----------------------------------------

    async def expanded(self, template: Template) -> str:
        """Expand an argument.

        :raises ForcedFailure: the string said ``fail``.
        :raises Undecided: it cannot be expanded.
        """
        if template.constant is not None:
            return template.constant
        try:
            if template.waits:
                return await template.expand(self.scope)
            return template.value(self.scope)
        except ForcedFailure:
            raise
        except ExpansionError as error:
            log = f'failed to expand ACL string "{template.source}": {error.explained}'
            raise Undecided(log=log, error=not isinstance(error, LookupDeferred)) from error

    def explain(self, text: str, log: str = "") -> None:
        """Say why a condition fails; ``log`` is the text if it is not given."""
        self.text, self.log_text = text, log or text
        self.connection.acl_verify_message = text

    def give(self, **values: str) -> None:
        """Set expansion variables for the rest of the run."""
        self.connection.variables = {**self.connection.variables, **values}

    def matched(self, match: Match) -> None:
        """A list matched: its ``$1`` … are in force from now on."""
        if match.numbers:
            self.scope.numbers = match.numbers

    def add_headers(self, text: str) -> None:
        """Add header fields to the message under way, an identical one only once (44.24)."""
        for line in header_lines(text):
            if line not in self.transaction.added_headers:
                self.transaction.added_headers.append(line)

    def warn(self, text: str) -> None:
        """Write a line of the main log that begins with the client."""
        client = host_and_ident(self.connection.origin)
        self.log.main(f"{client} {text}".lstrip(" "), self.message_id)

    # --- statements ------------------------------------------------------------

    async def obey(self, acl: Acl | None) -> Action:
        """Run an ACL to its end; None is the empty ACL, which denies.

        :raises Undecided: a condition could not be completed.
        """
        if self.depth > DEEPEST:
            raise Undecided(log="ACL nested too deep: possible loop", error=True)
        for statement in acl.statements if acl is not None else ():
            action = await self._statement(statement)
            if action is not None:
                return action
        self.text = self.log_text = ""
        self.decided_by = None
        return Action.DENY

    async def _statement(self, statement: Statement) -> Action | None:
        """Run a statement; None passes control to the next one."""
        self.state = State()
        self.text = self.log_text = self.connection.acl_verify_message = ""
        verb = self.decided_by = statement.verb
        try:
            met = await self._conditions(statement)
            return await self._outcome(verb, met)
        except Discarded:
            return self._discarded(verb)
        except Undecided as undecided:
            if verb is not Verb.WARN or undecided.error:
                raise
            self._skipped(undecided)
            return None
        finally:
            self.connection.acl_verify_message = ""

    async def _conditions(self, statement: Statement) -> bool:
        """Test clauses until one fails; tell whether none did."""
        state = self.state
        for clause in statement.clauses:
            clause.item.check_phase(self.phase)
            state.dropped = False
            try:
                met = await clause.item.test(self)
            except ForcedFailure:
                continue  # as if the condition were true, negated or not (44.20)
            except ExpansionError as error:
                deferred = isinstance(error, LookupDeferred)
                raise Undecided(log=error.explained, error=not deferred) from error
            except TemporaryFailure as failure:
                raise Undecided(log=failure.explained) from failure
            finally:
                self.state = state  # a nested ACL has had its own
            if met == clause.negated:
                state.dropped = state.dropped and not clause.negated
                return False
        return True

    async def _outcome(self, verb: Verb, met: bool) -> Action | None:
        state = self.state
        action = _WHEN_MET.get(verb) if met else None
        if not met and (verb is Verb.REQUIRE or (verb in _WITH_ENDPASS and state.endpass)):
            action = Action.DROP if state.dropped else Action.DENY
        if verb is Verb.WARN and met:
            await self._messages(forget=True, usable=True)
            self._warned()
        elif action is not None:
            ours = met and verb in _WITH_ENDPASS
            await self._messages(forget=ours, usable=not (ours and state.endpass))
        return action

    async def _messages(self, *, forget: bool, usable: bool) -> None:
        """Put the texts of ``message`` and ``log_message`` in force.

        ``forget``: texts that conditions left do not count, but can be seen in
        ``$acl_verify_message``.  ``usable`` is False where ``message`` means another outcome.
        """
        text = self.text
        log = self.log_text if self.log_text != text else ""
        if forget:
            self.text = self.log_text = ""
        if self.state.message is not None and usable:
            self.text = await self._message(self.state.message, text) or self.text
        if self.state.log_message is not None:
            added = await self._message(self.state.log_message, log or text)
            if added:
                before = "" if forget else self.log_text
                self.log_text = f"{added}: {before}" if before else added
        if not self.log_text:
            self.log_text = self.text

    async def _message(self, template: Template, verify_message: str) -> str:
        """Expand a text; what fails is "", and logged unless the failure was asked for."""
        self.connection.acl_verify_message = verify_message
        try:
            if template.constant is not None:
                return template.constant
            if template.waits:
                return await template.expand(self.scope)
            return template.value(self.scope)
        except ForcedFailure:
            return ""
        except ExpansionError as error:
            source = template.source
            self.log.panic(f'failed to expand ACL message "{source}": {error.explained}')
            return ""

    def _warned(self) -> None:
        """Carry out a ``warn``: its log line once a message; ``message`` adds header fields."""
        if self.state.log_message is not None and self.log_text:
            lines = self.memory.setdefault("warnings", set())
            assert isinstance(lines, set)
            if self.log_text not in lines:
                lines.add(self.log_text)
                self.warn(f"Warning: {self.log_text}")
        if self.state.message is not None and self.text:
            self.add_headers(self.text)
        self.text = self.log_text = ""

    def _skipped(self, undecided: Undecided) -> None:
        if self.log.selected("acl_warn_skipped"):
            why = f": {undecided.log}" if undecided.log else ""
            self.warn(f'Warning: ACL "warn" statement skipped: condition test deferred{why}')
        self.text = self.log_text = ""

    def _discarded(self, verb: Verb) -> Action:
        if verb in _WITH_ENDPASS:
            return Action.DISCARD
        raise Undecided(
            log=f'nested ACL returned "discard" for "{verb.value}" command '
            '(only allowed with "accept" or "discard")',
            error=True,
        )

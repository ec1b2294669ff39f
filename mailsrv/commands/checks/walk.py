"""A walk through ACLs as a stranger meets them: every way that the stranger can have it go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from mailsrv.acl.item import Item
from mailsrv.acl.model import Acl, Clause, Statement, Verb
from mailsrv.acl.modifiers import SetVariable
from mailsrv.commands.checks.outside import Outside, State, Told
from mailsrv.commands.checks.usage import find_acl, find_text, is_always_met
from mailsrv.errors import ConfigError
from mailsrv.expansion.errors import ExpansionError, ForcedFailure
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import compile_string
from mailsrv.mail.message import Transaction

_DEEPEST = 20
_MOST_STATES = 100


@dataclass(slots=True)
class Ends:
    """The states in which an ACL can accept, and those in which it can deny."""

    accepted: list[State] = field(default_factory=list)
    denied: list[State] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Walk:
    """One stranger on its way, with a recipient whom a router would take."""

    outside: Outside
    _known: dict[tuple[object, ...], Told] = field(default_factory=dict)
    _texts: dict[tuple[object, ...], str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.outside.call = self._called

    def run(self, acl: Acl, state: State, depth: int = 0) -> Ends:
        """Return how the ACL can end."""
        ends = Ends()
        states = [state]
        for statement in acl.statements:
            going: list[State] = []
            for each in states:
                going += self._statement(statement, each, ends, depth)
            states = _distinct(going)
        ends.accepted = _distinct(ends.accepted)
        ends.denied = _distinct([*ends.denied, *states])
        return ends

    def _statement(
        self, statement: Statement, state: State, ends: Ends, depth: int
    ) -> Iterator[State]:
        """Yield the states that reach the next statement."""
        verb = statement.verb
        state = replace(state, message="")
        met, unmet, ended = self._conditions(statement, state, depth)
        step = () if statement.where is None else (statement.where,)
        if verb is Verb.WARN:
            yield from (replace(each, steps=state.steps) for each in (*met, *unmet))
        elif verb in (Verb.ACCEPT, Verb.REQUIRE):
            passed = [replace(each, steps=(*each.steps, *step)) for each in met]
            if verb is Verb.ACCEPT:
                ends.accepted += passed
                yield from (replace(each, steps=state.steps) for each in unmet)
            else:
                ends.denied += unmet
                yield from passed
        else:
            if verb in (Verb.DENY, Verb.DROP):
                ends.denied += met
            yield from (replace(each, steps=state.steps) for each in unmet)
        ends.denied += ended

    def _conditions(
        self, statement: Statement, state: State, depth: int
    ) -> tuple[list[State], list[State], list[State]]:
        """Return the states in which all hold, one fails, and one fails after ``endpass``."""
        met: list[State] = [state]
        unmet: list[State] = []
        for clause in statement.clauses:
            if clause.item.name == "endpass":
                return self._after_endpass(statement, clause, met, unmet, depth)
            met, failed = self._sorted(clause, met, depth)
            unmet += failed
        return met, _distinct(unmet), []

    def _after_endpass(
        self, statement: Statement, at: Clause, met: list[State], unmet: list[State], depth: int
    ) -> tuple[list[State], list[State], list[State]]:
        ended: list[State] = []
        for clause in statement.clauses[statement.clauses.index(at) + 1 :]:
            met, failed = self._sorted(clause, met, depth)
            ended += failed
        return met, _distinct(unmet), ended

    def _sorted(
        self, clause: Clause, states: Iterable[State], depth: int
    ) -> tuple[list[State], list[State]]:
        met: list[State] = []
        unmet: list[State] = []
        for state in states:
            for holds, after in self._clause(clause, state, depth):
                (met if holds else unmet).append(after)
        return _distinct(met), _distinct(unmet)

    def _clause(self, clause: Clause, state: State, depth: int) -> Iterator[tuple[bool, State]]:
        item = clause.item
        if isinstance(item, SetVariable):
            yield True, self._set(item, state)
        elif item.name == "message":
            text = self.outside.said(item.argument, self.outside.scope(state))
            yield True, replace(state, message=text or "")
        elif is_always_met(item):
            yield True, state
        elif item.name == "acl":
            for holds, after in self._nested(clause, state, depth):
                yield holds is not clause.negated, after
        else:
            told = self._told(clause, state)
            if told is Told.IGNORED:
                yield True, state
            if told in (Told.TRUE, Told.CHOSEN):
                yield not clause.negated, state
            if told in (Told.FALSE, Told.CHOSEN):
                yield clause.negated, state

    def _told(self, clause: Clause, state: State) -> Told:
        item = clause.item
        key = (item.name, item.argument.source, *self.outside.seen(item.argument, state))
        if key not in self._known:
            self._known[key] = self._found(item, state)
        return self._known[key]

    def _found(self, item: Item, state: State) -> Told:
        outside = self.outside
        match item.name:
            case "hosts":
                return outside.hosts(item.argument, state)
            case "domains":
                return outside.domains(item.argument, state)
            case "recipients":
                return outside.recipients(item.argument, state)
            case "condition":
                return outside.condition(item.argument, state)
            case "authenticated" | "python":  # it has no password; nobody runs functions here
                return Told.FALSE
            case "verify":
                what = (item.argument.constant or "").strip()
                return Told.FALSE if what == "certificate" else Told.CHOSEN
        return Told.CHOSEN

    def _set(self, item: SetVariable, state: State) -> State:
        key = (item.name, item.argument.source, *self.outside.seen(item.argument, state))
        if key not in self._texts:
            self._texts[key] = self._expanded(item, state)
        text = self._texts[key]
        if text is None:
            return state
        name = item.variable
        chosen = state.chosen - {name}
        if self.outside.chosen(item.argument, state):
            chosen |= {name}
        variables = {**dict(state.variables), name: text}
        return replace(state, variables=tuple(sorted(variables.items())), chosen=chosen)

    def _expanded(self, item: Item, state: State) -> str | None:
        """Return what a variable becomes; None if the string is forced to fail."""
        try:
            return self.outside.text(item.argument, self.outside.scope(state)) or ""
        except ForcedFailure:
            return None

    def _nested(self, clause: Clause, state: State, depth: int) -> Iterator[tuple[bool, State]]:
        template = clause.item.argument
        words = template.source.split()
        scope = self.outside.scope(state)
        try:
            acl = find_acl(self.outside.configuration, template)
            if acl is None:
                text = self.outside.text(template, scope)
                acl = find_text(self.outside.configuration, text or "", template.where)
            arguments = [self.outside.text(compile_string(word), scope) for word in words[1:]]
        except (ConfigError, ForcedFailure):
            acl = None
        if acl is None or depth >= _DEEPEST:
            yield False, state  # it defers, or nobody can tell
            return
        inside = replace(state, arguments=tuple(text or "" for text in arguments))
        ends = self.run(acl, inside, depth + 1)
        for holds, states in ((True, ends.accepted), (False, ends.denied)):
            yield from ((holds, replace(each, arguments=state.arguments)) for each in states)

    async def _called(
        self, name: str, arguments: tuple[str, ...], scope: Scope
    ) -> tuple[bool | None, str]:
        """What ``${acl{…}}`` comes to: the verdict, and the message of the statement that decides.

        :raises ExpansionError: there is no such ACL, or the strings go round in a circle.
        """
        acl = self.outside.configuration.acls.acls.get(name)
        if acl is None or self.outside.depth >= _DEEPEST:
            raise ExpansionError(f'nobody can tell how "{name}" ends')
        variables = dict(scope.origin.acl_c if scope.origin is not None else {})
        if isinstance(scope.message, Transaction):
            variables |= scope.message.acl_m
        self.outside.depth += 1
        inside = State(tuple(sorted(variables.items())), arguments=arguments)
        ends = self.run(acl, inside, self.outside.depth)
        self.outside.depth -= 1
        accepts = bool(ends.accepted if self.outside.yielding else not ends.denied)
        states = ends.accepted if accepts else ends.denied
        if not states:
            raise ExpansionError(f'nobody can tell how "{name}" ends')
        return accepts, states[0].message


def _distinct(states: Iterable[State]) -> list[State]:
    """States that differ in more than their way; a bound, so that no ACL takes for ever."""
    return list(dict.fromkeys(states))[:_MOST_STATES]

"""Conditions as an unauthenticated host from outside meets them, with a recipient elsewhere.

What is told of a condition is whether it holds or fails, or that the peer can
have it either way: by the sender that it names, the name in its HELO, the local
part, and TLS.  Lists and strings are those of the server, in a world where no
lookup finds anything but what the peer alone has chosen, such as a sender whom
the file has.  What cannot be told before it happens fails, so that nothing is
reported that need not be.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from mailsrv.acl.conditions.condition import truth
from mailsrv.commands.checks.braces import argument, closing
from mailsrv.commands.checks.strangers import KNOWN, STRANGERS, Known, Names, Stranger
from mailsrv.config.model import Configuration
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.errors import ForcedFailure
from mailsrv.expansion.lists import match_address, match_domain, match_host
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import Template, compile_string
from mailsrv.expansion.tree import drive
from mailsrv.interfaces import AclPhase
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Recipient, Transaction
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import RoutedAddress
from mailsrv.mail.taint import Tainted
from mailsrv.service.environment import WallClock, make_services

LOCAL_PART = "somebody"
_BEFORE_MAIL = frozenset({AclPhase.CONNECT, AclPhase.HELO})
# Strings that do something, or ask others: nobody runs them for a check.
_DEEDS = re.compile(
    r"\$\{(?:run|readsocket|python|perl|dlfunc|certextract)\b"
    r"|\b(?:saslauthd|pwcheck|pam|radius|ldapauth)[ \t]*\{"
)
_HEADER = re.compile(r"\$\{?[rbl]?h(?:eader)?_|\bdef:[rbl]?h(?:eader)?_|\$\{?message_(?:body|head)")
_CHOSEN = re.compile(
    r"\b(?:sender_address(?:_domain|_local_part)?|sender_helo_name|local_part"
    r"|smtp_command_argument|tls_\w+)\b"
)
# A regular expression is tried on what the peer chose: there is something that it matches.
_MATCHED = re.compile(
    r"\bmatch[ \t]*\{[ \t]*(?:\$\{(?:lc|uc|sender_\w+|local_part|smtp_command_argument)[:}]|\$)"
)
_ACL_NAME = re.compile(r"acl_([cm]\w*)")
_CALLS = re.compile(r"\bacl[ \t]*\{")
_SAID = ("sender_helo_name", "smtp_command_argument", "tls_in_sni", "tls_sni")
_WORD = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*(?:@[A-Za-z0-9.-]+)?")
_MOST_WORDS = 60
CIPHER = {
    "tls_in_cipher": "TLS1.3:TLS_AES_256_GCM_SHA384:256",
    "tls_cipher": "TLS1.3:TLS_AES_256_GCM_SHA384:256",
    "tls_in_ver": "TLS1.3",
    "tls_in_bits": "256",
    "tls_in_sni": "",
}


class Told(enum.Enum):
    """What can be told of a condition."""

    TRUE = "true"
    FALSE = "false"
    CHOSEN = "as the peer likes"
    IGNORED = "a forced failure: it holds, negated or not"


@dataclass(frozen=True, slots=True)
class State:
    """Where a walk is: variables that ACLs set, those that the peer chose, the lines so far."""

    variables: tuple[tuple[str, str], ...] = ()
    chosen: frozenset[str] = frozenset()
    arguments: tuple[str, ...] = ()
    message: str = ""  # of the statement that decided
    steps: tuple[object, ...] = field(default=(), compare=False)


class Outside:
    """The world as a stranger sees it, in one phase of a session."""

    def __init__(
        self,
        configuration: Configuration,
        stranger: Stranger = STRANGERS[0],
        phase: AclPhase = AclPhase.RCPT,
    ) -> None:
        self.configuration = configuration
        self.stranger = stranger
        self.phase = phase
        self.call: Callable[..., Awaitable[object]] | None = None  # runs an ACL in a string
        self.depth = 0  # of ACLs in strings
        self.yielding = True  # an ACL in a string accepts if it can; else denies if it can
        known = Known(stranger)
        self._services = make_services(
            configuration, WallClock(), lambda name: known, resolver=Names(stranger)
        )

    def scope(self, state: State = State(), values: Mapping[str, str] | None = None) -> Scope:
        """Return what strings see."""
        stranger = self.stranger
        variables = dict(state.variables)
        origin = Origin(
            host_address=stranger.address,
            host_port=40000,
            interface_address="192.0.2.25",
            interface_port=stranger.port,
            helo_name=Tainted(f"outside.{stranger.domain}"),
            protocol="esmtp",
            acl_c={name: text for name, text in variables.items() if name[0] == "c"},
        )
        connection = Connection(origin, acl_phase=self.phase.value, acl_args=state.arguments)
        address = Tainted(f"{LOCAL_PART}@{stranger.domain}")
        routed = RoutedAddress(
            Recipient(address), address, Tainted(LOCAL_PART), Tainted(stranger.domain)
        )
        if self.phase not in _BEFORE_MAIL:
            connection.transaction = Transaction(
                sender=Tainted(f"someone@{stranger.domain}"),
                acl_m={name: text for name, text in variables.items() if name[0] == "m"},
                recipients=[] if self.phase is AclPhase.MAIL else [Recipient(address)],
                recipients_seen=0 if self.phase is AclPhase.MAIL else 1,
            )
        return Scope(
            replace(self._services, acl=self.call),
            connection=connection,
            message=connection.transaction,
            origin=origin,
            address=routed if self.phase is AclPhase.RCPT else None,
            values=values or {},
        )

    def text(self, template: Template, scope: Scope | None = None) -> str | None:
        """Expand a string where no lookup finds anything; None if that cannot be done here.

        :raises ForcedFailure: the string says so.
        """
        if template.constant is not None:
            return template.constant
        if _DEEDS.search(template.source):
            return None
        try:
            return drive(template.expand(self.scope() if scope is None else scope))
        except ForcedFailure:
            raise
        except (TemporaryFailure, TypeError, NotImplementedError):
            return None

    def seen(self, template: Template, state: State) -> tuple[object, ...]:
        """Return what a string sees of a state: states that agree in it are one to the string."""
        source = template.source
        if _CALLS.search(source):
            return state.variables, state.chosen, state.arguments, self.depth
        names = set(_ACL_NAME.findall(source))
        return (
            tuple(pair for pair in state.variables if pair[0] in names),
            frozenset(name for name in state.chosen if name in source),
            state.arguments if "acl_" in source else (),
        )

    def said(
        self, template: Template, scope: Scope | None = None, *, forced: str | None = None
    ) -> str | None:
        """The same, and ``forced`` where the string is forced to fail."""
        try:
            return self.text(template, scope)
        except ForcedFailure:
            return forced

    def condition(self, template: Template, state: State = State()) -> Told:
        """Tell what a ``condition`` comes to."""
        if _HEADER.search(template.source) and self.phase is not AclPhase.RCPT:
            return Told.CHOSEN
        return _joined(self._truths(template, state))

    def _truths(self, template: Template, state: State) -> Iterator[Told]:
        for values in self.choices(template, state):
            yield self._truth(template, self.scope(state, values))
        if self.phase not in _BEFORE_MAIL or "helo" in template.source:
            source = _with_matches(template.source)
            if source != template.source:
                yield self._truth(compile_string(source), self.scope(state))
        if _CALLS.search(template.source) and not self.depth:
            self.yielding = False
            yield self._truth(template, self.scope(state))
            self.yielding = True

    def _truth(self, template: Template, scope: Scope) -> Told:
        try:
            text = self.text(template, scope)
        except ForcedFailure:
            return Told.IGNORED
        return Told.TRUE if truth(text or "") else Told.FALSE

    def chosen(self, template: Template, state: State) -> bool:
        """Tell whether the peer has a say in what a string comes to."""
        source = template.source
        return bool(_CHOSEN.search(source)) or any(name in source for name in state.chosen)

    def choices(self, template: Template, state: State) -> Iterator[dict[str, str]]:
        """Yield what the peer may say: of itself, and what the string seems to want to hear."""
        yield {}
        if template.constant is not None or not self.chosen(template, state):
            return
        for tls in ({}, CIPHER) if "tls_" in template.source else ({},):
            yield {**tls, **_sender("")}
            yield tls
            for word in (*self._words(template.source), f"{KNOWN}@{KNOWN}.example"):
                said = dict.fromkeys((f"acl_{name}" for name in state.chosen), word)
                yield {**tls, **said, **_as_said(word, self.stranger.domain)}

    def _words(self, source: str) -> Iterator[str]:
        """Yield the words of a string, and of the lists that it names."""
        texts = [source]
        for name in re.findall(r"\+(\w+)", source):
            for kind in ("domain", "address", "localpart"):
                named = self.configuration.named_lists[kind].get(name)
                if named is not None:
                    texts.append(named.template.source)
        found: dict[str, None] = {}
        for text in texts:
            found.update(dict.fromkeys(_WORD.findall(text.replace("\\", ""))))
        yield from list(found)[:_MOST_WORDS]

    def domains(self, template: Template, state: State = State()) -> Told:
        """Tell whether the recipient's domain is in a list."""
        scope = self.scope(state)
        return self._in_list(template, match_domain(template, self.stranger.domain, scope))

    def hosts(self, template: Template, state: State = State()) -> Told:
        """Tell whether the peer is in a list."""
        scope = self.scope(state)
        assert scope.origin is not None
        return self._in_list(template, match_host(template, scope.origin, scope))

    def recipients(self, template: Template, state: State = State()) -> Told:
        """Tell whether the recipient is in a list; the local part is as the peer likes."""
        local_parts = {word.partition("@")[0] for word in self._words(template.source)}
        return _joined(
            self._in_list(
                template,
                match_address(template, f"{name}@{self.stranger.domain}", self.scope(state)),
            )
            for name in (LOCAL_PART, *sorted(local_parts))
        )

    def _in_list(self, template: Template, match: object) -> Told:
        if template.constant is None and _DEEDS.search(template.source):
            match.close()  # type: ignore[attr-defined]
            return Told.FALSE
        try:
            return Told.FALSE if drive(match) is None else Told.TRUE  # type: ignore[arg-type]
        except (TemporaryFailure, TypeError, NotImplementedError):
            return Told.FALSE


def _with_matches(source: str) -> str:
    """Return a string in which each regular expression matches that a peer's word is tried on."""
    for found in reversed(list(_MATCHED.finditer(source))):
        first = source.index("{", found.start())
        subject = source[first : closing(source, first) + 1]
        if not _CHOSEN.search(subject):
            continue
        second = source.find("{", first + len(subject))
        if second >= 0 and argument(source, second):
            source = f"{source[: found.start()]}bool{{yes}}{source[closing(source, second) + 1 :]}"
    return source


def _sender(address: str) -> dict[str, str]:
    local_part, _, domain = address.rpartition("@")
    return {
        "sender_address": Tainted(address),
        "sender_address_domain": Tainted(domain),
        "sender_address_local_part": Tainted(local_part),
    }


def _as_said(word: str, domain: str) -> dict[str, str]:
    """What a peer says who knows a word of the configuration."""
    helo = dict.fromkeys(_SAID, Tainted(word))
    if "@" in word:
        local_part = Tainted(word.rpartition("@")[0])
        return {**helo, **_sender(word), "local_part": local_part}
    if "." in word:
        return {**helo, **_sender(f"someone@{word}")}
    return {**helo, **_sender(f"{word}@{domain}"), "local_part": Tainted(word)}


def _joined(all_told: Iterable[Told]) -> Told:
    found = set(all_told)
    if len(found) == 1:
        return found.pop()
    return Told.CHOSEN

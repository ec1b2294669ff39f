"""An open relay: a walk through the RCPT ACL as a stranger who sends to a stranger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

from mailsrv.acl.model import Acl, Clause, Statement, Verb
from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.checks.outside import DOMAIN, Outside, Told
from mailsrv.commands.checks.usage import find_acl, roots
from mailsrv.config.model import Configuration
from mailsrv.config.options import OptionSet
from mailsrv.errors import ConfigError, Position
from mailsrv.expansion.separated import split_list
from mailsrv.expansion.template import Template, compile_string
from mailsrv.interfaces import AclPhase
from mailsrv.net.listen import listen_on

_HOST_LISTS = ("hosts",)
_DOMAIN_LISTS = ("domains",)
_NEVER = ("authenticated",)  # the peer has no password
_MODIFIERS = frozenset(
    (
        *("add_header", "continue", "control", "delay", "log_message", "logwrite", "message"),
        *("log_reject_target", "remove_header", "set", "udpsend"),
    )
)
_CERTAIN = (Told.TRUE, Told.CHOSEN)
_DEEPEST = 20
# The ACLs that such a message meets; all must let it pass.
_ON_THE_WAY = (
    *(AclPhase.CONNECT, AclPhase.HELO, AclPhase.MAIL, AclPhase.RCPT, AclPhase.PREDATA),
    AclPhase.DATA,
)


@dataclass(slots=True)
class _Walk:
    """The way of one such recipient; ``steps`` are the statements that let it pass."""

    outside: Outside
    routable: bool
    steps: list[Position] = field(default_factory=list)

    def run(self, acl: Acl, depth: int = 0) -> Told:
        """Tell whether the ACL accepts."""
        for statement in acl.statements:
            ended = self._statement(statement, depth)
            if ended is not None:
                return ended
        return Told.FALSE

    def _statement(self, statement: Statement, depth: int) -> Told | None:
        verb = statement.verb
        if verb is Verb.WARN:
            return None
        before = len(self.steps)
        met, endpass = self._conditions(statement, depth)
        if verb is Verb.REQUIRE:
            if met is Told.FALSE:
                return Told.FALSE
            self._step(statement)
            return None
        if verb is Verb.ACCEPT:
            if met in _CERTAIN:
                self._step(statement)
                return Told.TRUE
            del self.steps[before:]
            return Told.FALSE if endpass and met is Told.FALSE else None
        del self.steps[before:]
        return Told.FALSE if met is Told.TRUE else None

    def _step(self, statement: Statement) -> None:
        if statement.where is not None:
            self.steps.append(statement.where)

    def _conditions(self, statement: Statement, depth: int) -> tuple[Told, bool]:
        """Return what all conditions come to, and whether one after ``endpass`` failed."""
        result, endpass = Told.TRUE, False
        for clause in statement.clauses:
            if clause.item.name == "endpass":
                endpass = True
                continue
            told = self._clause(clause, depth)
            if told is Told.FALSE:
                return told, endpass
            if told is Told.UNKNOWN or result is Told.UNKNOWN:
                result = Told.UNKNOWN
            elif told is Told.CHOSEN:
                result = told
        return result, False

    def _clause(self, clause: Clause, depth: int) -> Told:
        told = self._item(clause, depth)
        return told.negated() if clause.negated else told

    def _item(self, clause: Clause, depth: int) -> Told:
        item = clause.item
        if item.name in _MODIFIERS:
            return Told.TRUE
        if item.name in _HOST_LISTS:
            return self.outside.in_list(item.argument, "host")
        if item.name in _DOMAIN_LISTS:
            return self.outside.in_list(item.argument, "domain")
        if item.name in _NEVER:
            return Told.FALSE
        if item.name == "condition":
            return self.outside.condition(item.argument)
        if item.name == "recipients":
            return self._recipients(item.argument)
        if item.name == "verify":
            return self._verify(item.argument)
        if item.name == "acl":
            return self._nested(item.argument, depth)
        return Told.CHOSEN

    def _recipients(self, template: Template) -> Told:
        """Local parts are the peer's choice, the domain is a foreign one."""
        text = self.outside.text(template)
        if text is None:
            return Told.UNKNOWN
        return Told.CHOSEN if text.strip() == "*" else Told.FALSE

    def _verify(self, template: Template) -> Told:
        words = (template.constant or "").strip().split("/")[0].split("=")[0].strip()
        if words == "recipient" and not self.routable:
            return Told.FALSE
        if words == "certificate":
            return Told.FALSE
        return Told.CHOSEN

    def _nested(self, template: Template, depth: int) -> Told:
        try:
            acl = find_acl(self.outside.configuration, template)
        except ConfigError:
            return Told.UNKNOWN
        if acl is None or depth >= _DEEPEST:
            return Told.UNKNOWN
        return self.run(acl, depth + 1)


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield the statement that accepts mail from anywhere to anywhere."""
    if _loopback_alone(configuration):
        return
    outside = Outside(configuration)
    routable = any(_takes(outside, router) for router in configuration.routers)
    if not routable:
        return  # what no router sends on is no relay
    acls = dict(roots(configuration))
    if AclPhase.RCPT not in acls:
        return  # it denies
    steps: list[Position] = []
    for phase in _ON_THE_WAY:
        walk = _Walk(outside, routable)
        if phase in acls and walk.run(acls[phase]) is not Told.TRUE:
            return
        if phase is AclPhase.RCPT:
            steps = walk.steps
    lines = ", ".join(str(step.line) for step in steps)
    yield Finding(
        steps[-1] if steps else getattr(configuration.main.acl_smtp_rcpt, "where", None),
        "open relay: an unauthenticated outside host reaches this accept for a foreign domain"
        + (f" by lines {lines}" if lines else f" ({DOMAIN})"),
        "accept only with domains, hosts or authenticated, or put before it: "
        "require domains = +local_domains",
    )


def _loopback_alone(configuration: Configuration) -> bool:
    """Tell whether nobody from outside can connect."""
    try:
        listeners = listen_on(configuration.main.local_interfaces, "25", "")
    except ConfigError:
        return False
    return all(ip_address(each.address).is_loopback for each in listeners)


def _takes(outside: Outside, router: OptionSet) -> bool:
    """Tell whether a router may send an address of a foreign domain to another host."""
    domains = getattr(router, "domains", None)
    if domains is not None and outside.in_list(domains, "domain") is Told.FALSE:
        return False
    if getattr(router, "verify_only", False):
        return False
    if router.driver == "accept":
        name = getattr(router.values.get("transport"), "constant", None)
        transport = outside.configuration.transports.get(name) if name else None
        return transport is not None and transport.driver == "smtp"
    if router.driver == "redirect":
        return False
    rules = router.values.get("route_list")
    if router.driver == "manualroute" and rules is not None:
        return _rules_take(outside, rules)
    return True


def _rules_take(outside: Outside, rules: object) -> bool:
    source = rules.source if isinstance(rules, Template) else str(rules)
    patterns = [rule.split()[0] for rule in split_list(source, ";") if rule.split()]
    return any(
        outside.in_list(compile_string(pattern), "domain") is not Told.FALSE for pattern in patterns
    )

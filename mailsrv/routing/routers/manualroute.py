"""The ``manualroute`` router (chapter 20): hosts by rules of our own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from mailsrv.config.options import option
from mailsrv.config.types import BOOLEAN, EXPANDED, STRING
from mailsrv.errors import ConfigError, TemporaryFailure
from mailsrv.expansion.errors import ExpansionError, ForcedFailure, LookupDeferred
from mailsrv.expansion.lists import Match, match_domain, match_host, split_list
from mailsrv.expansion.template import Template, compile_string
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Host, RoutedAddress
from mailsrv.net.hosts import HostItem, split_hosts
from mailsrv.routing.decision import (
    Accepted,
    Decision,
    Declined,
    Deferred,
    Failed,
    Passed,
    Rerouted,
)
from mailsrv.routing.router import Context, Router

_ACTIONS = ("decline", "defer", "fail", "freeze", "pass")
_WORDS = ("randomize", "no_randomize", "byname", "bydns", "ipv4_only", "ipv4_prefer")


@dataclass(frozen=True, slots=True)
class Rule:
    """A routing rule: ``pattern`` is None for route_data's; ``comment`` is what a # began."""

    pattern: Template | None
    hosts: str
    options: tuple[str, ...]
    comment: str = ""


class _Found(Exception):
    """A host decided the address already."""

    def __init__(self, decision: Decision) -> None:
        super().__init__()
        self.decision = decision


class Manualroute(Router):
    """Routes by a list of domains and their hosts."""

    host_all_ignored = option(STRING, default="defer", help="when all hosts were ignored")
    host_find_failed = option(STRING, default="freeze", help="when a host does not exist")
    hosts_randomize = option(BOOLEAN, default=False, help="take the hosts in random order")
    route_data = option(EXPANDED, help="expands to the hosts and options of a rule")
    route_list = option(STRING, help="rules, separated by semicolons: domain hosts options")

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        super().check()
        if (self.route_list is None) == (self.route_data is None):
            raise ConfigError(
                f"{self.name} router: one of route_list and route_data must be set", self.where
            )
        self._check_word("host_find_failed", self.host_find_failed, (*_ACTIONS, "ignore"))
        self._check_word("host_all_ignored", self.host_all_ignored, _ACTIONS)
        needed = self.transport is None and not self.verify_only and self.route_list is not None
        if needed and not all(set(rule.options) - set(_WORDS) for rule in self.rules):
            raise ConfigError(f"{self.name} router: transport must be set", self.where)

    def _check_word(self, name: str, value: str, allowed: tuple[str, ...]) -> None:
        if value not in allowed:
            where = self.places.get(name, self.where)
            raise ConfigError(f"{value} is not valid for {name}", where, " | ".join(allowed))

    def notes(self) -> list[str]:
        """See :meth:`OptionSet.notes`."""
        comments = [rule.comment for rule in self.rules if rule.comment]
        return [f'route_list: "{text}" is taken as a comment' for text in comments]

    @cached_property
    def rules(self) -> list[Rule]:
        """The rules of ``route_list``."""
        items = split_list(self.route_list, ";") if self.route_list is not None else []
        return [_rule(item, has_pattern=True) for item in items if item.strip(" \t\n")]

    async def route(self, address: RoutedAddress, context: Context) -> Decision:
        """See :meth:`Router.route`."""
        try:
            found = await self._rule_for(address, context)
            if found is None:
                return Declined()
            rule, values, numbers = found
            text = await self._host_text(rule, address, context, values, numbers)
            transport, randomize = await self._options(rule, address, context)
            if context.facilities.local_transports.get(transport, False):
                address.vars = {**address.vars, "host": text}
                return Accepted(transport)
            if context.verify and not split_hosts(text):
                return Accepted(transport)
            return Accepted(transport, await self._hosts(text, randomize, address, context))
        except _Found as found_early:
            return found_early.decision

    # --- rules ---

    async def _rule_for(
        self, address: RoutedAddress, context: Context
    ) -> tuple[Rule, dict[str, str], tuple[str, ...]] | None:
        """Return the rule for the domain with $value and $1 …; None if there is none."""
        scope = context.scope(address, self.name)
        if self.route_data is not None:
            try:
                text = await self.route_data.expand(scope)
            except ForcedFailure:
                return None
            return (_rule(text, has_pattern=False), {}, ()) if text.strip(" \t\n") else None
        for rule in self.rules:
            assert rule.pattern is not None
            match: Match | None = await match_domain(rule.pattern, address.domain, scope)
            if match is not None:
                numbers = match.numbers or (address.domain,)
                return rule, {"value": match.data}, numbers
        return None

    async def _host_text(
        self,
        rule: Rule,
        address: RoutedAddress,
        context: Context,
        values: dict[str, str],
        numbers: tuple[str, ...],
    ) -> str:
        """Expand a rule's list of hosts; a failure declines (20.4)."""
        scope = context.scope(address, self.name).within(values, numbers)
        try:
            return await compile_string(rule.hosts).expand(scope)
        except LookupDeferred:
            raise
        except ForcedFailure:
            raise _Found(Declined()) from None
        except ExpansionError as error:
            raise _Found(Deferred(error.reason)) from None

    async def _options(
        self, rule: Rule, address: RoutedAddress, context: Context
    ) -> tuple[str, bool]:
        """Return the transport's name and whether hosts are randomized (20.7)."""
        randomize = self.hosts_randomize
        transport = ""
        for word in rule.options:
            if word in ("randomize", "no_randomize"):
                randomize = word == "randomize"
            elif word in ("byname", "bydns"):
                pass  # our resolver looks in the hosts file and the DNS alike
            elif word in context.facilities.local_transports:
                transport = word
            else:
                raise TemporaryFailure(reason=f'unknown routing option or transport name "{word}"')
        if not transport and self.transport is not None:
            transport = await self.transport.expand(context.scope(address, self.name))
        return transport, randomize

    # --- hosts ---

    async def _hosts(
        self, text: str, randomize: bool, address: RoutedAddress, context: Context
    ) -> tuple[Host, ...]:
        """Look up the hosts of a rule, in order (20.6)."""
        items = split_hosts(text, randomize=randomize)
        if not items:
            raise _Found(Deferred(f"no host list for {self.name} router"))
        hosts: list[Host] = []
        for number, item in enumerate(items):
            addresses = await self._addresses(item, address, context)
            if any(context.facilities.is_local(one) for one in addresses):
                if number:
                    break  # this host and all after it are left out
                if not self._sends_to_self(item, context):
                    raise _Found(self._decide_self(item))
            hosts += [Host(item.name, one, item.port) for one in addresses]
        if not hosts:
            raise _Found(self._act(self.host_all_ignored, "lookup failed for all hosts"))
        return tuple(hosts)

    async def _addresses(
        self, item: HostItem, address: RoutedAddress, context: Context
    ) -> list[str]:
        """Return a host's addresses that are not to be ignored; [] if the host is ignored."""
        if item.mx:
            raise TemporaryFailure(reason=f"{item.name}/MX is known to Exim, not to mailsrv")
        try:
            found = await context.facilities.resolver.addresses(item.name)
        except TemporaryFailure as failure:
            if self.pass_on_timeout:
                raise _Found(Passed()) from None
            raise _Found(
                Deferred(f"host lookup for {item.name} did not complete: {failure.reason}")
            ) from None
        kept = [one for one in found if not await self._ignored(one, address, context)]
        if kept or self.host_find_failed == "ignore":
            return kept
        raise _Found(self._act(self.host_find_failed, f"lookup of host {item.name!r} failed"))

    async def _ignored(self, ip: str, address: RoutedAddress, context: Context) -> bool:
        if self.ignore_target_hosts is None:
            return False
        scope = context.scope(address, self.name, {"host_address": ip})
        return (
            await match_host(self.ignore_target_hosts, Origin(host_address=ip), scope) is not None
        )

    def _act(self, word: str, reason: str) -> Decision:
        """Return the decision that host_find_failed or host_all_ignored names."""
        text = f"{reason} in {self.name} router"
        decisions: dict[str, Decision] = {
            "decline": Declined(),
            "defer": Deferred(text),
            "fail": Failed("Unrouteable address", text),
            "freeze": Deferred(text, frozen=True),
            "pass": Passed(),
        }
        return decisions[word]

    # --- the host is this host (15, self) ---

    def _sends_to_self(self, item: HostItem, context: Context) -> bool:
        context.values["self_hostname"] = item.name
        return self.self_ == "send"

    def _decide_self(self, item: HostItem) -> Decision:
        word, _, domain = self.self_.partition(":")
        reason = f"remote host address is the local host: {item.name}"
        decisions: dict[str, Decision] = {
            "freeze": Deferred(reason, frozen=True),
            "defer": Deferred(reason),
            "fail": Failed("remote host address is the local host", reason),
            "pass": Passed(),
            "reroute": Rerouted(domain.strip(" \t")),
        }
        return decisions[word.strip(" \t")]


_FIELD = re.compile(r'[ \t\n]*(?:"((?:[^"\\]|\\.)*)"|((?:\\\S|\S)+))', re.DOTALL)


def _rule(text: str, *, has_pattern: bool) -> Rule:
    """Read one rule: pattern (in route_list), hosts, options; `` # …`` at the end is a comment."""
    text, comment = _without_comment(text)
    pattern, hosts = "", ""
    rest = text
    if has_pattern:
        pattern, rest = _field(rest)
    hosts, rest = _field(rest)
    return Rule(_one_pattern(pattern) if has_pattern else None, hosts, tuple(rest.split()), comment)


def _one_pattern(text: str) -> Template:
    """Compile a pattern as a list of one item: a separator that it cannot hold is chosen."""
    return compile_string(f"<\x01{text}" if ":" in text else text)


def _without_comment(text: str) -> tuple[str, str]:
    found = re.search(r"(?:^|[ \t])(#.*)\Z", text, re.DOTALL)
    return (text[: found.start()], found[1].strip(" \t\n")) if found else (text, "")


def _field(text: str) -> tuple[str, str]:
    """Take one word, or a quoted string, or a word with ``${…}`` that holds blanks."""
    text = text.lstrip(" \t\n")
    if text.startswith('"'):
        found = _FIELD.match(text)
        if found is not None and found[1] is not None:
            return re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL), text[found.end() :]
    depth = 0
    for at, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if character in " \t\n" and depth <= 0:
            return text[:at], text[at:]
    return text, ""

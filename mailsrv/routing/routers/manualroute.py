"""The ``manualroute`` router (chapter 20): hosts by rules of our own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from mailsrv.config.options import option
from mailsrv.config.types import BOOLEAN, EXPANDED, STRING
from mailsrv.errors import ConfigError, TemporaryFailure
from mailsrv.expansion.errors import ExpansionError, ForcedFailure, LookupDeferred
from mailsrv.expansion.lists import Match, match_domain, split_list
from mailsrv.expansion.template import Template, compile_again, compile_string
from mailsrv.mail.routed import Host, RoutedAddress
from mailsrv.net.hosts import HostItem, split_hosts
from mailsrv.routing import hosts as finding
from mailsrv.routing.decision import Accepted, Decision, Declined, Deferred, Failed, Passed
from mailsrv.routing.hosts import Exchanger, Found, Kinds, NoService, NoSuchDomain
from mailsrv.routing.router import Context, Router

_ACTIONS = ("decline", "defer", "fail", "freeze", "pass")
WORDS = ("randomize", "no_randomize", "byname", "bydns", "ipv4_only", "ipv4_prefer")


@dataclass(frozen=True, slots=True)
class Rule:
    """A routing rule: ``pattern`` is None for route_data's; ``comment`` is what a # began."""

    pattern: Template | None
    hosts: str
    options: tuple[str, ...]
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """How the hosts of a rule are found: its options, after those of the router."""

    transport: str
    randomize: bool
    kinds: Kinds


class _ThisHost(Exception):
    """A host is this one; the decision of ``self``, if it comes first."""

    def __init__(self, decision: Decision) -> None:
        super().__init__()
        self.decision = decision


class Manualroute(Router):
    """Routes by a list of domains and their hosts."""

    host_all_ignored = option(STRING, default="defer", help="when all hosts were ignored")
    host_find_failed = option(STRING, default="freeze", help="when a host does not exist")
    hosts_randomize = option(BOOLEAN, default=False, help="take the hosts in random order")
    same_domain_copy_routing = option(
        BOOLEAN,
        default=False,
        help="route a domain once for a message",
        no_effect="each address is routed by itself; the DNS cache makes that cheap",
    )
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

    def late(self) -> Iterator[ConfigError]:
        """See :meth:`OptionSet.late`."""
        yield from super().late()
        needed = self.transport is None and not self.verify_only and self.route_list is not None
        if needed and not all(set(rule.options) - set(WORDS) for rule in self.rules):
            yield ConfigError(f"{self.name} router: transport must be set", self.where)

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
            way = await self._options(rule, address, context)
            if context.facilities.local_transports.get(way.transport, False):
                address.vars = {**address.vars, "host": text}
                return Accepted(way.transport)
            if context.verify and not split_hosts(text):
                return Accepted(way.transport)
            return Accepted(way.transport, await self._hosts(text, way, address, context))
        except Found as found_early:
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
            try:
                match: Match | None = await match_domain(rule.pattern, address.domain, scope)
            except TemporaryFailure as failure:
                raise Found(
                    Deferred(failure.explained, told="lookup defer in route_list")
                ) from None
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
            return await compile_again(rule.hosts).expand(scope)
        except LookupDeferred:
            raise
        except ForcedFailure:
            raise Found(Declined()) from None
        except ExpansionError as error:
            said = f'{self.name} router: failed to expand "{rule.hosts}": {error.reason}'
            raise Found(Deferred(error.explained, told=said)) from None

    async def _options(self, rule: Rule, address: RoutedAddress, context: Context) -> Way:
        """Return what the words of a rule ask for (20.7)."""
        randomize, transport, kinds = self.hosts_randomize, "", Kinds(lookup="")
        for number, word in enumerate(rule.options):
            if word in ("randomize", "no_randomize"):
                randomize = word == "randomize"
            elif word in ("byname", "bydns"):
                kinds = replace(kinds, lookup=word)
            elif word == "ipv4_only":
                kinds = replace(kinds, ipv4_only=True)
            elif word == "ipv4_prefer":
                kinds = replace(kinds, ipv4_prefer=True)
            elif word in context.facilities.local_transports:
                transport = word
            else:
                rest = " ".join(rule.options[number:])
                reason = f'error in router: unknown routing option or transport name "{rest}"'
                raise TemporaryFailure(reason=reason)
        if not transport and self.transport is not None:
            transport = await self.transport.expand(context.scope(address, self.name))
        return Way(transport, randomize, kinds)

    # --- hosts ---

    async def _hosts(
        self, text: str, way: Way, address: RoutedAddress, context: Context
    ) -> tuple[Host, ...]:
        """Look up the hosts of a rule, in order (20.6)."""
        items = split_hosts(text, randomize=way.randomize)
        if not text.strip(" \t\n"):
            said = f"error in {self.name} router: no host(s) specified for domain {address.domain}"
            raise Found(Deferred(said))
        hosts: list[Host] = []
        for number, item in enumerate(items):
            try:
                hosts += await self._item(item, way.kinds, address, context, first=not number)
            except _ThisHost as here:
                if number:
                    break  # this host and all after it are left out
                raise Found(here.decision) from None
        if not hosts:
            said = (
                f"lookup failed for all hosts in {self.name} router:"
                f" host_find_failed=ignore host_all_ignored={self.host_all_ignored}"
            )
            raise Found(_act(self.host_all_ignored, said))
        return tuple(hosts)

    async def _item(
        self,
        item: HostItem,
        kinds: Kinds,
        address: RoutedAddress,
        context: Context,
        *,
        first: bool,
    ) -> list[Host]:
        """Return the hosts of one item; [] if they are all ignored.

        :raises _ThisHost: it is this host, and not the first, or ``self`` is not send.
        """
        try:
            if item.mx:
                return await self._exchangers(item, kinds, address, context, first=first)
            found, _ = await finding.addresses_of(item.name, self, address, context, kinds)
            here = await finding.is_this_host(item.name, found, context)
        except TemporaryFailure as failure:
            if self.pass_on_timeout:
                raise Found(Passed()) from None
            said = f"host lookup for {item.name} did not complete"
            reason = f"{said}: {failure.explained}"
            told = f"{said} (DNS timeout?)"
            raise Found(Deferred(reason, told=told, error="lookup")) from None
        if not found:
            return self._nowhere(item.name)
        if here:
            self._this_host(item.name, context, first=first)
        return [Host(item.name, one, item.port) for one in found]

    async def _exchangers(
        self,
        item: HostItem,
        kinds: Kinds,
        address: RoutedAddress,
        context: Context,
        *,
        first: bool,
    ) -> list[Host]:
        """Return the hosts of the MX records of an item ``name/MX``."""
        records: list[Exchanger] = []
        try:
            records = await finding.mx_of(item.name, context)
            if not records:
                raise NoSuchDomain
            mx = replace(kinds, lookup="bydns")
            found = await finding.hosts_of(records, self, address, context, mx, first=first)
        except (NoSuchDomain, NoService):
            return self._nowhere(records[-1].name if records else item.name)
        except Found as early:
            raise _ThisHost(early.decision) from None
        return [replace(host, port=item.port) for host in found.usable]

    def _nowhere(self, name: str) -> list[Host]:
        """Do what ``host_find_failed`` says of a host that has no address to be used."""
        if self.host_find_failed == "ignore":
            return []
        reason = f'lookup of host "{name}" failed in {self.name} router'
        raise Found(_act(self.host_find_failed, reason))

    def _this_host(self, name: str, context: Context, *, first: bool) -> None:
        try:
            finding.decide_self(name, self, context, first=first)
        except Found as found:
            raise _ThisHost(found.decision) from None


def _act(word: str, reason: str) -> Decision:
    """Return the decision that host_find_failed or host_all_ignored names."""
    decisions: dict[str, Decision] = {
        "decline": Declined(),
        "defer": Deferred(reason, error="lookup"),
        "fail": Failed("Unrouteable address", reason),
        "freeze": Deferred(reason, frozen=True),
        "pass": Passed(),
    }
    return decisions[word]


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

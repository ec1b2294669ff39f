"""The ``dnslookup`` router (chapter 17): the hosts that the DNS names for a domain."""

from __future__ import annotations

from mailsrv.config.options import option
from mailsrv.config.types import BOOLEAN, DOMAIN_LIST, EXPANDED, STRING_LIST
from mailsrv.errors import ConfigError, TemporaryFailure
from mailsrv.expansion.errors import ForcedFailure
from mailsrv.expansion.lists import match_domain, split_list
from mailsrv.expansion.template import Template
from mailsrv.mail.routed import RoutedAddress
from mailsrv.routing import hosts as finding
from mailsrv.routing.decision import (
    Accepted,
    Decision,
    Declined,
    Deferred,
    Passed,
    Rerouted,
)
from mailsrv.routing.hosts import Exchanger, Found, Kinds, NoService, NoSuchDomain
from mailsrv.routing.router import Context, Router

_NO = ("", "0", "no", "false")


class Dnslookup(Router):
    """Routes by MX (or SRV) records, or by the addresses of the domain itself."""

    check_secondary_mx = option(BOOLEAN, default=False, help="decline unless we are a lesser MX")
    check_srv = option(EXPANDED, help="name of the service whose SRV records are looked up first")
    fail_defer_domains = option(DOMAIN_LIST, help="domains that defer instead of declining")
    ipv4_only = option(EXPANDED, help="use A records alone, unless false or empty")
    ipv4_prefer = option(EXPANDED, help="IPv4 addresses first, unless false or empty")
    mx_domains = option(DOMAIN_LIST, help="domains that must have MX or SRV records")
    mx_fail_domains = option(DOMAIN_LIST, help="a failing MX lookup counts as no record")
    qualify_single = option(
        BOOLEAN, default=True, help="complete names of one part with the local domain"
    )
    rewrite_headers = option(BOOLEAN, default=True, help="write widened domains into the header")
    same_domain_copy_routing = option(
        BOOLEAN,
        default=False,
        help="route a domain once for a message",
        no_effect="each address is routed by itself; the DNS cache makes that cheap",
    )
    search_parents = option(
        BOOLEAN, default=False, help="complete names with all domains of resolv.conf's search"
    )
    srv_fail_domains = option(DOMAIN_LIST, help="a failing SRV lookup counts as no record")
    widen_domains = option(STRING_LIST, help="domains to be added to one that is not found")

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        super().check()
        if self.transport is None and not self.verify_only:
            problem = f"{self.name} router: transport must be set"
            raise ConfigError(problem, self.where, whole=True)

    async def route(self, address: RoutedAddress, context: Context) -> Decision:
        """See :meth:`Router.route`."""
        domain = address.domain
        if not domain or domain.startswith("["):
            return Declined()
        kinds = Kinds(
            await self._yes(self.ipv4_only, address, context),
            await self._yes(self.ipv4_prefer, address, context),
        )
        message = ""
        waits: Decision | None = None
        for name, searched in self._names(domain, context.facilities.search):
            elsewhere = Rerouted(name, self.rewrite_headers) if name != domain else None
            try:
                found = await self._hosts(name, address, context, kinds)
            except Found as early:
                return elsewhere or early.decision
            except NoService:
                message = finding.NO_SERVICE
                break
            except NoSuchDomain as error:
                message = str(error)
                if message:  # it exists: no other is looked for
                    break
                continue
            except TemporaryFailure as failure:
                # What a longer name than ours waits for matters if nothing else is found.
                if not searched:
                    return self._timed_out(failure)
                if "." not in domain:
                    waits = self._timed_out(failure)
                continue
            if elsewhere is not None:
                return elsewhere
            if self.check_secondary_mx and not found.here:
                return Declined()
            return Accepted(hosts=tuple(found.usable), unusable=tuple(found.unusable))
        if waits is not None:
            return waits
        if await self._in(self.fail_defer_domains, domain, address, context):
            return Deferred(
                "missing MX, or all MXs point to missing A records, and defer requested",
                error="lookup",
            )
        return Declined(message)

    async def _hosts(
        self, domain: str, address: RoutedAddress, context: Context, kinds: Kinds
    ) -> finding.Hosts:
        """Return the hosts of a domain."""
        exchangers = await self._records(domain, address, context)
        if exchangers:
            return await finding.hosts_of(exchangers, self, address, context, kinds)
        if await self._in(self.mx_domains, domain, address, context):
            raise NoSuchDomain
        itself = [Exchanger(domain, 0)]
        return await finding.hosts_of(itself, self, address, context, kinds, mx=False)

    async def _records(
        self, domain: str, address: RoutedAddress, context: Context
    ) -> list[Exchanger]:
        """Return SRV records, else MX records; [] if there are neither."""
        service = await self._service(address, context)
        if service:
            try:
                if found := await finding.srv_of(service, domain, context):
                    return found
            except TemporaryFailure:
                if not await self._in(self.srv_fail_domains, domain, address, context):
                    raise
        try:
            return await finding.mx_of(domain, context)
        except TemporaryFailure:
            if not await self._in(self.mx_fail_domains, domain, address, context):
                raise
            return []

    async def _service(self, address: RoutedAddress, context: Context) -> str:
        if self.check_srv is None:
            return ""
        try:
            return await self.check_srv.expand(context.scope(address, self.name))
        except ForcedFailure:
            return ""

    def _timed_out(self, failure: TemporaryFailure) -> Decision:
        if self.pass_on_timeout:
            return Passed()
        said = "host lookup did not complete"
        return Deferred(f"{said}: {failure.explained}", told=said, error="lookup")

    def _names(self, domain: str, search: tuple[str, ...]) -> list[tuple[str, bool]]:
        """Return the names that are looked up, in turn, as the C library's resolver has them.

        With each stands whether it is of the search list.
        """
        names = [(domain, False)]
        if "." not in domain and self.qualify_single:
            short = search if self.search_parents else search[:1]
            names[:0] = [(f"{domain}.{each}", True) for each in short]
        elif "." in domain and self.search_parents:
            names += [(f"{domain}.{each}", True) for each in search]
        if self.widen_domains is not None:
            items = [item.strip(" \t\n") for item in split_list(self.widen_domains.source)]
            names += [(f"{domain}.{item}", False) for item in items if item]
        return names

    async def _in(
        self, domains: Template | None, domain: str, address: RoutedAddress, context: Context
    ) -> bool:
        if domains is None:
            return False
        scope = context.scope(address, self.name)
        return await match_domain(domains, domain, scope) is not None

    async def _yes(self, value: Template | None, address: RoutedAddress, context: Context) -> bool:
        if value is None:
            return False
        try:
            text = await value.expand(context.scope(address, self.name))
        except ForcedFailure:
            return False
        return text.strip(" \t\n").lower() not in _NO

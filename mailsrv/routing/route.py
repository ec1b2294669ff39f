"""Routing: an address goes from router to router until one decides (specification 3.8 to 3.12)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mailsrv.config.types import User
from mailsrv.errors import ConfigError, MailFailure, TemporaryFailure
from mailsrv.expansion.errors import ExpansionError, ForcedFailure
from mailsrv.expansion.lists import split_list
from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.template import Template, compile_string
from mailsrv.interfaces import IMailLog, IResolver, Routed
from mailsrv.mail import address as names
from mailsrv.mail.message import Message, Recipient
from mailsrv.mail.routed import RoutedAddress
from mailsrv.mail.status import LOCAL_PROBLEM, Status
from mailsrv.mail.taint import like
from mailsrv.net.threads import IThreads
from mailsrv.routing.decision import (
    Accepted,
    Decision,
    Declined,
    Deferred,
    Discarded,
    Failed,
    Passed,
    Rerouted,
)
from mailsrv.routing.preconditions import met
from mailsrv.routing.router import SENDER, Context, Facilities, Router, boolean
from mailsrv.routing.users import Accounts

UNROUTEABLE = Status(550, 1, 1, "Unrouteable address")
TIMEOUT = 300.0  # seconds for the routing of one address
MOST_REROUTES = 20


async def no_name(name: str) -> bool:
    """The domain list that is not set."""
    return False


class Routing:
    """Provides ``IRouting``: the routers of the configuration, in their order.

    ``local_transports`` maps each transport's name to whether it is local;
    ``is_local`` tells whether an IP address is one of this host.
    """

    def __init__(
        self,
        routers: Sequence[Router],
        services: Services,
        log: IMailLog,
        resolver: IResolver,
        threads: IThreads,
        clock: Any,
        *,
        local_transports: Mapping[str, bool],
        is_local: Callable[[str], bool] = lambda address: False,
        is_local_name: Callable[[str], Awaitable[bool]] = no_name,
        timeout: float = TIMEOUT,
    ) -> None:
        self._routers = tuple(routers)
        self._log = log
        self._clock = clock
        self._timeout = timeout
        accounts = Accounts(clock, threads)
        self.facilities = Facilities(
            services,
            log,
            resolver,
            threads,
            accounts,
            local_transports,
            is_local,
            is_local_name,
        )

    async def route(self, message: Message, recipient: Recipient) -> Routed:
        """See :meth:`IRouting.route`."""
        sender = message.sender if recipient.errors_to is None else recipient.errors_to
        context = Context(self.facilities, sender=sender, message=message, origin=message.origin)
        return await self.decide(recipient, context)

    async def decide(self, recipient: Recipient, context: Context) -> Routed:
        """Route an address in any circumstances, within the time for it; never raises."""
        from twisted.internet.defer import CancelledError, Deferred, TimeoutError

        work = _Run(self, context).route(recipient)
        try:
            work.send(None)  # most often nothing waits
        except StopIteration as end:
            routed: Routed = end.value
            return routed
        except Exception as error:
            return self._unexpected(recipient, error)
        # Sent to once more, a waiting coroutine asks its Deferred again, which is as before.
        run: Deferred[Routed] = Deferred.fromCoroutine(work)
        run.addTimeout(self._timeout, self._clock)
        try:
            return await run
        except TimeoutError:
            return _deferred("routing took too long", "")
        except CancelledError:
            raise
        except Exception as error:
            return self._unexpected(recipient, error)

    def _unexpected(self, recipient: Recipient, error: Exception) -> Routed:
        self._log.panic(f"routing of {recipient.address} failed", error)
        return _deferred("unexpected failure of the routing", "")

    @property
    def routers(self) -> tuple[Router, ...]:
        """The routers in their order."""
        return self._routers


def check(routers: Sequence[Router]) -> list[ConfigError]:
    """Return an error for each router whose pass_router names none below it (chapter 15)."""
    errors = []
    for number, router in enumerate(routers):
        below = {other.name for other in routers[number + 1 :]}
        if router.pass_router is not None and router.pass_router not in below:
            problem = f"pass_router {router.pass_router!r} not found below {router.name} router"
            errors.append(ConfigError(problem, router.places.get("pass_router", router.where)))
    return errors


class _Run:
    """The routing of one address."""

    def __init__(self, routing: Routing, context: Context) -> None:
        self._routing = routing
        self._context = context
        self._log = context.facilities.log
        self._accepted: list[RoutedAddress] = []
        self._router = ""
        self._said = ""  # by the last router that declined and said why

    async def route(self, recipient: Recipient) -> Routed:
        """Offer the address to the routers in turn."""
        from twisted.internet.defer import CancelledError

        address = begin(recipient, recipient.address)
        reroutes = 0
        while True:
            try:
                end = await self._through(address)
            except MailFailure as failure:
                return self._defer(failure.reason)
            except CancelledError:
                raise
            except Exception as error:
                self._log.panic(f"{self._router} router: routing failed", error)
                return self._defer("unexpected failure of the router")
            if isinstance(end, Routed):
                return end
            reroutes += 1
            if reroutes > MOST_REROUTES:
                return self._defer("rerouted too often")
            address = end

    async def _through(self, address: RoutedAddress) -> Routed | RoutedAddress:
        """Go through the routers; a RoutedAddress is to be routed anew from the first."""
        routers = self._routing.routers
        index, last, seen = 0, None, address
        while index < len(routers):
            router = routers[index]
            last, self._router = router, router.name
            met_address = await met(router, address, self._context)
            seen = met_address or seen
            index += 1
            if met_address is None:
                continue
            decision: Decision = Declined()
            if router.unusable:
                raise TemporaryFailure(reason=router.unusable)
            if await self._set_data(router, met_address, address):
                decision = await router.route(met_address, self._context)
            if isinstance(decision, Rerouted):
                child = f"{names.split(address.address)[0]}@{decision.domain}"
                seen.router = router.name
                return begin(address.recipient, like(child, address.address), seen)
            end = await self._follow(router, decision, met_address)
            if end is not None:
                return end
            if isinstance(decision, Passed):
                index = self._index_after_pass(router, index)
        return await self._unrouteable(last, seen)

    async def _follow(
        self, router: Router, decision: Decision, seen: RoutedAddress
    ) -> Routed | None:
        """Return the end of routing that a decision is, or None to go on."""
        scope = self._context.scope(seen, router.name)
        if isinstance(decision, Declined):
            self._said = decision.message or self._said
            if await boolean(router.more, scope, True, "more"):
                return None
            return await self._unrouteable(router, seen)
        if isinstance(decision, Passed):
            return None
        if isinstance(decision, Deferred):
            return self._defer(decision.reason, frozen=decision.frozen)
        unseen = await boolean(router.unseen, scope, False, "unseen")
        if isinstance(decision, Accepted):
            failed = await self._accept(router, decision, seen)
            if failed is not None:
                return failed
        if unseen:
            return None
        if isinstance(decision, Failed):
            return self._end(UNROUTEABLE.saying(decision.message), decision.reason, router)
        assert isinstance(decision, Accepted | Discarded)
        return self._end(None, "", router)

    # Unseen copies are other deliveries: they are made whatever becomes of the address itself.

    def _defer(self, reason: str, *, frozen: bool = False) -> Routed:
        routers = {router.name: router.retry_use_local_part for router in self._routing.routers}
        return replace(
            _deferred(reason, self._router, frozen=frozen),
            addresses=tuple(self._accepted),
            by_local_part=routers.get(self._router, True),
        )

    def _end(self, status: Status | None, reason: str, router: Router | None) -> Routed:
        name = router.name if router is not None else ""
        addresses = tuple(self._accepted)
        if status is None:
            return Routed(addresses, router=name)
        return Routed(addresses, status, reason or status.text, name)

    def _index_after_pass(self, router: Router, index: int) -> int:
        if router.pass_router is None:
            return index
        routers = self._routing.routers
        return next(i for i, other in enumerate(routers) if other.name == router.pass_router)

    async def _unrouteable(self, router: Router | None, seen: RoutedAddress) -> Routed:
        """End with "Unrouteable address", or what the last router considered says instead."""
        text = ""
        if router is not None and router.cannot_route_message is not None:
            try:
                scope = self._context.scope(seen, router.name)
                text = await router.cannot_route_message.expand(scope)
            except ForcedFailure:
                pass
            except ExpansionError as error:
                self._log.panic(f"cannot_route_message of {router.name} router: {error.reason}")
        text = text or self._said
        return self._end(UNROUTEABLE.saying(text) if text else UNROUTEABLE, "", router)

    # --- before and after a router runs ---

    async def _set_data(self, router: Router, seen: RoutedAddress, address: RoutedAddress) -> bool:
        """Expand ``set`` and ``address_data``, which stay with the address (chapter 15).

        False: an expansion was forced to fail, so the router declines.
        """
        for name, value in _settings(router.set_.source if router.set_ is not None else ""):
            scope = self._context.scope(seen, router.name)
            try:
                seen.vars = {**seen.vars, name: await compile_string(value).expand(scope)}
            except ForcedFailure:
                return False
            address.vars = seen.vars
        if router.address_data is not None:
            scope = self._context.scope(seen, router.name)
            try:
                seen.address_data = address.address_data = await router.address_data.expand(scope)
            except ForcedFailure:
                return False
        return True

    async def _accept(
        self, router: Router, decision: Accepted, seen: RoutedAddress
    ) -> Routed | None:
        """Prepare an accepted address for its transport; a Routed is an end instead."""
        seen.router, seen.hosts = router.name, decision.hosts
        seen.dsn_lasthop = router.dsn_lasthop
        if router.fails_verification(self._context.verify):
            return self._end(UNROUTEABLE, "fail_verify", router)
        if not self._context.verify:
            await self._dress(router, decision, seen)
            if seen.transport not in self._context.facilities.local_transports:
                what = (
                    f'transport "{seen.transport}" was not found'
                    if seen.transport
                    else ("transport was not set")
                )
                raise TemporaryFailure(reason=f"{router.name} router: {what}")
        self._accepted.append(seen)
        return None

    async def _dress(self, router: Router, decision: Accepted, seen: RoutedAddress) -> None:
        """Expand what the transport gets, in this order: errors_to, headers, transport."""
        scope = self._context.scope(seen, router.name)
        await self._errors_to(router, seen, scope)
        seen.headers_add += await _items(router.headers_add, scope, "\n")
        seen.headers_remove += await _items(router.headers_remove, scope, ":")
        seen.transport = decision.transport
        if not seen.transport and router.transport is not None:
            seen.transport = await router.transport.expand(scope)
        if isinstance(router.user, User):
            seen.user = router.user.name
        elif router.user is not None:
            seen.user = await router.user.expand(scope)
        if router.check_local_user and router.router_home_directory is not None:
            account = await self._context.facilities.accounts.find(str(seen.local_part))
            seen.home = account.home if account is not None else seen.home
        if router.transport_home_directory is not None:
            seen.home = await router.transport_home_directory.expand(scope)

    async def _errors_to(self, router: Router, seen: RoutedAddress, scope: Scope) -> None:
        """Set where bounces go, if that address verifies; "" means nowhere."""
        if router.errors_to is None:
            return
        try:
            wanted = await router.errors_to.expand(scope)
        except ForcedFailure:
            return
        if wanted:
            context = replace(self._context, sender="", verify=SENDER, values={})
            verified = await self._routing.decide(Recipient(wanted), context)
            if verified.status is not None:
                return
        seen.errors_to = wanted


def begin(recipient: Recipient, address: str, parent: RoutedAddress | None = None) -> RoutedAddress:
    """Return an address at the start of its way."""
    local_part, domain = names.split(address)
    local = names.unquoted(local_part)
    return RoutedAddress(
        recipient,
        address,
        like(local.lower(), local),
        like(domain.lower(), domain),
        parent=parent,
        address_data=parent.address_data if parent is not None else "",
        vars=parent.vars if parent is not None else {},
    )


async def _items(template: Template | None, scope: Scope, separator: str) -> list[str]:
    """Expand a list's items one by one; empty ones and forced failures have no effect."""
    result = []
    for item in split_list(template.source, separator) if template is not None else ():
        try:
            text = await compile_string(item).expand(scope)
        except ForcedFailure:
            continue
        if text.strip(" \t\n"):
            result.append(text)
    return result


_SETTING = re.compile(r"[ \t\n]*(r_\w+)[ \t\n]*=[ \t\n]*(.*)", re.DOTALL | re.ASCII)


def _settings(text: str) -> list[tuple[str, str]]:
    """Return the names and values of a ``set`` option."""
    result = []
    for item in split_list(text, ";") if text else ():
        found = _SETTING.fullmatch(item)
        if found is not None:
            result.append((found[1], found[2]))
        elif item.strip(" \t\n"):
            raise TemporaryFailure(reason=f"set: {item!r} is not r_name = value")
    return result


def _deferred(reason: str, router: str, *, frozen: bool = False) -> Routed:
    return Routed((), LOCAL_PROBLEM, reason, router, frozen)

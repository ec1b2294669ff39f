"""One address on its way from router to router until one decides (specification 3.8 to 3.12)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mailsrv.config.types import Group, User
from mailsrv.errors import MailFailure, TemporaryFailure
from mailsrv.expansion.errors import ExpansionError, ForcedFailure
from mailsrv.expansion.lists import split_list
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import Template, compile_string
from mailsrv.mail import address as names
from mailsrv.mail.message import Recipient
from mailsrv.mail.routed import RoutedAddress
from mailsrv.mail.status import LOCAL_PROBLEM, Status
from mailsrv.mail.taint import like
from mailsrv.routing.address import begin
from mailsrv.routing.decision import (
    Accepted,
    Child,
    Decision,
    Declined,
    Deferred,
    Discarded,
    Failed,
    Passed,
    Redirected,
    Rerouted,
)
from mailsrv.routing.preconditions import met
from mailsrv.routing.router import SENDER, Context, Decide, Router, boolean, transport_named

UNROUTEABLE = Status(550, 1, 1, "Unrouteable address")


@dataclass(slots=True)
class Step:
    """What one address came to; ``status`` is None unless it failed itself."""

    address: RoutedAddress
    accepted: list[RoutedAddress] = field(default_factory=list)
    discarded: list[RoutedAddress] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)
    status: Status | None = None
    reason: str = ""
    router: str = ""
    frozen: bool = False
    by_local_part: bool = True
    told: str = ""  # what a report says instead of the reason
    verified: bool = False  # an unseen router made others of it: that is enough to verify it
    error: str = "*"

    def defer(
        self, reason: str, *, frozen: bool = False, status: Status | None = None, told: str = ""
    ) -> Step:
        """Let it end as a temporary failure."""
        self.status, self.reason, self.frozen = status or LOCAL_PROBLEM, reason, frozen
        self.told = told
        if not self.status.text:
            self.status = self.status.saying(LOCAL_PROBLEM.text)
        return self


class Run:
    """The routing of one address; ``decide`` routes another whole, for errors_to."""

    def __init__(self, routers: Sequence[Router], context: Context, decide: Decide) -> None:
        self._routers = routers
        self._context = context
        self._decide = decide
        self._log = context.facilities.log
        self._said = ""  # by the last router that declined and said why

    async def route(self, child: Child) -> Step:
        """Offer an address to the routers in turn."""
        from twisted.internet.defer import CancelledError

        step = Step(child.address)
        try:
            await self._through(step, child.start)
        except MailFailure as failure:
            return step.defer(failure.explained, told=failure.reason)
        except CancelledError:
            raise
        except Exception as error:
            self._log.panic(f"{step.router} router: routing failed", error)
            return step.defer("unexpected failure of the router")
        return step

    async def _through(self, step: Step, start: str) -> None:
        """Go through the routers until one decides."""
        address = seen = step.address
        index, last = self._place_of(start), None
        while index < len(self._routers):
            router = self._routers[index]
            last, step.router = router, router.name
            step.by_local_part = router.retry_use_local_part
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
            if await self._follow(router, decision, met_address, step):
                return
            address.copies = met_address.copies
            if isinstance(decision, Passed) and router.pass_router is not None:
                index = self._place_of(router.pass_router)
        await self._unrouteable(last, seen, step)

    def _place_of(self, name: str) -> int:
        return next((i for i, other in enumerate(self._routers) if other.name == name), 0)

    async def _follow(
        self, router: Router, decision: Decision, seen: RoutedAddress, step: Step
    ) -> bool:
        """Do what a decision says; tell whether routing ends with it.

        Unseen copies are other deliveries: they are made whatever becomes of the address itself.
        """
        if isinstance(decision, Declined):
            self._said = decision.message or self._said
            scope = self._context.scope(seen, router.name)
            if not await boolean(router.more, scope, True, "more"):
                await self._unrouteable(router, seen, step)
                return True
            return False
        if isinstance(decision, Passed):
            self._said = decision.message or self._said
            if decision.self_hostname:
                self._context.values["self_hostname"] = decision.self_hostname
            return False
        if isinstance(decision, Deferred):
            step.error = decision.error
            step.defer(
                decision.reason,
                frozen=decision.frozen,
                status=decision.status,
                told=decision.told,
            )
            return True
        if isinstance(decision, Failed):
            self._fail(decision, step)
            return True
        unseen = router.unseen
        if isinstance(unseen, Template):
            scope = self._context.scope(seen, router.name)
            unseen = await boolean(unseen, scope, False, "unseen")
        unseen = unseen and router is not self._routers[-1]  # else none is there for a copy
        seen.copies += unseen
        seen.router = router.name
        seen.quiet = router.disable_logging
        await self._take(router, decision, seen, step)
        step.verified = step.verified or (unseen and bool(step.children))
        return step.status is not None or not unseen

    def _fail(self, decision: Failed, step: Step) -> None:
        step.status = decision.status or UNROUTEABLE.saying(decision.message)
        step.reason = decision.reason or step.status.text
        if not step.status.text:
            step.status = step.status.saying(UNROUTEABLE.text)

    async def _take(
        self,
        router: Router,
        decision: Accepted | Redirected | Rerouted | Discarded,
        seen: RoutedAddress,
        step: Step,
    ) -> None:
        """Keep what a router has made of the address."""
        if isinstance(decision, Rerouted):
            text = f"{names.split(seen.address)[0]}@{decision.domain}"
            child = begin(seen.recipient, like(text, seen.address), seen)
            if decision.rewrite:
                child.renamed = (*seen.renamed, (seen.domain, decision.domain))
            step.children.append(Child(child))
        elif isinstance(decision, Discarded):
            thrown = replace(seen, address=":blackhole:", parent=seen, place=True)
            step.discarded.append(thrown)
        elif isinstance(decision, Redirected):
            if not self._context.verify:
                await self._dress(router, seen)
            for each in decision.children:
                await self._hand_down(router, seen, each.address)
            step.children = [*decision.children, *step.children]
            if decision.failed is not None:
                self._fail(decision.failed, step)
        elif router.fails_verification(self._context.verify):
            step.status, step.reason = UNROUTEABLE, "fail_verify"
        else:
            await self._accept(router, decision, seen)
            step.accepted.append(seen)

    async def _unrouteable(self, router: Router | None, seen: RoutedAddress, step: Step) -> None:
        """End with "Unrouteable address", or what the last router considered says instead."""
        text = ""
        if router is not None and router.cannot_route_message is not None:
            try:
                scope = self._context.scope(seen, router.name)
                text = await router.cannot_route_message.expand(scope)
            except ForcedFailure:
                pass
            except ExpansionError as error:
                self._log.panic(f"cannot_route_message of {router.name} router: {error.explained}")
        step.router = ""  # none has decided
        said = text or self._said
        step.status = UNROUTEABLE.saying(said) if said else UNROUTEABLE
        step.reason = self._said or step.status.text

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

    async def _accept(self, router: Router, decision: Accepted, seen: RoutedAddress) -> None:
        """Prepare an accepted address for its transport.

        :raises TemporaryFailure: it has none.
        """
        seen.hosts, seen.unusable = decision.hosts, decision.unusable
        seen.fallback_hosts = router.last_hosts
        seen.dsn_lasthop = router.dsn_lasthop
        seen.transport = decision.transport
        if not self._context.verify:
            await self._dress(router, seen)
        if not seen.transport and router.transport is not None:
            scope = self._context.scope(seen, router.name)
            facilities = self._context.facilities
            seen.transport = await transport_named(router.name, router.transport, scope, facilities)
        if self._context.verify:
            await self._user(router, seen)
            return
        await self._environment(router, seen)
        if not seen.transport:
            raise TemporaryFailure(reason=f"{router.name} router: transport was not set")

    async def _dress(self, router: Router, seen: RoutedAddress) -> None:
        """Expand what deliveries and children get, in this order: errors_to, headers."""
        scope = self._context.scope(seen, router.name)
        await self._errors_to(router, seen, scope)
        seen.headers_add += await _items(router.headers_add, scope, "\n")
        seen.headers_remove += await _items(router.headers_remove, scope, ":")

    async def _environment(self, router: Router, seen: RoutedAddress) -> None:
        """Set under whom and where a local delivery runs (chapter 23)."""
        await self._user(router, seen)
        scope = self._context.scope(seen, router.name)
        if isinstance(router.group, Group):
            seen.group = router.group.name
        elif router.group is not None:
            seen.group = await router.group.expand(scope)
        seen.initgroups = router.initgroups
        if router.check_local_user and router.router_home_directory is not None:
            account = await self._context.facilities.accounts.find(str(seen.local_part))
            seen.home = account.home if account is not None else seen.home
        if router.transport_home_directory is not None:
            seen.home = await router.transport_home_directory.expand(scope)
        if router.transport_current_directory is not None:
            scope = self._context.scope(seen, router.name)
            seen.directory = await router.transport_current_directory.expand(scope)

    async def _user(self, router: Router, seen: RoutedAddress) -> None:
        """Set under whom a local delivery runs.

        :raises TemporaryFailure: the router's ``user`` is expanded to one that there is not.
        """
        if isinstance(router.user, User):
            seen.user = router.user.name
        elif router.user is not None:
            name = await router.user.expand(self._context.scope(seen, router.name))
            accounts = self._context.facilities.accounts
            if not name.isdecimal() and await accounts.find(name) is None:
                raise TemporaryFailure(
                    reason=f'Failed to find user "{name}" from expanded string'
                    f' "{router.user.source}" for the {router.name} router'
                )
            seen.user = name

    async def _hand_down(self, router: Router, seen: RoutedAddress, child: RoutedAddress) -> None:
        """Give a child what its parent's router said of bounces, headers and deliveries."""
        child.errors_to = seen.errors_to
        child.headers_add = list(seen.headers_add)
        child.headers_remove = list(seen.headers_remove)
        if child.place:
            child.router = router.name
            await self._environment(router, child)

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
            verified = await self._decide(Recipient(wanted), context)
            if verified.status is not None:
                return
        seen.errors_to = wanted


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

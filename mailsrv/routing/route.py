"""Routing: an address and all that it becomes (specification 3.8 to 3.12, 22)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mailsrv.errors import ConfigError
from mailsrv.expansion.rewrite import Rewriter
from mailsrv.expansion.scope import Services
from mailsrv.interfaces import IMailLog, IResolver, Routed, Unrouted
from mailsrv.mail.message import Message, Recipient
from mailsrv.mail.routed import RoutedAddress
from mailsrv.net.listfile import ListFile
from mailsrv.net.threads import IThreads
from mailsrv.routing.address import begin
from mailsrv.routing.decision import Child
from mailsrv.routing.router import ADDRESS_TEST, Context, Facilities, Router
from mailsrv.routing.run import Run, Step
from mailsrv.routing.users import Accounts

TIMEOUT = 300.0  # seconds for the routing of one address
DEEPEST = 100  # addresses made of each other, as in Exim
MOST_SHOWN = 1000  # addresses up to which a test shows those that come twice
SIDE_BY_SIDE = 20  # children of one address that are routed at a time
NULL = "/dev/null"


async def no_name(name: str) -> bool:
    """The domain list that is not set."""
    return False


class Routing:
    """Provides ``IRouting``: the routers of the configuration, in their order.

    ``local_transports`` maps each transport's name to whether it is local;
    ``is_local`` tells whether an IP address is one of this host; ``search`` are
    the domains that complete short names.
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
        rewriter: Rewriter | None = None,
        timeout: float = TIMEOUT,
        read_as: Callable[[str, str, ListFile], Awaitable[str | None]] | None = None,
        search: tuple[str, ...] = (),
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
            rewriter or Rewriter(),
            search,
            read_as,
        )

    async def route(self, message: Message, recipient: Recipient) -> Routed:
        """See :meth:`IRouting.route`."""
        sender = message.sender if recipient.errors_to is None else recipient.errors_to
        context = Context(self.facilities, sender=sender, message=message, origin=message.origin)
        return await self.decide(recipient, context)

    async def decide(self, recipient: Recipient, context: Context) -> Routed:
        """Route an address in any circumstances; never raises.

        Each address that it becomes has its own time.
        """
        step = await self._step(Child(begin(recipient, recipient.address)), context)
        if context.verify:
            return await self._verified(step, context)
        return await self._gathered(step, context) if step.children else _answer(step)

    async def _step(self, child: Child, context: Context) -> Step:
        """Route one address, within the time for it."""
        from twisted.internet.defer import CancelledError, Deferred, TimeoutError

        work = Run(self._routers, context, self.decide).route(child)
        try:
            work.send(None)  # most often nothing waits
        except StopIteration as end:
            step: Step = end.value
            return step
        except Exception as error:
            return self._unexpected(child, error)
        # Sent to once more, a waiting coroutine asks its Deferred again, which is as before.
        run: Deferred[Step] = Deferred.fromCoroutine(work)
        run.addTimeout(self._timeout, self._clock)
        try:
            return await run
        except TimeoutError:
            return Step(child.address).defer("routing took too long")
        except CancelledError:
            raise
        except Exception as error:
            return self._unexpected(child, error)

    def _unexpected(self, child: Child, error: Exception) -> Step:
        self._log.panic(f"routing of {child.address.address} failed", error)
        return Step(child.address).defer("unexpected failure of the routing")

    async def _verified(self, step: Step, context: Context) -> Routed:
        """Go on with a redirected address while it is a single other one (44.45)."""
        depth = 0
        while step.status is None and len(step.children) == 1 and not step.verified:
            (child,) = step.children
            depth += 1
            if child.address.place:
                break
            if depth > DEEPEST:
                return _answer(step.defer("routing loop"))
            step = await self._step(child, replace(context, values={}))
        if step.verified:
            step = Step(step.address, children=step.children)
        return _answer(step, (step.address,) if step.children else ())

    async def _gathered(self, first: Step, context: Context) -> Routed:
        """Route all that an address becomes, one generation after the other."""
        children, known, depth = first.children, {self._identity(Child(first.address))}, 0
        steps: dict[int, Step] = {}
        while children:
            depth += 1
            # Whoever asks where addresses would go sees those that come twice, too.
            shown = context.asked == ADDRESS_TEST and len(steps) < MOST_SHOWN
            wanted = children if shown else self._unknown(children, known)
            steps |= {id(child): _placed(child, context) for child in wanted if child.address.place}
            wanted = [child for child in wanted if not child.address.place]
            if depth > DEEPEST:
                for child in wanted:
                    self._log.panic(f"routing loop for {child.address.address}")
                    steps[id(child)] = Step(child.address).defer("routing loop")
                break
            made = await self._steps(wanted, context)
            steps |= {id(child): step for child, step in zip(wanted, made, strict=True)}
            children = [child for step in made for child in step.children]
        return _answer(first, below=_in_order(first, steps))

    def _unknown(self, children: Iterable[Child], known: set[object]) -> list[Child]:
        """Return those that have not been met before: of equal addresses one is enough (22.7)."""
        new = []
        for child in children:
            identity = self._identity(child)
            if identity not in known:
                known.add(identity)
                new.append(child)
        return new

    def _identity(self, child: Child) -> object:
        """Return what is equal for addresses that are routed alike."""
        address = child.address
        if address.place:
            return address.address, address.parent.address if address.parent else ""
        above = {each.router for each in address.ancestors()}
        skipped = (
            each.name for each in self._routers if each.name in above and each.has_made(address)
        )
        return address.address, child.start, frozenset(skipped)

    async def _steps(self, children: Sequence[Child], context: Context) -> list[Step]:
        """Route addresses side by side, a few at a time; the reactor has its turn between."""
        from twisted.internet.defer import Deferred, FirstError, gatherResults
        from twisted.internet.task import deferLater

        steps: list[Step] = []
        for start in range(0, len(children), SIDE_BY_SIDE):
            if start:
                await deferLater(self._clock, 0, lambda: None)
            group = children[start : start + SIDE_BY_SIDE]
            if len(group) == 1:
                steps.append(await self._step(group[0], replace(context, values={})))
                continue
            runs = [
                Deferred.fromCoroutine(self._step(child, replace(context, values={})))
                for child in group
            ]
            try:
                steps += await gatherResults(runs, consumeErrors=True)
            except FirstError as error:  # we are cancelled
                error.subFailure.raiseException()
        return steps

    @property
    def routers(self) -> tuple[Router, ...]:
        """The routers in their order."""
        return self._routers


def _placed(child: Child, context: Context) -> Step:
    """Take a pipe, file or directory, which is not routed."""
    address = child.address
    step = Step(address, router=address.router)
    if address.address == NULL and context.asked != ADDRESS_TEST:
        address.transport = "**bypassed**"
        step.discarded.append(address)
    elif child.problem:
        address.transport = ""
        step.defer(child.problem)
    else:
        step.accepted.append(address)
    return step


def _in_order(step: Step, steps: Mapping[int, Step]) -> Iterator[Step]:
    """Give the steps below one as a reader of the lists would meet them."""
    waiting = [step]
    while waiting:
        next = waiting.pop()
        if next is not step:
            yield next
        waiting += (steps[id(each)] for each in reversed(next.children) if id(each) in steps)


def _answer(
    step: Step, verified: tuple[RoutedAddress, ...] = (), below: Iterable[Step] = ()
) -> Routed:
    all = [step, *below]
    for number, each in enumerate(all):
        for address in (each.address, *each.accepted):
            address.number = number
    addresses = verified or tuple(each for step in all for each in step.accepted)
    discarded = tuple(each for step in all for each in step.discarded)
    unrouted = tuple(_unrouted(step) for step in all[1:] if step.status is not None)
    return Routed(
        addresses,
        step.status,
        step.reason,
        step.router,
        step.frozen,
        step.by_local_part,
        unrouted,
        discarded,
        step.told,
        step.address.copies,
        step.error,
    )


def _unrouted(step: Step) -> Unrouted:
    assert step.status is not None
    step.address.router = step.router
    return Unrouted(
        step.address,
        step.status,
        step.reason,
        step.frozen,
        step.by_local_part,
        step.told,
        step.error,
    )


def check(routers: Sequence[Router]) -> list[ConfigError]:
    """Return an error for each name of a router that there is not, or not below (chapter 15)."""
    errors = []
    names = {router.name for router in routers}
    for number, router in enumerate(routers):
        below = {other.name for other in routers[number + 1 :]}
        if router.pass_router is not None and router.pass_router not in below:
            problem = f"pass_router {router.pass_router!r} not found below {router.name} router"
            where = router.places.get("pass_router", router.where)
            errors.append(ConfigError(problem, where, whole=True))
        if router.redirect_router is not None and router.redirect_router not in names:
            problem = (
                f'redirect_router "{router.redirect_router}" not found for {router.name} router'
            )
            where = router.places.get("redirect_router", router.where)
            errors.append(ConfigError(problem, where, whole=True))
    return errors

"""The DNS for commands that do nothing else meanwhile: each question waits for its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mailsrv.interfaces import Answer

if TYPE_CHECKING:
    from mailsrv.dns.resolver import Resolver

T = TypeVar("T")


class WaitingResolver:
    """Provides ``IResolver``; ``make`` makes the resolver for a reactor, with the first question.

    The reactor never runs: it is turned while a question waits.
    """

    def __init__(self, make: Callable[[Any], Resolver]) -> None:
        self._make = make
        self._resolver: Resolver | None = None

    async def query(self, name: str, rdtype: str) -> Answer:
        """See ``IResolver``."""
        return self._wait(lambda resolver: resolver.query(name, rdtype))

    async def addresses(
        self, name: str, *, ipv6: bool = True, hosts_file: bool = True
    ) -> tuple[str, ...]:
        """See ``IResolver``."""
        return self._wait(lambda one: one.addresses(name, ipv6=ipv6, hosts_file=hosts_file))

    async def names(self, address: str) -> tuple[str, ...]:
        """See ``IResolver``."""
        return self._wait(lambda resolver: resolver.names(address))

    def within(self, retransmit: float, retries: int) -> WaitingResolver:
        """See ``IResolver``."""
        return WaitingResolver(lambda reactor: self._made(reactor).within(retransmit, retries))

    def _made(self, reactor: Any) -> Resolver:
        if self._resolver is None:
            self._resolver = self._make(reactor)
        return self._resolver

    def _wait(self, ask: Callable[[Resolver], Awaitable[T]]) -> T:
        from twisted.internet import reactor as installed  # here: most strings need no DNS
        from twisted.internet.defer import Deferred
        from twisted.python.failure import Failure

        reactor: Any = installed
        results: list[Any] = []
        question: Any = ask(self._made(reactor))
        Deferred.fromCoroutine(question).addBoth(results.append)
        while not results:
            reactor.iterate(1)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        answer: T = results[0]
        return answer

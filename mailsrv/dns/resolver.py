"""The DNS for the rest of mailsrv: servers in turn, retries, cache, hosts file (``IResolver``).

dnspython builds and reads the messages; sockets, time-outs and the order of
servers are here, on the reactor and its clock.  Cheap to import: dnspython and
Twisted's sockets come with the first query.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mailsrv.dns.cache import Cache, Key
from mailsrv.dns.system import (
    HOSTS,
    HostsFile,
    canonical,
    is_address,
    read_resolv_conf,
    reverse_name,
)
from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import Answer

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from mailsrv.dns.exchange import Server
    from mailsrv.dns.messages import Reply

NO_SUCH_NAME = Answer((), exists=False)

_CHECKED = ("A", "AAAA", "MX")  # types of which dns_check_names_pattern judges the names

MOST_ALIASES = 10
"""Times that the servers are asked for where a name's CNAMEs lead."""

MAX_AT_ONCE = 256
"""Queries under way at a time, but for slow ones; each has a socket."""

SLOW = 1.0
"""Seconds after which a query gives its place to another, so that dead domains delay no others."""

MOST_SLOW = 1000
"""Slow queries under way at a time; those above keep their places."""


class Resolver:
    """Provides ``IResolver`` with a cache of its own.

    ``nameservers`` are addresses, or (address, port); None takes those of
    resolv.conf.  ``names`` is what hosts' and domains' names must satisfy
    (``dns_check_names_pattern``); no IPv6 address is looked up unless ``ipv6``,
    nor of names for which ``ipv4_only`` says so.  A name whose lookup fails does
    not exist if ``again_means_nonexist`` says so (``dns_again_means_nonexist``).
    ``retransmit`` is the seconds that a server has to answer (``dns_retrans``),
    ``retries`` how often each is asked (``dns_retry``); 0 takes resolv.conf's.
    ``trust_ad`` says that the servers' word on DNSSEC is to be believed (by
    default: what resolv.conf says, for its own servers).
    """

    def __init__(
        self,
        reactor: Any,
        nameservers: Sequence[str | Server] | None = None,
        *,
        retransmit: float = 0,
        retries: int = 0,
        trust_ad: bool | None = None,
        cache_size: int = 10_000,
        hosts_file: str = HOSTS,
        names: Callable[[str], object] | None = None,
        ipv6: bool = True,
        ipv4_only: Callable[[str], Awaitable[bool]] | None = None,
        again_means_nonexist: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        system = read_resolv_conf()
        if trust_ad is None:
            trust_ad = system.trust_ad and nameservers is None
        chosen = system.nameservers if nameservers is None else nameservers
        self._servers = [(one, 53) if isinstance(one, str) else one for one in chosen]
        self._reactor = reactor
        self._timeout = retransmit or system.timeout
        self._rounds = retries or system.attempts
        self._trust_ad = trust_ad
        self.search = system.search
        """Domains that complete short names."""
        self._cache = Cache(reactor, cache_size)
        self._hosts = HostsFile(reactor, hosts_file)
        self._under_way: dict[Key, list[Deferred[Answer]]] = {}
        self._places: _Places | None = None
        self._names = names
        self._ipv6 = ipv6
        self._ipv4_only = ipv4_only
        self._again_means_nonexist = again_means_nonexist

    async def query(self, name: str, rdtype: str) -> Answer:
        """See ``IResolver``; a text that cannot be a name does not exist.

        :raises ValueError: there is no such record type.
        """
        key = name.lower().removesuffix("."), rdtype.upper()
        if self._names is not None and key[1] in _CHECKED and not self._names(key[0]):
            return NO_SUCH_NAME
        answer = self._cache.get(key)
        if answer is not None:
            return answer
        try:
            return await self._join(key)
        except TemporaryFailure:
            if self._again_means_nonexist is not None and await self._again_means_nonexist(key[0]):
                return NO_SUCH_NAME
            raise

    def within(self, retransmit: float, retries: int) -> Resolver:
        """See ``IResolver``: the cache and the queries under way are shared."""
        other = copy(self)
        other._timeout = retransmit or self._timeout
        other._rounds = retries or self._rounds
        return other

    async def addresses(
        self, name: str, *, ipv6: bool = True, hosts_file: bool = True
    ) -> tuple[str, ...]:
        """See ``IResolver``: an address is its own answer; IPv6 addresses come first."""
        ipv6 = ipv6 and self._ipv6
        if is_address(name):
            found: tuple[str, ...] = (canonical(name),)
        else:
            found = self._hosts.addresses(name) if hosts_file else ()
            found = found or await self._addresses_by_dns(name, ipv6=ipv6)
        return tuple(address for address in found if ipv6 or ":" not in address)

    async def names(self, address: str) -> tuple[str, ...]:
        """See ``IResolver``; the hosts file is asked first."""
        if not is_address(address):
            return ()
        found = self._hosts.names(address)
        return found or (await self.query(reverse_name(address), "PTR")).records

    async def _addresses_by_dns(self, name: str, *, ipv6: bool) -> tuple[str, ...]:
        """Ask for both kinds at once; one kind that fails matters only if the other has none."""
        from twisted.internet.defer import Deferred, DeferredList

        if ipv6 and self._ipv4_only is not None:
            ipv6 = not await self._ipv4_only(name)
        kinds = ("AAAA", "A") if ipv6 else ("A",)
        answers: Any = await DeferredList(
            [Deferred.fromCoroutine(self.query(name, kind)) for kind in kinds], consumeErrors=True
        )
        found = [record for success, value in answers if success for record in value.records]
        if not found:
            for success, value in answers:
                if not success:
                    raise value.value
        return tuple(found)

    async def _join(self, key: Key) -> Answer:
        """Wait for an answer; all who ask the same share one query."""
        from twisted.internet.defer import Deferred

        waiter: Deferred[Answer] = Deferred()
        waiters = self._under_way.get(key)
        if waiters is not None:
            waiters.append(waiter)
            return await waiter
        self._under_way[key] = [waiter]
        asking = Deferred.fromCoroutine(self._ask(key))
        asking.addCallbacks(self._answered, self._failed, (key,), {}, (key,))
        return await waiter

    def _answered(self, answer: Answer, key: Key) -> None:
        for waiter in self._under_way.pop(key):
            waiter.callback(answer)

    def _failed(self, failure: Failure, key: Key) -> None:
        for waiter in self._under_way.pop(key):
            waiter.errback(failure)

    async def _ask(self, key: Key) -> Answer:
        """Ask the servers and keep what they answer."""
        if self._places is None:
            self._places = _Places(self._reactor)
        leave = await self._places.enter()
        try:
            answer = await self._follow(*key)
        finally:
            leave()
        answer = replace(answer, authenticated=answer.authenticated and self._trust_ad)
        self._cache.put(key, answer)
        return answer

    async def _follow(self, name: str, rdtype: str) -> Answer:
        """Ask for a name, and for that to which its CNAMEs lead if the servers did not."""
        asked, ttl, authenticated = name, 1 << 31, True
        for _ in range(MOST_ALIASES):
            reply = await self._ask_servers(asked, rdtype)
            assert reply.answer is not None
            ttl = min(ttl, reply.answer.ttl)
            authenticated = authenticated and reply.answer.authenticated
            if not reply.alias:
                return replace(reply.answer, ttl=ttl, authenticated=authenticated)
            asked = reply.alias
        raise TemporaryFailure(reason=f"DNS lookup of {name} ({rdtype}) failed: endless CNAMEs")

    async def _ask_servers(self, name: str, rdtype: str) -> Reply:
        """Ask one server after the other until one answers.

        A server that does not answer goes to the end of the row, so that the
        next query need not wait for it.
        """
        from mailsrv.dns.exchange import NoReply
        from mailsrv.dns.messages import BadName, Reply

        problem = "no name server"
        for _ in range(self._rounds):
            for server in list(self._servers):
                try:
                    reply = await self._ask_server(server, name, rdtype)
                except BadName:
                    return Reply(NO_SUCH_NAME)
                except NoReply as error:
                    problem = f"{server[0]}: {error}"
                    self._demote(server)
                    continue
                if reply.answer is not None:
                    return reply
                problem = f"{server[0]}: {reply.problem}"
        raise TemporaryFailure(reason=f"DNS lookup of {name} ({rdtype}) failed: {problem}")

    async def _ask_server(self, server: Server, name: str, rdtype: str) -> Reply:
        from mailsrv.dns.exchange import ask
        from mailsrv.dns.messages import build

        reply = await ask(self._reactor, server, build(name, rdtype), self._timeout)
        if reply.refuses_edns:  # RFC 6891, section 7
            plain = build(name, rdtype, edns=False)
            reply = await ask(self._reactor, server, plain, self._timeout)
        return reply

    def _demote(self, server: Server) -> None:
        if self._servers[0] == server:
            self._servers.append(self._servers.pop(0))


class _Places:
    """Bounds the queries under way."""

    def __init__(self, reactor: Any) -> None:
        from twisted.internet.defer import DeferredSemaphore

        self._reactor = reactor
        self._free = DeferredSemaphore(MAX_AT_ONCE)
        self._slow = 0

    async def enter(self) -> Callable[[], None]:
        """Wait for a place; return what is to be called when the query is over."""
        await self._free.acquire()
        slow = False

        def give_way() -> None:
            nonlocal slow
            if self._slow < MOST_SLOW:
                slow = True
                self._slow += 1
                self._free.release()

        timer = self._reactor.callLater(SLOW, give_way)

        def leave() -> None:
            if timer.active():
                timer.cancel()
            if slow:
                self._slow -= 1
            else:
                self._free.release()

        return leave

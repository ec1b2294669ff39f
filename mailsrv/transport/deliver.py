"""Delivery: routed addresses become batches, batches become runs of transports.

Every address is settled once.  A failure of a run that is no outcome of its own (a bug
included) settles what is open: nothing is lost and nothing else suffers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from socket import socket
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList

from mailsrv.config.types import Group, User
from mailsrv.errors import MailFailure
from mailsrv.expansion.scope import Scope, Services
from mailsrv.interfaces import (
    IClientAuthentication,
    IHostRetry,
    IMailLog,
    IResolver,
    Record,
    Waits,
    no_matter,
)
from mailsrv.mail.message import Message
from mailsrv.mail.routed import CROWDED, Outcome, Result, RoutedAddress
from mailsrv.mail.status import LOCAL_PROBLEM, Status
from mailsrv.net.threads import IThreads
from mailsrv.net.tlsclient import ClientTls
from mailsrv.transport.connection import Connector, IConnector
from mailsrv.transport.limits import Crew, Crowded, Key, Limits
from mailsrv.transport.pool import Pool
from mailsrv.transport.shadow import Shadows
from mailsrv.transport.transport import Batch, Facilities, Transport, optional
from mailsrv.transport.users import RunAs, is_other_user


class Delivering:
    """Provides ``IDelivering``: the transports of the configuration, by name.

    ``drop_privilege`` is ``deliver_drop_privilege``: all local deliveries run
    as the server's user.  ``per_message`` is ``remote_max_parallel``,
    ``per_hop`` bounds the connections to one next hop.  ``connector`` is given
    by tests.  ``privileged`` leads to the process that delivers as other users;
    None: there is none.
    """

    def __init__(
        self,
        transports: Mapping[str, Transport],
        services: Services,
        log: IMailLog,
        resolver: IResolver,
        host_retry: IHostRetry,
        threads: IThreads,
        reactor: Any,
        *,
        never_users: frozenset[int] = frozenset(),
        drop_privilege: bool = False,
        per_message: int = 4,
        per_hop: int = 20,
        is_local: Callable[[str], bool] = lambda address: False,
        connector: IConnector | None = None,
        privileged: socket | None = None,
        commands: IThreads | None = None,
        client_tls: ClientTls | None = None,
        authentication: IClientAuthentication | None = None,
    ) -> None:
        self._transports = transports
        self._never = never_users
        self._drop = drop_privilege
        self._per_message = per_message
        self._log = log
        self._shadows = Shadows(transports, log, self._prepare)
        self._running = 0  # calls of :meth:`deliver` under way
        self._idle: list[Deferred[None]] = []  # of those who wait for the last of them
        self._facilities = Facilities(
            services,
            reactor,
            log,
            resolver,
            host_retry,
            threads,
            commands or threads,
            Pool(reactor, connector or Connector(reactor)),
            Limits(reactor),
            per_hop,
            is_local,
            services.settings.get("primary_hostname", "localhost"),
            client_tls=client_tls or ClientTls(),
            authentication=authentication,
            privileged=privileged,
        )

    @property
    def facilities(self) -> Facilities:
        """What transports use."""
        return self._facilities

    async def deliver(
        self,
        message: Message,
        addresses: Sequence[RoutedAddress],
        record: Record,
        waits: Waits = no_matter,
    ) -> None:
        """See :meth:`IDelivering.deliver`."""
        unique, twins = _without_twins(addresses)
        ledger = _Ledger(self._log, record, twins)
        batches = await self._batches(message, unique, ledger, Crew(waits))
        self._running += 1
        try:
            if len(batches) == 1:
                await self._run(*batches[0], alone=True)
            else:
                await self._run_all(batches)
        finally:
            self._running -= 1
            if not self._running:
                self._tell_idle()

    async def _run_all(self, batches: Sequence[tuple[Batch, _Ledger]]) -> None:
        runs = [Deferred.fromCoroutine(self._run(batch, ledger)) for batch, ledger in batches]
        everything: Deferred[Any] = DeferredList(runs, consumeErrors=True)
        for succeeded, result in await everything:
            if not succeeded and result.check(CancelledError):
                raise CancelledError

    async def close(self) -> None:
        """See :meth:`IDelivering.close`."""
        if self._running:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle
        self._facilities.pool.close()

    def _tell_idle(self) -> None:
        waiting, self._idle = self._idle, []
        for idle in waiting:
            idle.callback(None)

    # --- batches ---

    async def _batches(
        self,
        message: Message,
        addresses: Sequence[RoutedAddress],
        ledger: _Ledger,
        crew: Crew,
    ) -> list[tuple[Batch, _Ledger]]:
        """Group addresses that may travel together (chapter 25), in their order."""
        if len(addresses) == 1:
            own = ledger.part(addresses)
            return [(self._batch(message, own, crew), own)]
        groups: dict[Hashable, list[RoutedAddress]] = {}
        for number, address in enumerate(addresses):
            key = await self._key(message, address)
            groups.setdefault((number,) if key is None else key, []).append(address)
        result = []
        for members in groups.values():
            transport = self._transports.get(members[0].transport)
            most = (transport.most() if transport else 1) or len(members)
            for start in range(0, len(members), most):
                own = ledger.part(members[start : start + most])
                result.append((self._batch(message, own, crew), own))
        return result

    async def _key(self, message: Message, address: RoutedAddress) -> Hashable | None:
        """Return what must be equal for addresses to share a batch; None: it travels alone."""
        transport = self._transports.get(address.transport)
        if transport is None or transport.most() == 1:
            return None
        scope = Scope(
            self._facilities.services,
            message=message,
            origin=message.origin,
            address=address,
            values={"transport_name": transport.name, "router_name": address.router},
        )
        try:
            own = await transport.together(message, address, scope)
        except CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, MailFailure):
                self._log.panic(f"{transport.name} transport: batching failed", error)
            return None
        return (
            address.transport,
            address.place and address.address,
            address.hosts,
            tuple(address.headers_add),
            tuple(address.headers_remove),
            address.renamed,
            _errors_to(message, address),
            address.user,
            address.group,
            address.home,
            own,
        )

    def _batch(self, message: Message, ledger: _Ledger, crew: Crew) -> Batch:
        first = ledger.addresses[0]
        transport = self._transports.get(first.transport)
        by_domain = transport is not None and transport.local and not transport.retry_use_local_part
        batch = Batch(
            message,
            ledger.addresses,
            self._facilities,
            ledger.settle_by_domain if by_domain else ledger.settle,
            first.transport,
            _errors_to(message, first),
            crew=crew,
        )
        if transport is not None and transport.local and transport.shadow_transport:
            batch.settle = partial(self._with_shadow, transport, replace(batch))
        return batch

    async def _with_shadow(
        self, transport: Transport, batch: Batch, outcomes: Sequence[Outcome]
    ) -> None:
        await batch.settle(await self._shadows.cast(transport, batch, outcomes))

    # --- runs ---

    async def _run(self, batch: Batch, ledger: _Ledger, *, alone: bool = False) -> None:
        """Run a transport for a batch; whatever happens, each address is settled or logged.

        ``alone``: the message has no other batch.
        """
        batch.crew.change(left=1)
        try:
            await self._run_through(batch, ledger, alone=alone)
        finally:
            batch.crew.change(left=-1)

    async def _run_through(self, batch: Batch, ledger: _Ledger, *, alone: bool) -> None:
        failure: BaseException | None = None
        try:
            await self._deliver(batch, alone=alone)
        except (CancelledError, GeneratorExit):
            raise
        except MailFailure as error:
            failure = error
        except Exception as error:
            failure = error
            self._log.panic(f"{batch.transport} transport: delivery failed", error)
        if not ledger.open:
            return
        if failure is None:
            self._log.panic(f"{batch.transport} transport: gave no outcome for some addresses")
        try:
            await ledger.settle([_failed(address, failure) for address in ledger.open])
        except Exception as error:
            self._log.panic("the outcome of a delivery could not be recorded", error)

    async def _deliver(self, batch: Batch, *, alone: bool) -> None:
        transport = self._transports.get(batch.transport)
        if transport is None:
            raise _unknown(batch.transport)
        await self._prepare(transport, batch)
        wanted: dict[Key, int] = {}
        if parallel := await transport.parallel(batch):
            wanted["transport", batch.transport] = parallel
        if not alone:
            wanted["message", batch.message.id] = self._per_message
        async with self._facilities.limits.hold(wanted, batch.crew):
            batch.started = self._facilities.clock.seconds()
            await transport.deliver(batch)

    async def _prepare(self, transport: Transport, batch: Batch) -> None:
        await transport.prepare(batch)
        if not self._drop and (transport.needs_user or transport.user is not None):
            batch.run_as = await self._other_user(transport, batch)

    async def _other_user(self, transport: Transport, batch: Batch) -> RunAs | None:
        """Return the user of a delivery that is not the server's own.

        :raises TemporaryFailure: nothing may be delivered as this user.
        """
        name = await self._user(transport, batch)
        privileged = self._facilities.privileged is not None and transport.needs_user
        judge = partial(is_other_user, name, batch.transport, self._never, privileged=privileged)
        if not await self._facilities.threads.run(judge):
            return None
        group, first = transport.group, batch.addresses[0]
        named = group.name if isinstance(group, Group) else await optional(group, batch.scope())
        own = transport.user is None  # then the router's group and initgroups go with its user
        return RunAs(
            name,
            named or (first.group if own else ""),
            transport.initgroups or (own and first.initgroups),
        )

    async def _user(self, transport: Transport, batch: Batch) -> str:
        """Return the user that the configuration wants; "" = the server's own."""
        user = transport.user
        if isinstance(user, User):
            return user.name
        chosen = await optional(user, batch.scope())
        # A router's user matters to what is written here, not to who connects to a socket.
        return chosen or (batch.addresses[0].user if transport.needs_user else "")


class _Ledger:
    """Which addresses of a batch are open, and the way of their outcomes to ``record``.

    ``twins`` are further addresses that are the same delivery (3.11): they get
    the outcome of the one that is delivered.
    """

    def __init__(
        self,
        log: IMailLog,
        record: Record,
        twins: Mapping[int, Sequence[RoutedAddress]],
        addresses: Sequence[RoutedAddress] = (),
    ) -> None:
        self.addresses = tuple(addresses)
        self._log = log
        self._record = record
        self._twins = twins
        self._open = {id(address): address for address in addresses}

    def part(self, addresses: Sequence[RoutedAddress]) -> _Ledger:
        """Return the ledger of one batch."""
        return _Ledger(self._log, self._record, self._twins, addresses)

    @property
    def open(self) -> list[RoutedAddress]:
        """The addresses that have no outcome yet."""
        return list(self._open.values())

    async def settle_by_domain(self, outcomes: Sequence[Outcome]) -> None:
        """Record outcomes of a transport without retry_use_local_part."""
        await self.settle([replace(outcome, by_local_part=False) for outcome in outcomes])

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Record outcomes, each address' first one only."""
        fresh: list[Outcome] = []
        for outcome in outcomes:
            if self._open.pop(id(outcome.address), None) is None:
                self._log.panic(f"a second outcome for {outcome.address.address} was ignored")
                continue
            fresh.append(outcome)
            twins = self._twins.get(id(outcome.address), ())
            fresh += [replace(outcome, address=twin) for twin in twins]
        if fresh:
            waiting: Awaitable[None] = self._record(fresh)
            await waiting


def _without_twins(
    addresses: Sequence[RoutedAddress],
) -> tuple[list[RoutedAddress], dict[int, list[RoutedAddress]]]:
    """Separate addresses that would be delivered twice to the same place (specification 3.11).

    An unseen router's copy is another delivery, though address and transport are equal.
    """
    if len(addresses) == 1:
        return list(addresses), {}
    first: dict[Hashable, RoutedAddress] = {}
    twins: dict[int, list[RoutedAddress]] = {}
    for address in addresses:
        key = (
            address.address,
            address.router,
            address.transport,
            address.hosts,
            address.local_part,
            address.place and address.parent is not None and address.parent.address,
        )
        if key in first:
            twins.setdefault(id(first[key]), []).append(address)
        else:
            first[key] = address
    return list(first.values()), twins


def _errors_to(message: Message, address: RoutedAddress) -> str:
    """Return the return path before the transport's own option."""
    for chosen in (address.errors_to, address.recipient.errors_to):
        if chosen is not None:
            return chosen
    return message.sender


def _failed(address: RoutedAddress, failure: BaseException | None) -> Outcome:
    """Return the outcome of an address that its transport did not settle."""
    if isinstance(failure, MailFailure):
        result = Result.FAILED if failure.status.permanent else Result.DEFERRED
        return Outcome(
            address,
            result,
            failure.explained,
            failure.status,
            error=CROWDED if isinstance(failure, Crowded) else "*",
            after=failure.after if isinstance(failure, Crowded) else 0.0,
            told=failure.reason,
        )
    return Outcome(address, Result.DEFERRED, "unexpected failure of the transport", LOCAL_PROBLEM)


def _unknown(name: str) -> MailFailure:
    reason = f'transport "{name}" was not found' if name else "no transport was set"
    return MailFailure(Status(451, 3, 5, LOCAL_PROBLEM.text), reason)

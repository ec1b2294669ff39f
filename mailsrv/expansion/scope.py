"""What a string can see while it is expanded.

A :class:`Scope` bundles the facts that the variables of
``expansion/variables.py`` read, and the services that items use.  Stages make
one for each connection, message or address; :meth:`Scope.within` derives one
with more local values.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from mailsrv.expansion.budget import Budget
from mailsrv.interfaces import IClock, IFunctions, ILookup, IMailLog, IResolver
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Message, Transaction
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import RoutedAddress

if TYPE_CHECKING:
    from mailsrv.expansion.lists import NamedLists

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Services:
    """What all strings of one configuration share; made once by ``service/build.py``."""

    clock: IClock
    settings: Mapping[
        str, str
    ]  # main options that are variables: primary_hostname, qualify_domain ...
    lookup: Callable[[str], ILookup | None]  # by type name
    resolver: IResolver | None = None
    lists: NamedLists | None = None
    acl: Callable[..., Awaitable[Any]] | None = None  # for ${acl{…}} and the acl condition: called
    # with name, arguments, scope; gives (True accept, False deny or None defer; message)
    pid: int = 0
    threads: Callable[..., Awaitable[Any]] | None = None  # runs function(*arguments) in a thread
    log: IMailLog | None = None
    room: Callable[[str], tuple[int, int]] | None = None  # KiB and inodes that are left on the
    # disk of "spool" or "log"; -1 where that is not known
    functions: IFunctions | None = None  # of python_startup

    async def in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Run what blocks in a thread; here and now where there are no threads (commands)."""
        if self.threads is None:
            return function(*arguments)
        result: T = await self.threads(function, *arguments)
        return result


@dataclass(slots=True)
class Scope:
    """The facts and services of one expansion."""

    services: Services
    connection: Connection | None = None
    message: Message | Transaction | None = None
    origin: Origin | None = None  # the connection's, or the queued message's own
    address: RoutedAddress | None = None  # $local_part, $domain, $address_data ...
    values: Mapping[str, str] = field(default_factory=dict)  # further variables by name, innermost
    numbers: tuple[str, ...] = ()  # $0, $1 ... of the last match in force
    home: str = ""
    budget: Budget | None = None  # of the outermost loop that is under way

    def counted(self) -> tuple[Scope, Budget]:
        """Return a scope for a loop, and what it may cost, with all that is in it."""
        if self.budget is not None:
            return self, self.budget
        budget = Budget(self.services.clock)
        return replace(self, budget=budget), budget

    def within(self, values: Mapping[str, str], numbers: tuple[str, ...] | None = None) -> Scope:
        """Return a scope that sees ``values`` before all else (and other ``$1`` …)."""
        return Scope(  # dataclasses.replace takes three times as long
            self.services,
            self.connection,
            self.message,
            self.origin,
            self.address,
            {**self.values, **values},
            self.numbers if numbers is None else numbers,
            self.home,
            self.budget,
        )

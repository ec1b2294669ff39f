"""What all transports share: the generic options (chapter 24) and a batch of addresses.

A transport is a subclass of :class:`Transport` with a ``deliver``; see
``transports/lmtp.py`` for a short one.  This module and the drivers import
nothing that is needed only at delivery.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from mailsrv.config.options import OptionSet, option
from mailsrv.config.types import (
    BOOLEAN,
    COMMAND,
    EXPANDED,
    EXPANDED_GROUP,
    EXPANDED_USER,
    STRING,
    STRING_LIST,
    TIME,
    User,
)
from mailsrv.errors import ConfigError, PermanentFailure, TemporaryFailure
from mailsrv.expansion.errors import ForcedFailure
from mailsrv.expansion.rewrite import Rewriter, parse_list
from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.template import Template
from mailsrv.interfaces import IClock, IHostRetry, IMailLog, IResolver, no_matter
from mailsrv.mail.message import Message
from mailsrv.mail.routed import Outcome, RoutedAddress
from mailsrv.mail.status import Status
from mailsrv.net.threads import IThreads
from mailsrv.transport.limits import Crew, Limits

if TYPE_CHECKING:
    from socket import socket

    from mailsrv.interfaces import IClientAuthentication
    from mailsrv.net.tlsclient import ClientTls
    from mailsrv.transport.dialogue import Plan
    from mailsrv.transport.pool import Pool
    from mailsrv.transport.users import RunAs


@dataclass(frozen=True, slots=True)
class Facilities:
    """What deliveries use: made once by ``deliver.py`` for all transports."""

    services: Services
    clock: IClock
    log: IMailLog
    resolver: IResolver
    host_retry: IHostRetry
    threads: IThreads
    commands: IThreads  # those that wait for commands
    pool: Pool
    limits: Limits
    per_hop: int = 20  # connections to one next hop at a time
    is_local: Callable[[str], bool] = lambda address: False  # one of this host's own addresses
    hostname: str = "localhost"
    client_tls: ClientTls | None = None
    authentication: IClientAuthentication | None = None
    privileged: socket | None = None  # to the process that delivers as other users


@dataclass(slots=True)
class Batch:
    """Addresses that one run of a transport delivers.

    :meth:`settle` must be awaited with each address' outcome once, before the
    connection that gave the outcome is used for anything else.
    """

    message: Message
    addresses: tuple[RoutedAddress, ...]
    facilities: Facilities
    settle: Callable[[Sequence[Outcome]], Awaitable[None]]
    transport: str = ""
    sender: str = ""  # the return path of this delivery
    started: float = 0.0  # when the transport began
    values: dict[str, str] = field(default_factory=dict)
    run_as: RunAs | None = None  # another user than the server's
    crew: Crew = field(default_factory=lambda: Crew(no_matter))  # to which it belongs

    def scope(self, values: Mapping[str, str] | None = None) -> Scope:
        """Return what the transport's options see; ``values`` are further variables.

        $local_part is empty when there are several addresses, and $domain when
        theirs differ (specification 23.4).
        """
        first = self.addresses[0]
        facts = {
            "transport_name": self.transport,
            "router_name": first.router,
            "return_path": self.sender,
            **self.values,
        }
        if len(self.addresses) > 1:
            facts["local_part"] = facts["local_part_data"] = ""
            if any(address.domain != first.domain for address in self.addresses):
                facts["domain"] = facts["domain_data"] = ""
        return Scope(
            self.facilities.services,
            message=self.message,
            origin=self.message.origin,
            address=first,
            values={**facts, **(values or {})},
            home=first.home,
        )


class Transport(OptionSet):
    """A transport of the configuration."""

    kind: ClassVar[str] = "transport"
    local: ClassVar[bool] = True  # hosts are not looked up for it (specification 20.7)
    needs_user: ClassVar[bool] = False  # what it writes belongs to the user that delivers

    rewriter: Rewriter | None = None  # of headers_rewrite

    body_only = option(BOOLEAN, default=False, help="send the body without the header")
    current_directory = option(EXPANDED, help="current directory of commands")
    debug_print = option(
        EXPANDED, help="text for debugging output", no_effect="there is no debugging output"
    )
    delivery_date_add = option(BOOLEAN, default=False, help="add a Delivery-date: header line")
    event_action = option(EXPANDED, help="expanded at each event of a delivery", unbuilt=True)
    disable_logging = option(
        BOOLEAN,
        default=False,
        help="write no log lines of deliveries",
        no_effect="deliveries are always logged",
    )
    envelope_to_add = option(BOOLEAN, default=False, help="add an Envelope-to: header line")
    group = option(EXPANDED_GROUP, help="system group that delivers, if not the user's own")
    headers_add = option(STRING_LIST, help="header lines to add, each expanded")
    headers_only = option(BOOLEAN, default=False, help="send the header without the body")
    headers_remove = option(STRING_LIST, help="names of header lines to leave out, each expanded")
    headers_rewrite = option(STRING_LIST, help="rewriting rules for the message's header lines")
    home_directory = option(EXPANDED, help="$home while the transport's options are expanded")
    initgroups = option(BOOLEAN, default=False, help="deliver with the user's further groups, too")
    max_parallel = option(EXPANDED, help="runs of the transport at the same time")
    message_size_limit = option(EXPANDED, help="fail messages larger than this; 0 = no limit")
    rcpt_include_affixes = option(
        BOOLEAN, default=False, help="send local parts with their prefixes and suffixes"
    )
    retry_use_local_part = option(
        BOOLEAN, default=True, help="a local delivery that fails delays this local part alone"
    )
    return_path = option(EXPANDED, help="replaces the envelope sender")
    return_path_add = option(BOOLEAN, default=False, help="add a Return-path: header line")
    shadow_condition = option(EXPANDED, help="whether the shadow transport gets a copy")
    shadow_transport = option(STRING, help="local transport that gets a copy of each delivery")
    transport_filter = option(COMMAND, help="command through which messages go")
    transport_filter_timeout = option(TIME, default=300, help="how long it may take")
    user = option(EXPANDED_USER, help="system user that delivers")

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        if self.headers_rewrite is not None:
            where = self.places.get("headers_rewrite", self.where)
            self.rewriter = Rewriter(parse_list(self.headers_rewrite.source, where))
        if self.body_only and self.headers_only:
            raise ConfigError("only one of body_only and headers_only may be set", self.where)
        if self.shadow_transport is not None and not self.local:
            problem = f"shadow transport not allowed on non-local transport {self.name}"
            raise ConfigError(problem, self.places.get("shadow_transport", self.where))
        if (
            self.local
            and isinstance(self.user, User)
            and self.user.gid is None
            and self.group is None
        ):
            problem = f"user set without group for the {self.name} transport"
            raise ConfigError(problem, self.places.get("user", self.where))

    async def callout_plans(self, batch: Batch) -> Sequence[Plan]:
        """Return how to reach the servers that a callout may ask, in order; none: nobody is asked.

        :raises TemporaryFailure: that cannot be told now.
        """
        return ()

    async def deliver(self, batch: Batch) -> None:
        """Deliver a batch; see :class:`Batch`.

        A :class:`MailFailure` or any other exception concerns the addresses
        that are not settled yet: they are deferred or failed with it.
        """
        raise NotImplementedError

    # --- batching (chapter 25) ---

    def most(self) -> int:
        """The most addresses in a batch; 0 = no limit."""
        return 1

    async def together(self, message: Message, address: RoutedAddress, scope: Scope) -> Hashable:
        """Return what must be equal for addresses to share a batch, beside what always must."""
        return None

    # --- what all transports do first ---

    async def prepare(self, batch: Batch) -> None:
        """Expand the generic options that a batch needs.

        :raises TemporaryFailure: an expansion failed, or the transport cannot be used.
        :raises PermanentFailure: the message is too large.
        """
        if self.unusable:
            raise TemporaryFailure(reason=self.unusable)
        if self.home_directory is not None:
            home = await expand(self.home_directory, batch.scope())
            if home:
                batch.values["home"] = home
        if self.return_path is not None:
            returned = await optional(self.return_path, batch.scope())
            if returned is not None:
                batch.sender = returned
        if self.message_size_limit is None:
            return
        limit = size_of(await expand(self.message_size_limit, batch.scope()) or "0")
        if limit and batch.message.size > limit:
            text = f"message is too big (transport limit = {limit})"
            raise PermanentFailure(Status(552, 3, 4, text), text)

    async def parallel(self, batch: Batch) -> int:
        """Expand ``max_parallel``; 0 = no limit."""
        if self.max_parallel is None:
            return 0
        text = await expand(self.max_parallel, batch.scope())
        if not text:
            return 0
        try:
            return max(int(text), 0)
        except ValueError:
            raise TemporaryFailure(reason=f"max_parallel: not a number: {text!r}") from None


_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kKmMgG]?)", re.ASCII)


def size_of(text: str) -> int:
    """Return octets of a size such as ``50M`` that an option expanded to.

    :raises TemporaryFailure: it is no size.
    """
    found = _SIZE.fullmatch(text.strip(" \t\n"))
    if found is None:
        raise TemporaryFailure(reason=f"malformed size {text!r}")
    return int(
        float(found[1]) * {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[found[2].lower()]
    )


async def expand(template: Template | None, scope: Scope) -> str:
    """Expand an option; "" if it is not set.  Any failure defers the delivery."""
    return "" if template is None else await template.expand(scope)


async def optional(template: Template | None, scope: Scope) -> str | None:
    """Expand an option; None if it is not set or its expansion is forced to fail."""
    if template is None:
        return None
    try:
        return await template.expand(scope)
    except ForcedFailure:
        return None


def mentions(transport: Transport, variable: str) -> bool:
    """Tell whether an option of a transport refers to a variable: $name or ${name}."""
    if not transport.settled:
        return _mentions(transport, variable)
    known: dict[str, bool] = transport.__dict__.setdefault("_mentioned", {})
    if variable not in known:
        known[variable] = _mentions(transport, variable)
    return known[variable]


def _mentions(transport: Transport, variable: str) -> bool:
    return any(
        f"${variable}" in source or f"${{{variable}}}" in source
        for source in _sources(transport.values.values())
    )


def _sources(values: object) -> list[str]:
    """Return the texts of all templates in option values."""
    if isinstance(values, str) or values is None:
        return []
    source = getattr(values, "source", None)
    if isinstance(source, str):
        return [source]
    try:
        return [text for value in values for text in _sources(value)]  # type: ignore[attr-defined]
    except TypeError:
        return []

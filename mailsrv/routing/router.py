"""What all routers share: the generic options (chapter 15) and the context of a decision.

A router is a subclass of :class:`Router` with a ``route``; see
``routers/accept.py`` for the shortest one.  Preconditions and what follows an
acceptance are ``preconditions.py``'s and ``route.py``'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from mailsrv.config.options import OptionSet, option
from mailsrv.config.types import (
    ADDRESS_LIST,
    BOOL_OR_EXPANDED,
    BOOLEAN,
    DOMAIN_LIST,
    EXPANDED,
    EXPANDED_GROUP,
    EXPANDED_USER,
    HOST_LIST,
    LOCAL_PART_LIST,
    STRING,
    STRING_LIST,
)
from mailsrv.errors import ConfigError, TemporaryFailure
from mailsrv.expansion.errors import ExpansionError, ForcedFailure
from mailsrv.expansion.rewrite import Rewriter
from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.template import Template
from mailsrv.interfaces import IMailLog, IResolver, Routed
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Message, Recipient, Transaction
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Host, RoutedAddress
from mailsrv.mail.taint import is_tainted
from mailsrv.net.hosts import split_hosts
from mailsrv.net.listfile import ListFile
from mailsrv.net.threads import IThreads
from mailsrv.routing.decision import Decision
from mailsrv.routing.users import Accounts

RECIPIENT, SENDER = "R", "S"  # $verify_mode
EXPN, ADDRESS_TEST = "expn", "address_test"  # what is asked for, and the option that denies it
_BY_LOCAL_PART = (  # what is set makes routing depend on local parts (retry_use_local_part)
    "check_local_user", "local_parts", "condition", "local_part_prefix", "local_part_suffix",
    "senders", "require_files",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facilities:
    """What routers use: made once by ``route.py`` for all of them.

    ``is_local`` tells whether an IP address is one of this host (13.8),
    ``is_local_name`` whether a host's name is to count so (hosts_treat_as_local);
    ``rewriter`` is for addresses that routers make;
    ``local_transports`` maps each transport's name to whether it is local;
    ``search`` are the domains that complete short names (resolv.conf(5)).
    """

    services: Services
    log: IMailLog
    resolver: IResolver
    threads: IThreads
    accounts: Accounts
    local_transports: Mapping[str, bool]
    is_local: Callable[[str], bool]
    is_local_name: Callable[[str], Awaitable[bool]]
    rewriter: Rewriter
    search: tuple[str, ...] = ()
    # Reads a redirection list for a router as a user; None: as the server's own user alone.
    read_as: Callable[[str, str, ListFile], Awaitable[str | None]] | None = None


@dataclass(slots=True)
class Context:
    """The circumstances of one address' routing; ``verify`` is "" for a delivery.

    ``asked`` is EXPN or ADDRESS_TEST where a delivery is only asked about.
    """

    facilities: Facilities
    sender: str
    message: Message | Transaction | None = None
    connection: Connection | None = None
    origin: Origin | None = None
    verify: str = ""
    asked: str = ""
    values: dict[str, str] = field(
        default_factory=dict
    )  # further variables, such as $self_hostname

    def scope(
        self, address: RoutedAddress, router: str, values: Mapping[str, str] | None = None
    ) -> Scope:
        """Return what a router's options see."""
        facts = {
            "router_name": router,
            "verify_mode": self.verify or (RECIPIENT if self.asked == ADDRESS_TEST else ""),
            "sender_address": self.sender,
            **self.values,
            **(values or {}),
        }
        return Scope(
            self.facilities.services,
            connection=self.connection,
            message=self.message,
            origin=self.origin,
            address=address,
            values=facts,
            home=address.home,
        )


Decide = Callable[[Recipient, Context], Awaitable[Routed]]


class Router(OptionSet):
    """A router of the configuration."""

    kind: ClassVar[str] = "router"

    address_data = option(EXPANDED, help="sets $address_data, when the preconditions are met")
    address_test = option(BOOLEAN, default=True, help="use for -bt")
    cannot_route_message = option(EXPANDED, help='said instead of "Unrouteable address"')
    caseful_local_part = option(BOOLEAN, default=False, help="the case of local parts matters")
    check_local_user = option(BOOLEAN, default=False, help="the local part must be an account")
    condition = option(EXPANDED, help="must not expand to nothing, 0, no or false")
    debug_print = option(
        EXPANDED, help="text for debugging output", no_effect="there is no debugging output"
    )
    disable_logging = option(BOOLEAN, default=False, help="log no deliveries, and no failures")
    dnssec_request_domains = option(
        DOMAIN_LIST,
        default="*",
        help="domains for which DNSSEC is asked for",
        no_effect="name servers are always asked whether they validated",
    )
    dnssec_require_domains = option(
        DOMAIN_LIST, help="domains for which DNSSEC must hold", unbuilt=True
    )
    domains = option(DOMAIN_LIST, help="the domain must match")
    dsn_lasthop = option(BOOLEAN, default=False, help="do not pass DSN requests on")
    errors_to = option(EXPANDED, help="where bounces go")
    expn = option(BOOLEAN, default=True, help="use for EXPN")
    fail_verify_recipient = option(BOOLEAN, default=False, help="accepted recipients do not verify")
    fail_verify_sender = option(BOOLEAN, default=False, help="accepted senders do not verify")
    fallback_hosts = option(STRING, help="hosts to try when no other could be used")
    group = option(EXPANDED_GROUP, help="system group that delivers, if not the user's own")
    headers_add = option(STRING_LIST, help="header lines to add, each expanded")
    headers_remove = option(STRING_LIST, help="names of header lines to leave out, each expanded")
    ignore_target_hosts = option(HOST_LIST, help="IP addresses of hosts that are as if not there")
    initgroups = option(BOOLEAN, default=False, help="deliver with the user's further groups, too")
    local_part_prefix = option(STRING, help="beginnings of local parts, taken off")
    local_part_prefix_optional = option(BOOLEAN, default=False, help="the prefix may be missing")
    local_part_suffix = option(STRING, help="ends of local parts, taken off")
    local_part_suffix_optional = option(BOOLEAN, default=False, help="the suffix may be missing")
    log_as_local = option(
        BOOLEAN,
        default=False,
        help="log the local part alone",
        no_effect="log lines have the whole address",
    )
    local_parts = option(LOCAL_PART_LIST, help="the local part must match")
    more = option(BOOL_OR_EXPANDED, default=True, help="go on to the next router after declining")
    pass_on_timeout = option(BOOLEAN, default=False, help="pass when a host lookup fails for now")
    pass_router = option(STRING, help="the router to pass to, below this one")
    redirect_router = option(STRING, help="the router that children are routed from")
    require_files = option(STRING_LIST, help="files that must exist, or with ! must not")
    retry_use_local_part = option(
        BOOLEAN, default=False, help="a deferral concerns the local part, not the whole domain"
    )
    router_home_directory = option(EXPANDED, help="$home while the router runs")
    self_ = option(STRING, default="freeze", help="what to do when the host is this host")
    senders = option(ADDRESS_LIST, help="the envelope sender must match")
    set_ = option(STRING_LIST, help="sets $r_ variables: r_name = value; ...")
    transport = option(EXPANDED, help="the transport of accepted addresses")
    transport_current_directory = option(EXPANDED, help="current directory of the transport")
    transport_home_directory = option(EXPANDED, help="$home for the transport")
    unseen = option(BOOL_OR_EXPANDED, default=False, help="a copy goes on to the next router")
    user = option(EXPANDED_USER, help="system user that delivers, if the transport names none")
    verify_only = option(BOOLEAN, default=False, help="use for verification alone")
    verify_recipient = option(BOOLEAN, default=True, help="use to verify recipients")
    verify_sender = option(BOOLEAN, default=True, help="use to verify senders")

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        if any(self.values.get(name) for name in _BY_LOCAL_PART):
            self.values.setdefault("retry_use_local_part", True)
        known = ("freeze", "defer", "fail", "pass", "send")
        if self.self_ not in known and not self.self_.startswith("reroute:"):
            raise ConfigError(f"{self.self_} is not valid for self", self.places.get("self"))

    def late(self) -> Iterator[ConfigError]:
        """See :meth:`OptionSet.late`."""
        yield from super().late()
        if self.self_.partition(":")[1] and not self.self_.partition(":")[2].strip(" \t"):
            yield ConfigError("self = reroute: needs a domain", self.places.get("self"))

    @cached_property
    def last_hosts(self) -> tuple[Host, ...]:
        """The hosts of ``fallback_hosts``, still to be looked up.

        :raises TemporaryFailure: an item is malformed.
        """
        items = split_hosts(self.fallback_hosts or "")
        return tuple(Host(item.name, "", item.port) for item in items)

    def has_made(self, address: RoutedAddress) -> bool:
        """Tell whether the router is skipped, as it made the address from an equal one (22.5)."""
        return any(
            each.router == self.name and each.address == address.address
            for each in address.ancestors()
        )

    async def route(self, address: RoutedAddress, context: Context) -> Decision:
        """Decide about an address that met the preconditions; it may set its ``values``.

        A :class:`MailFailure` or any other exception defers the address.
        """
        raise NotImplementedError

    def used_for(self, verify: str, asked: str = "") -> bool:
        """Tell whether the verify options and their like let the router run (3.12)."""
        if asked and not getattr(self, asked):
            return False
        if verify == SENDER:
            return self.verify_sender
        if verify == RECIPIENT:
            return self.verify_recipient
        return not self.verify_only

    def fails_verification(self, verify: str) -> bool:
        """Tell whether accepting means that verification fails."""
        if verify == SENDER:
            return self.fail_verify_sender
        return verify == RECIPIENT and self.fail_verify_recipient


async def transport_named(
    router: str, template: Template, scope: Scope, facilities: Facilities
) -> str:
    """Expand the name of a transport.

    :raises TemporaryFailure: there is none of that name, or a peer has chosen it.
    """
    try:
        name = await template.expand(scope)
    except ExpansionError as error:
        said = f'failed to expand transport "{template.source}" in {router} router: {error.reason}'
        raise error.saying(said) from None
    if is_tainted(name):
        raise TemporaryFailure(
            reason=f"attempt to use tainted value '{name}' from '{template.source}' for transport"
        )
    if name not in facilities.local_transports:
        raise TemporaryFailure(reason=f'transport "{name}" not found in {router} router')
    return name


async def boolean(value: bool | Template, scope: Scope, default: bool, name: str) -> bool:
    """Expand a boolean option; forced failure gives the default.

    :raises TemporaryFailure: the result is no boolean, or an expansion failed.
    """
    if isinstance(value, bool):
        return value
    try:
        text = (await value.expand(scope)).strip(" \t\n").lower()
    except ForcedFailure:
        return default
    if text not in ("yes", "true", "no", "false"):
        raise TemporaryFailure(reason=f"{name}: {text!r} is not a valid value for a boolean")
    return text in ("yes", "true")

"""The ``smtp`` transport (chapter 30): delivery to other hosts over SMTP or LMTP."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from mailsrv.config.options import option
from mailsrv.config.types import (
    BOOL_OR_EXPANDED,
    BOOLEAN,
    EXPANDED,
    HOST_LIST,
    INTEGER,
    STRING,
    STRING_LIST,
    TIME,
)
from mailsrv.errors import ConfigError, TemporaryFailure
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import Template, compile_string
from mailsrv.mail.message import Message
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import NOT_REACHED, Host, Outcome, Result, RoutedAddress
from mailsrv.mail.status import Status
from mailsrv.net.hosts import HostItem, split_hosts
from mailsrv.transport.transport import Batch, Transport, expand, mentions, optional

if TYPE_CHECKING:
    from mailsrv.interfaces import IClientExchange
    from mailsrv.net.tlsclient import ClientStart, TlsWanted
    from mailsrv.transport.dialogue import Plan
    from mailsrv.transport.headers import Content
    from mailsrv.wire.client import AuthUse, Session, TlsUse

MOST_PLANS = 1000  # next hops whose plan is kept
_TOO_EARLY = Status(451, 4, 1, "no next hop could be reached")
_GIVEN_UP = Status(550, 4, 7, "no next hop could be reached for a long time")
_PROBE = 300.0  # seconds that others leave a failing host to one message, without connect_timeout


class Smtp(Transport):
    """Delivers to other hosts."""

    local = False
    _named_host = False

    address_retry_include_sender = option(
        BOOLEAN, default=True, help="a recipient refused for now waits for this sender alone"
    )
    allow_localhost = option(BOOLEAN, default=False, help="deliver to hosts that are this host")
    authenticated_sender = option(EXPANDED, help="AUTH= of MAIL where we have logged in")
    authenticated_sender_force = option(
        BOOLEAN, default=False, help="send authenticated_sender without a login, too"
    )
    command_timeout = option(TIME, default=300, help="time for the greeting and each reply")
    connect_timeout = option(TIME, default=300, help="time for a connection")
    connection_max_messages = option(INTEGER, default=500, help="messages on one connection")
    data_timeout = option(TIME, default=300, help="time in which octets of a message must move")
    delay_after_cutoff = option(
        BOOLEAN, default=True, help="hosts that fail for long are not tried for each new message"
    )
    fallback_hosts = option(STRING_LIST, help="hosts to try when no other could be used")
    final_timeout = option(TIME, default=600, help="time for the reply to the end of data")
    gethostbyname = option(
        BOOLEAN,
        default=False,
        help="look hosts up as the system does",
        no_effect="hosts are looked up in the hosts file first in any case",
    )
    helo_data = option(EXPANDED, "$primary_hostname", help="our name in EHLO")
    host = option(STRING_LIST, help="taken as hosts, with a warning", ours=True)
    hosts = option(STRING_LIST, help="hosts for addresses that have none of their router")
    hosts_avoid_esmtp = option(HOST_LIST, help="hosts to greet with HELO")
    hosts_avoid_pipelining = option(HOST_LIST, help="hosts to send one command at a time")
    hosts_avoid_tls = option(HOST_LIST, help="hosts to talk to in clear")
    hosts_max_try = option(INTEGER, default=5, help="addresses of hosts tried in one delivery")
    hosts_max_try_hardlimit = option(INTEGER, default=50, help="the same, whatever their MX values")
    hosts_nopass_tls = option(HOST_LIST, help="hosts for one message on a TLS connection")
    hosts_noproxy_tls = option(
        HOST_LIST,
        help="hosts whose TLS connections no other process uses",
        no_effect="a connection stays in its process",
    )
    hosts_override = option(BOOLEAN, default=False, help="use hosts instead of the router's")
    hosts_randomize = option(BOOLEAN, default=False, help="try the hosts in random order")
    hosts_require_auth = option(HOST_LIST, help="hosts that get mail only after a login")
    hosts_require_tls = option(HOST_LIST, help="hosts that get mail only over TLS")
    hosts_try_auth = option(HOST_LIST, help="hosts to log in to if they offer it")
    hosts_try_chunking = option(HOST_LIST, "*", help="hosts to send BDAT if they offer it")
    interface = option(STRING_LIST, help="local IP addresses to connect from")
    keepalive = option(BOOLEAN, default=True, help="set SO_KEEPALIVE")
    lmtp_ignore_quota = option(BOOLEAN, default=False, help="IGNOREQUOTA on RCPT with LMTP")
    max_rcpt = option(INTEGER, default=100, help="recipients in one transaction; 0 = no limit")
    multi_domain = option(BOOL_OR_EXPANDED, default=True, help="several domains in one transaction")
    port = option(EXPANDED, help="port, or its name; default smtp, or lmtp")
    protocol = option(STRING, default="smtp", help="smtp, smtps or lmtp")
    retry_include_ip_address = option(
        BOOL_OR_EXPANDED, default=True, help="each address of a host has its retry times"
    )
    retry_use_local_part = option(
        BOOLEAN,
        default=False,
        help="a delivery that fails delays the local part",
        no_effect="the hints of a remote transport are those of its hosts",
    )
    serialize_hosts = option(HOST_LIST, help="hosts for one connection at a time")
    size_addition = option(INTEGER, default=1024, help="added to SIZE=; negative: no SIZE=")
    tls_certificate = option(EXPANDED, help="file of our own certificate")
    tls_privatekey = option(EXPANDED, help="file of its key, if that is another one")
    tls_require_ciphers = option(EXPANDED, help="ciphers that are allowed, as OpenSSL takes them")
    tls_sni = option(EXPANDED, help="name that TLS asks the server for")
    tls_tempfail_tryclear = option(
        BOOLEAN, default=True, help="send in clear if TLS fails and is not required"
    )
    tls_try_verify_hosts = option(HOST_LIST, "*", help="hosts whose certificate is tried only")
    tls_verify_cert_hostnames = option(
        HOST_LIST, "*", help="hosts whose certificate must bear their name to be verified"
    )
    tls_verify_certificates = option(
        EXPANDED, "system", help="authorities: a file, a folder, or system"
    )
    tls_verify_hosts = option(HOST_LIST, help="hosts whose certificate must be verified")

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        super().check()
        if self.host is not None:
            if self.hosts is not None:
                raise ConfigError("host and hosts are one option", self.places.get("host"))
            self._named_host = True
            self.values["hosts"] = self.values.pop("host")
        for name in ("command_timeout", "data_timeout", "final_timeout"):
            if self.values.get(name) == 0:
                raise ConfigError(f"{name} must not be zero", self.places.get(name, self.where))
        self.values.setdefault("port", compile_string(self.protocol))

    def late(self) -> Iterator[ConfigError]:
        """See :meth:`OptionSet.late`."""
        if self.protocol not in ("smtp", "smtps", "lmtp"):
            where = self.places.get("protocol", self.where)
            yield ConfigError(f"invalid protocol {self.protocol!r}", where, "smtp, smtps or lmtp")
        if self.hosts_override and self.hosts is None:
            yield ConfigError("hosts_override needs hosts", self.places.get("hosts_override"))

    def notes(self) -> list[str]:
        """See :meth:`OptionSet.notes`."""
        return ["host is taken as hosts, which is Exim's name for it"] if self._named_host else []

    def most(self) -> int:
        """See :meth:`Transport.most`."""
        if mentions(self, "local_part"):
            return 1
        return max(self.max_rcpt, 0)

    async def together(self, message: Message, address: RoutedAddress, scope: Scope) -> Hashable:
        """See :meth:`Transport.together`."""
        multi = await _yes(self.multi_domain, scope, "multi_domain")
        alone = not multi or mentions(self, "domain")
        return (address.domain if alone else "", address.dsn_lasthop)

    # --- one delivery ---

    async def deliver(self, batch: Batch) -> None:
        """See :meth:`Transport.deliver`."""
        from mailsrv.transport.headers import content_of

        first = batch.addresses[0]
        content = await content_of(self, batch)
        if first.hosts and not self.hosts_override:
            hosts = self._shuffled(list(first.hosts))
        elif self.hosts is not None:
            hosts = await self._listed(batch, await expand(self.hosts, batch.scope()))
        else:
            raise TemporaryFailure(reason=f"{self.name} transport called with no hosts set")
        run = _Run(self, batch, content)
        routed = list(first.fallback_hosts)
        await run.over(hosts, last=not routed and self.fallback_hosts is None)
        if run.open and routed:
            await run.over(self._shuffled(routed), last=True)
        elif run.open and self.fallback_hosts is not None:
            await run.over(await self._listed(batch, self.fallback_hosts.source), last=True)

    def _shuffled(self, hosts: list[Host]) -> list[Host]:
        """Put the hosts into the order of this run; MX preferences are kept apart."""
        if not self.hosts_randomize or any(host.preference for host in hosts):
            return hosts
        return random.sample(hosts, len(hosts))

    async def _listed(self, batch: Batch, text: str) -> list[Host]:
        """Look up the hosts of an option.

        :raises TemporaryFailure: one cannot be looked up now, or none has an address.
        """
        items = split_hosts(text, randomize=self.hosts_randomize)
        found: list[Host] = []
        for item in items:
            if item.mx:
                raise TemporaryFailure(reason=f"{item.name}/MX cannot be used in hosts")
            found += await self._addresses(batch, item)
        if not found:
            raise TemporaryFailure(_TOO_EARLY, f"no host of {self.name} transport has an address")
        return found

    async def _addresses(self, batch: Batch, item: HostItem) -> list[Host]:
        addresses = await batch.facilities.resolver.addresses(item.name)
        if not self.allow_localhost and any(map(batch.facilities.is_local, addresses)):
            raise TemporaryFailure(reason=f"{item.name} is the local host: see allow_localhost")
        return [Host(item.name, address, item.port) for address in addresses]

    # --- one host ---

    async def plan_for(self, batch: Batch, host: Host) -> Plan:
        """Return :meth:`plan`, made once for a host where it is the same for all messages."""
        if not self._plans_are_kept or batch.message.origin.authenticated_sender:
            return await self.plan(batch, host)
        plans: dict[Host, Plan] = self.__dict__.setdefault("_plans", {})
        plan = plans.get(host)
        if plan is None:
            while len(plans) >= MOST_PLANS:
                del plans[next(iter(plans))]
            plan = plans[host] = await self.plan(batch, host)
        return plan

    @cached_property
    def _plans_are_kept(self) -> bool:
        """Whether no option that :meth:`plan` looks at depends on the message, or on a list."""
        texts = (self.port, self.interface, self.helo_data, self.authenticated_sender,
                 self.tls_certificate, self.tls_privatekey, self.tls_require_ciphers,
                 self.tls_verify_certificates, self.tls_sni)  # fmt: skip
        hosts = (self.hosts_nopass_tls, self.hosts_avoid_pipelining, self.hosts_avoid_esmtp,
                 self.hosts_try_chunking, self.hosts_avoid_tls, self.hosts_require_tls,
                 self.tls_verify_hosts, self.tls_verify_cert_hostnames, self.tls_try_verify_hosts,
                 self.serialize_hosts)  # fmt: skip
        unset = (self.hosts_require_auth, self.hosts_try_auth)
        return (
            self.settled
            and all(map(_is_fixed, texts))
            and all(one is None or one.source in ("", "*") for one in hosts)
            and all(one is None or one.source == "" for one in unset)
        )

    async def known(self, batch: Batch, host: Host) -> Host:
        """Return a host as the retry hints know it: with its port; perhaps by name alone."""
        if self.retry_include_ip_address is True and (host.port or self._fixed_port):
            return host if host.port else replace(host, port=self._fixed_port)
        scope = batch.scope({"host": host.name, "host_address": host.address})
        port = host.port or port_number(await expand(self.port, scope))
        by_name = not await _yes(self.retry_include_ip_address, scope, "retry_include_ip_address")
        return replace(host, port=port, by_name=by_name)

    @cached_property
    def _fixed_port(self) -> int:
        """The port if nothing is to be expanded for it, else 0."""
        return (
            port_number(self.port.source) if self.port is not None and _is_fixed(self.port) else 0
        )

    async def plan(self, batch: Batch, host: Host) -> Plan:
        """Return how to talk to a host, whose port is known.

        :raises TemporaryFailure: an option cannot be expanded, or its value is of no use.
        """
        from mailsrv.transport.connection import Target, Timeouts
        from mailsrv.transport.dialogue import Plan, helo_name
        from mailsrv.transport.pool import Hop

        scope = batch.scope({"host": host.name, "host_address": host.address})
        local = await self._interface(host, scope)
        target = Target(host.address, host.port, local, self.keepalive)
        helo = helo_name(await expand(self.helo_data, scope))
        lmtp = self.protocol == "lmtp"
        wanted, use, start = await self._tls(batch, host, scope)
        auth = await self._auth(batch, host, scope, wanted.sni)
        origin = batch.message.origin
        whom = (batch.sender, origin.authenticated_id) if auth is not None else None
        alone = use.wanted and await self._matches(self.hosts_nopass_tls, host, scope)
        return Plan(
            Hop(self.name, target, helo, lmtp, (wanted, use, auth and auth.required, whom)),
            Timeouts(
                float(self.connect_timeout),
                float(self.command_timeout),
                float(self.data_timeout),
                float(self.final_timeout),
            ),
            host,
            1 if alone else self.connection_max_messages,
            pipelining=not await self._matches(self.hosts_avoid_pipelining, host, scope),
            esmtp=not await self._matches(self.hosts_avoid_esmtp, host, scope),
            ignore_quota=lmtp and self.lmtp_ignore_quota,
            size_addition=self.size_addition,
            include_affixes=self.rcpt_include_affixes,
            chunking=await self._matches(self.hosts_try_chunking, host, scope),
            tls=use,
            start=start,
            auth=auth,
            mail_auth=self._mail_auth(batch, host, wanted.sni),
        )

    async def _tls(
        self, batch: Batch, host: Host, scope: Scope
    ) -> tuple[TlsWanted, TlsUse, Callable[[], ClientStart] | None]:
        """Return how TLS is used with a host."""
        from mailsrv.net.tlsclient import TlsWanted
        from mailsrv.wire.client import TlsUse

        use = TlsUse(
            wanted=not await self._matches(self.hosts_avoid_tls, host, scope),
            required=await self._matches(self.hosts_require_tls, host, scope),
            implicit=self.protocol == "smtps",
            clear_on_4xx=self.tls_tempfail_tryclear,
        )
        client = batch.facilities.client_tls
        if client is None or not (use.wanted or use.required or use.implicit):
            return TlsWanted(), use, None
        must = await self._matches(self.tls_verify_hosts, host, scope)
        named = await self._matches(self.tls_verify_cert_hostnames, host, scope)
        certificate = await optional(self.tls_certificate, scope) or ""
        wanted = TlsWanted(
            certificate,
            (await optional(self.tls_privatekey, scope) or "") if certificate else "",
            await optional(self.tls_require_ciphers, scope) or "",
            await expand(self.tls_verify_certificates, scope),
            verify=must,
            try_verify=must or await self._matches(self.tls_try_verify_hosts, host, scope),
            names=(host.name,) if named else (),
            sni=await optional(self.tls_sni, scope) or "",
        )
        return wanted, use, partial(client.start, wanted)

    async def _auth(self, batch: Batch, host: Host, scope: Scope, sni: str) -> AuthUse | None:
        """Return how to log in to a host; None: not at all."""
        from mailsrv.wire.client import AuthUse

        required = await self._matches(self.hosts_require_auth, host, scope)
        if not required and not await self._matches(self.hosts_try_auth, host, scope):
            return None
        authentication = batch.facilities.authentication

        async def attempts(offered: Sequence[str], tls: Any) -> Sequence[IClientExchange]:
            if authentication is None:
                return ()
            return await authentication.attempts(offered, _within_session(batch, host, sni, tls))

        return AuthUse(attempts, required)

    def _mail_auth(
        self, batch: Batch, host: Host, sni: str
    ) -> Callable[[Session], Awaitable[str]] | None:
        """Return what gives AUTH= of MAIL; "" = none (specification 30.4)."""
        known = batch.message.origin.authenticated_sender
        if self.authenticated_sender is None and not known:
            return None

        async def value(session: Session) -> str:
            scope = _within_session(batch, host, sni, session.tls)
            text = await optional(self.authenticated_sender, scope) or known
            return text if session.authenticator or self.authenticated_sender_force else ""

        return value

    async def _interface(self, host: Host, scope: Scope) -> str:
        """Return the first local address of the host's kind."""
        from mailsrv.expansion.lists import split_list

        text = await optional(self.interface, scope)
        ipv6 = ":" in host.address
        return next((a for a in split_list(text or "") if a and (":" in a) == ipv6), "")

    async def serializes(self, batch: Batch, host: Host) -> bool:
        """Tell whether only one connection to a host may be there at a time."""
        scope = batch.scope({"host": host.name, "host_address": host.address})
        return await self._matches(self.serialize_hosts, host, scope)

    async def _matches(self, hosts: Template | None, host: Host, scope: Scope) -> bool:
        from mailsrv.expansion.lists import match_host

        if hosts is None or not hosts.source:
            return False
        if hosts.source == "*":
            return True
        origin = Origin(host_address=host.address, host_name=host.name)
        return await match_host(hosts, origin, scope) is not None


class _Run:
    """One message on its way along a list of hosts (specification 30.5)."""

    def __init__(self, transport: Smtp, batch: Batch, content: Content) -> None:
        self._transport = transport
        self._batch = batch
        self._content = content
        self._hosts: list[Host] = []  # all that were to be tried, as the retry hints know them
        self._outcomes: dict[int, Outcome] = {}
        self.open: list[RoutedAddress] = list(batch.addresses)

    async def over(self, hosts: Sequence[Host], *, last: bool) -> None:
        """Try ``hosts`` in order; settle what is left after them if ``last``."""
        retry, message = self._batch.facilities.host_retry, self._batch.message
        hosts = [await self._transport.known(self._batch, host) for host in hosts]
        self._hosts += hosts
        due = [host for host in hosts if retry.may_try(message, host)]
        anyway = False
        if not (due or self._transport.delay_after_cutoff) and retry.given_up(message, hosts):
            due, anyway = [host for host in hosts if retry.untried(message, host)], True
        chosen = _within(
            due, self._transport.hosts_max_try, self._transport.hosts_max_try_hardlimit
        )
        for host in chosen:
            if not self.open:
                return
            await self._attempt(host, anyway=anyway)
        if self.open and last:
            await self._settle([self._leftover(address) for address in self.open])
            self.open = []

    async def _attempt(self, host: Host, *, anyway: bool) -> None:
        """Try a host, unless another delivery has found meanwhile that it fails."""
        from mailsrv.transport.dialogue import attempt

        plan = await self._transport.plan_for(self._batch, host)
        facilities, message = self._batch.facilities, self._batch.message
        place = ("hop", plan.hop.target.address, str(plan.hop.target.port))
        batch = replace(self._batch, settle=self._settle)
        most = 1 if await self._transport.serializes(self._batch, host) else 0
        retry = facilities.host_retry
        async with facilities.limits.hold({place: most or facilities.per_hop}):
            seconds = plan.timeouts.connect or _PROBE
            if not anyway and not await retry.claim(message, host, seconds):
                return
            try:
                result = await attempt(plan, batch, self.open, self._content, last=False)
                if result.failure is not None:
                    await retry.failed(message, result.failure, self._batch.addresses[0].domain)
                if result.failure is None or result.failure.message_only:
                    retry.worked(host)
            finally:
                retry.release(host)
        for outcome in result.open:
            self._outcomes[id(outcome.address)] = outcome
        self.open = [outcome.address for outcome in result.open]

    async def _settle(self, outcomes: Sequence[Outcome]) -> None:
        """Settle outcomes; of those that retries depend on with what the hints are to know."""
        hosts, by_sender = tuple(self._hosts), self._transport.address_retry_include_sender
        await self._batch.settle(
            [
                outcome
                if outcome.result is Result.DELIVERED
                else replace(outcome, hosts=hosts, by_sender=by_sender)
                for outcome in outcomes
            ]
        )

    def _leftover(self, address: RoutedAddress) -> Outcome:
        """Return the outcome of an address that no host took."""
        outcome = self._outcomes.get(id(address))
        if outcome is not None:
            return outcome
        result, reason = (
            Result.DEFERRED,
            f"retry time not reached for any host for '{address.domain}'",
        )
        if self._batch.facilities.host_retry.given_up(self._batch.message, self._hosts):
            result, reason = Result.FAILED, self._given_up(address.domain)
        return Outcome(
            address,
            result,
            reason,
            _TOO_EARLY if result is Result.DEFERRED else _GIVEN_UP,
            self._hosts[0] if self._hosts else None,
            error=NOT_REACHED,
            host_error=True,
            remote=self._transport.protocol != "lmtp",
        )

    def _given_up(self, domain: str) -> str:
        """Say that all hosts are past their cutoff, as Exim does (specification 32.10)."""
        later = self._transport.delay_after_cutoff
        why = (
            "(and retry time not reached)"
            if later
            else "and were last tried after this message arrived"
        )
        return f"all hosts for '{domain}' have been failing for a long time {why}"


def _is_fixed(text: Template | None) -> bool:
    """Tell whether an option is the same for all messages."""
    return text is None or text.constant is not None or text.source == "$primary_hostname"


def _within_session(batch: Batch, host: Host, sni: str, tls: Any) -> Scope:
    """Return what an expansion sees once the session is there: the host, and what TLS brought."""
    values = {"host": host.name, "host_address": host.address, "tls_out_sni": sni}
    if tls is not None:
        values |= {
            "tls_out_cipher": tls.cipher,
            "tls_out_bits": str(tls.bits),
            "tls_out_ver": tls.cipher.partition(":")[0],
            "tls_out_certificate_verified": "1" if tls.verified else "0",
            "tls_out_peerdn": tls.peer_dn,
        }
    return batch.scope(values)


async def _yes(value: bool | Template, scope: Scope, name: str) -> bool:
    """Return the value of a boolean option that may be expanded.

    :raises TemporaryFailure: the expansion fails, or is no boolean.
    """
    if not isinstance(value, Template):
        return value
    text = (await value.expand(scope)).lower()
    if text not in ("yes", "true", "no", "false"):
        raise TemporaryFailure(reason=f"{name} is not a boolean: {text!r}")
    return text in ("yes", "true")


def _within(hosts: Sequence[Host], most: int, hard: int) -> list[Host]:
    """Choose the hosts to try: ``most``, and beyond that one of each further MX value."""
    chosen: list[Host] = []
    for host in hosts:
        new_value = bool(chosen) and host.preference > chosen[-1].preference
        if len(chosen) < most or new_value:
            chosen.append(host)
    return chosen[:hard]


def port_number(text: str) -> int:
    """Return the number of a port given by number or service name.

    :raises TemporaryFailure: there is no such port.
    """
    import socket

    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    known = {"smtp": 25, "smtps": 465, "lmtp": 24, "submission": 587}
    if text in known:
        return known[text]
    try:
        return socket.getservbyname(text, "tcp")
    except (OSError, ValueError):
        raise TemporaryFailure(reason=f"port {text!r} was not found") from None

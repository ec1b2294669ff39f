"""The ``smtp`` transport (chapter 30): delivery to other hosts over SMTP or LMTP."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from mailsrv.errors import ConfigError, PermanentFailure, TemporaryFailure
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import Template, compile_string
from mailsrv.mail.message import Message
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Host, RoutedAddress
from mailsrv.mail.status import Status
from mailsrv.net.hosts import HostItem, is_ip, split_hosts
from mailsrv.transport.smtpoptions import SmtpOptions
from mailsrv.transport.transport import Batch, expand, mentions, optional

if TYPE_CHECKING:
    from mailsrv.interfaces import IClientExchange
    from mailsrv.net.tlsclient import ClientStart, TlsWanted
    from mailsrv.transport.dialogue import Plan
    from mailsrv.wire.client import AuthUse, Session, TlsUse

MOST_PLANS = 1000  # next hops whose plan is kept

_TOO_LONG = Status(550, 6, 0, "message has lines too long for transport")


class Smtp(SmtpOptions):
    """Delivers to other hosts."""

    local = False
    _named_host = False

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
        yield from super().late()
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
        from mailsrv.transport.hostrun import HostRun

        first = batch.addresses[0]
        content = await content_of(self, batch)
        limit = self.message_linelength_limit
        if limit > 0 and await content.longest_line(limit):
            raise PermanentFailure(_TOO_LONG, "message has lines too long for transport")
        if first.hosts and not self.hosts_override:
            hosts = self._shuffled(list(first.hosts))
        elif self.hosts is not None:
            hosts = await self._listed(batch, await expand(self.hosts, batch.scope()))
        else:
            raise TemporaryFailure(reason=f"{self.name} transport called with no hosts set")
        run = HostRun(self, batch, content)
        routed = list(first.fallback_hosts)
        await run.over(hosts, last=not routed and self.fallback_hosts is None)
        if run.open and routed:
            await run.over(self._shuffled(await self._found(batch, routed)), last=True)
        elif run.open and self.fallback_hosts is not None:
            await run.over(await self._listed(batch, self.fallback_hosts.source), last=True)

    async def _found(self, batch: Batch, hosts: Sequence[Host]) -> list[Host]:
        """Look up those hosts of a router's fallback_hosts that have no address yet."""
        found: list[Host] = []
        for host in hosts:
            if host.address:
                found.append(host)
            else:
                found += await self._addresses(batch, HostItem(host.name, host.port))
        return found

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
            raise TemporaryFailure(reason=f"no host of {self.name} transport has an address")
        return found

    async def _addresses(self, batch: Batch, item: HostItem) -> list[Host]:
        addresses = await self._validated(batch, item.name)
        if addresses is None:
            addresses = await batch.facilities.resolver.addresses(item.name)
        if not self.allow_localhost and any(map(batch.facilities.is_local, addresses)):
            raise TemporaryFailure(reason=f"{item.name} is the local host: see allow_localhost")
        return [Host(item.name, address, item.port) for address in addresses]

    async def _validated(self, batch: Batch, name: str) -> tuple[str, ...] | None:
        """Return the validated addresses of a host that must have such; None: it need not."""
        from mailsrv.expansion.lists import match_domain

        domains = self.dnssec_require_domains
        if (
            is_ip(name)
            or domains is None
            or await match_domain(domains, name, batch.scope()) is None
        ):
            return None
        found: tuple[str, ...] = ()
        for kind in ("AAAA", "A"):
            answer = await batch.facilities.resolver.query(name, kind)
            found += answer.records if answer.authenticated else ()
        return found

    async def callout_plans(self, batch: Batch) -> Sequence[Plan]:
        """See :meth:`Transport.callout_plans`."""
        first = batch.addresses[0]
        if first.hosts and not self.hosts_override:
            hosts = self._shuffled(list(first.hosts))
        elif self.hosts is not None:
            hosts = await self._listed(batch, await expand(self.hosts, batch.scope()))
        else:
            return ()
        chosen = hosts[: self.hosts_max_try]
        return [await self.plan(batch, await self.known(batch, each)) for each in chosen]

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
                 self.tls_verify_certificates, self.tls_sni, self.tls_alpn,
                 self.tls_crl)  # fmt: skip
        hosts = (self.hosts_nopass_tls, self.hosts_avoid_pipelining, self.hosts_avoid_esmtp,
                 self.hosts_try_chunking, self.hosts_avoid_tls, self.hosts_require_tls,
                 self.tls_verify_hosts, self.tls_verify_cert_hostnames, self.tls_try_verify_hosts,
                 self.serialize_hosts, self.hosts_require_alpn)  # fmt: skip
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
            return host if host.port else host.at(self._fixed_port)
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
        from mailsrv.expansion.lists import split_list
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
            alpn=tuple(split_list(await optional(self.tls_alpn, scope) or "")),
            require_alpn=await self._matches(self.hosts_require_alpn, host, scope),
            revoked=await optional(self.tls_crl, scope) or "",
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
        if self.serialize_hosts is None:
            return False
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

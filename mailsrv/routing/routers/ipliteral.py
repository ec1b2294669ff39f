"""The ``ipliteral`` router (chapter 18): domains such as ``[192.0.2.1]`` name their host."""

from __future__ import annotations

from mailsrv.errors import ConfigError
from mailsrv.mail.routed import Host, RoutedAddress
from mailsrv.net.hosts import is_ip
from mailsrv.routing import hosts as finding
from mailsrv.routing.decision import Accepted, Decision, Declined
from mailsrv.routing.router import Context, Router


class Ipliteral(Router):
    """Routes domain literals to the IP address that they are."""

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        super().check()
        if self.transport is None and not self.verify_only:
            problem = f"{self.name} router: transport must be set"
            raise ConfigError(problem, self.where, whole=True)

    async def route(self, address: RoutedAddress, context: Context) -> Decision:
        """See :meth:`Router.route`."""
        domain = address.domain
        if not (domain.startswith("[") and domain.endswith("]")):
            return Declined()
        ip = domain[1:-1]
        for kind, colon in (("ipv6:", True), ("ipv4:", False)):
            if ip.lower().startswith(kind):
                ip = ip[len(kind) :]
                if (":" in ip) is not colon:
                    return Declined()
                break
        if not is_ip(ip):
            return Declined()
        if await finding.ignored(ip, self, address, context):
            return Declined("IP literal host explicitly ignored")
        if await finding.is_this_host(ip, [ip], context):
            try:
                finding.decide_self(domain, self, context)
            except finding.Found as found:
                return found.decision
        return Accepted(hosts=(Host(domain, ip),))

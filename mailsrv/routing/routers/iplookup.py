"""The ``iplookup`` router (chapter 19): known, not built; what reaches it is deferred."""

from __future__ import annotations

from mailsrv.config.options import option
from mailsrv.config.types import BOOLEAN, EXPANDED, INTEGER, STRING, TIME
from mailsrv.errors import ConfigError
from mailsrv.routing.router import Router


class Iplookup(Router):
    """Would ask a server."""

    hosts = option(STRING, help="servers to ask")
    optional = option(BOOLEAN, default=False, help="pass if no server answers")
    port = option(INTEGER, default=0, help="their port")
    protocol = option(STRING, default="udp", help="udp or tcp")
    query = option(EXPANDED, help="what is sent; by default the address twice")
    reroute = option(EXPANDED, help="the new address, from the answer")
    response_pattern = option(STRING, help="what the answer must match")
    timeout = option(TIME, default=5, help="how long to wait for an answer")

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        super().check()
        if not self.port or not self.hosts:
            raise ConfigError(f"{self.name} router: hosts and port must be set", self.where)
        if self.protocol not in ("udp", "tcp"):
            where = self.places.get("protocol")
            raise ConfigError(f"{self.name} router: protocol must be udp or tcp", where)

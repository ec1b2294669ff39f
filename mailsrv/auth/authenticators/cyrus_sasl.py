"""The driver ``cyrus_sasl`` (chapter 35): known, not built; it is offered to nobody."""

from __future__ import annotations

from mailsrv.auth.authenticator import Authenticator
from mailsrv.config.options import option
from mailsrv.config.types import EXPANDED, STRING
from mailsrv.errors import ConfigError

# What Debian's library has; Exim refuses another mechanism as it reads the file.
_MECHANISMS = frozenset(
    (
        *("ANONYMOUS", "CRAM-MD5", "DIGEST-MD5", "LOGIN", "NTLM", "PLAIN"),
        *("SCRAM-SHA-1", "SCRAM-SHA-224", "SCRAM-SHA-256", "SCRAM-SHA-384", "SCRAM-SHA-512"),
    )
)


class CyrusSasl(Authenticator):
    """Would ask Cyrus SASL."""

    server_hostname = option(EXPANDED, default="$primary_hostname", help="our name in SASL")
    server_mech = option(STRING, help="the mechanism; by default public_name")
    server_realm = option(EXPANDED, help="the realm")
    server_service = option(STRING, default="smtp", help="the name of the service")

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        super().check()
        self.demand_public_name()
        name = (self.server_mech or self.mechanism).upper()
        if name not in _MECHANISMS:
            problem = f"{self.name} authenticator: Cyrus SASL does not know mechanism {name}"
            raise ConfigError(problem, self.where)

    def is_server(self) -> bool:
        """See :meth:`Authenticator.is_server`."""
        return False

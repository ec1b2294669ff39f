"""The driver ``cyrus_sasl`` (chapter 35): known, not built; it is offered to nobody."""

from __future__ import annotations

from mailsrv.auth.authenticator import Authenticator
from mailsrv.config.options import option
from mailsrv.config.types import EXPANDED, STRING


class CyrusSasl(Authenticator):
    """Would ask Cyrus SASL."""

    server_hostname = option(EXPANDED, default="$primary_hostname", help="our name in SASL")
    server_mech = option(STRING, help="the mechanism; by default public_name")
    server_realm = option(EXPANDED, help="the realm")
    server_service = option(STRING, default="smtp", help="the name of the service")

    def is_server(self) -> bool:
        """See :meth:`Authenticator.is_server`."""
        return False

"""The driver ``spa`` (chapter 40): known, not built; it is offered to nobody."""

from __future__ import annotations

from mailsrv.auth.authenticator import Authenticator
from mailsrv.config.options import option
from mailsrv.config.types import EXPANDED
from mailsrv.errors import ConfigError


class Spa(Authenticator):
    """Would speak NTLM."""

    client_domain = option(EXPANDED, help="the domain that a client names")
    client_password = option(EXPANDED, help="its password")
    client_username = option(EXPANDED, help="its name")
    server_password = option(EXPANDED, help="the password of the user in $auth1")

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        super().check()
        if (self.client_username is None) != (self.client_password is None):
            problem = "client_username and client_password must be set together"
            raise ConfigError(f"{self.name} authenticator: {problem}", self.where)

    def is_server(self) -> bool:
        """See :meth:`Authenticator.is_server`."""
        return False

"""The driver ``tls`` (chapter 42): known, not built; it is offered to nobody."""

from __future__ import annotations

from mailsrv.auth.authenticator import Authenticator
from mailsrv.config.options import option
from mailsrv.config.types import EXPANDED


class Tls(Authenticator):
    """Would take a certificate as a login."""

    server_param1 = option(EXPANDED, help="becomes $auth1")
    server_param = option(EXPANDED, help="another name of server_param1")
    server_param2 = option(EXPANDED, help="becomes $auth2")
    server_param3 = option(EXPANDED, help="becomes $auth3")

    def is_server(self) -> bool:
        """See :meth:`Authenticator.is_server`."""
        return False

"""The driver ``external``: an identity that something else proves, such as a certificate (41)."""

from __future__ import annotations

from typing import Any

from mailsrv.auth.authenticator import Authenticator, Dialogue, Environment
from mailsrv.auth.client import ClientExchange
from mailsrv.config.options import option
from mailsrv.config.types import EXPANDED
from mailsrv.expansion.errors import ForcedFailure
from mailsrv.expansion.scope import Scope
from mailsrv.interfaces import IClientExchange
from mailsrv.mail.taint import tainted


class External(Authenticator):
    """Take the identity that the client names, and judge it by expanding ``server_condition``."""

    server_condition_decides = True

    client_send = option(EXPANDED, help="the identity that a client sends")
    server_param2 = option(EXPANDED, help="expanded to $auth2 before server_condition")
    server_param3 = option(EXPANDED, help="expanded to $auth3 before server_condition")

    def is_server(self) -> bool:
        """See :meth:`Authenticator.is_server`."""
        return self.server_condition is not None

    def is_client(self) -> bool:
        """See :meth:`Authenticator.is_client`."""
        return self.client_send is not None

    async def credentials(self, dialogue: Dialogue, scope: Scope) -> Any:
        """See :meth:`Authenticator.credentials`."""
        from mailsrv.auth.checkers.condition import with_strings
        from mailsrv.auth.portal import PasswordCredentials, Refused

        first = dialogue.initial if dialogue.initial is not None else await dialogue.ask(b"")
        strings: tuple[Any, ...] = (tainted(first),)
        for template in (self.server_param2, self.server_param3):
            if template is not None:
                try:
                    text = await template.expand(with_strings(scope, strings))
                except ForcedFailure as error:
                    raise Refused("a parameter is forced to fail", strings) from error
                strings = (*strings, text)
            elif len(strings) == 1:
                strings = (*strings, "")
        return PasswordCredentials(strings, 1, len(strings) + 1, dialogue.connection)

    def checker(self, environment: Environment) -> Any:
        """See :meth:`Authenticator.checker`."""
        from mailsrv.auth.checkers.condition import ConditionChecker

        assert self.server_condition is not None
        return ConditionChecker(self.server_condition, environment.services)

    async def client(self, scope: Scope) -> IClientExchange:
        """See :meth:`Authenticator.client`."""
        assert self.client_send is not None
        return _Exchange(self, scope, await self.client_send.expand(scope))


class _Exchange(ClientExchange):
    """Provides ``IClientExchange``: the identity, once."""

    def __init__(self, authenticator: External, scope: Scope, identity: str) -> None:
        super().__init__(authenticator, scope)
        self._identity = identity

    async def initial(self) -> bytes | None:
        """See ``IClientExchange``."""
        return self._identity.encode("latin-1")

    async def respond(self, challenge: bytes) -> bytes | None:
        """See ``IClientExchange``: a server has nothing to ask."""
        return None

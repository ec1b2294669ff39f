"""The ``cram_md5`` authenticator: the password itself does not travel (chapter 35, RFC 2195)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

from mailsrv.auth.authenticator import Authenticator, Dialogue, Environment
from mailsrv.auth.client import ClientExchange
from mailsrv.config.options import option
from mailsrv.config.types import EXPANDED
from mailsrv.errors import ConfigError
from mailsrv.expansion.scope import Scope
from mailsrv.interfaces import IClientExchange


def digest(secret: bytes, challenge: bytes) -> bytes:
    """Return the keyed digest of a challenge, in hexadecimal."""
    return hmac.new(secret, challenge, hashlib.md5).hexdigest().encode("ascii")


class CramMd5(Authenticator):
    """Proves that both ends know a secret."""

    client_name = option(EXPANDED, help="the user's name, for a client; default primary_hostname")
    client_secret = option(EXPANDED, help="the secret, for a client")
    server_secret = option(EXPANDED, help="the secret of user $auth1, for a server")

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        super().check()
        self.demand_public_name()

    def late(self) -> Iterator[ConfigError]:
        """See :meth:`OptionSet.late`."""
        yield from super().late()
        if self.server_secret is None and self.client_secret is None:
            yield ConfigError(
                f"{self.name} authenticator: server_secret or client_secret must be set",
                self.where,
            )

    def is_server(self) -> bool:
        """See :meth:`Authenticator.is_server`."""
        return self.server_secret is not None

    def is_client(self) -> bool:
        """See :meth:`Authenticator.is_client`."""
        return self.client_secret is not None

    async def credentials(self, dialogue: Dialogue, scope: Scope) -> Any:
        """See :meth:`Authenticator.credentials`."""
        from mailsrv.auth.portal import DialogueCredentials

        return DialogueCredentials(self.mechanism, dialogue)

    def checker(self, environment: Environment) -> Any:
        """See :meth:`Authenticator.checker`."""
        from mailsrv.auth.checkers.cram import CramChecker

        assert self.server_secret is not None
        return CramChecker(self.server_secret, environment.services)

    async def client(self, scope: Scope) -> IClientExchange:
        """See :meth:`Authenticator.client`."""
        assert self.client_secret is not None
        name = scope.services.settings.get("primary_hostname", "localhost")
        if self.client_name is not None:
            name = await self.client_name.expand(scope)
        return _Exchange(self, scope, name, await self.client_secret.expand(scope))


class _Exchange(ClientExchange):
    """Provides ``IClientExchange``."""

    def __init__(self, authenticator: CramMd5, scope: Scope, user: str, secret: str) -> None:
        super().__init__(authenticator, scope)
        self._user = user
        self._secret = secret
        self._answered = False

    async def initial(self) -> bytes | None:
        """See ``IClientExchange``: the server speaks first."""
        return None

    async def respond(self, challenge: bytes) -> bytes | None:
        """See ``IClientExchange``."""
        if self._answered:
            return None
        self._answered = True
        answer = digest(self._secret.encode("latin-1"), challenge)
        return self._user.encode("latin-1") + b" " + answer

"""The ``dovecot`` authenticator: any mechanism that Dovecot's auth service offers (chapter 37).

``server_socket`` must be of the type *auth-client*.  The name that Dovecot
confirms is ``$auth1``; ``server_condition`` is a further test after it.

Dovecot accepts PLAIN over a connection that is not encrypted, too: set
``server_advertise_condition = ${if def:tls_in_cipher}``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mailsrv.auth.authenticator import Authenticator, Dialogue, Environment
from mailsrv.config.options import option
from mailsrv.config.types import STRING
from mailsrv.errors import ConfigError
from mailsrv.expansion.scope import Scope


class Dovecot(Authenticator):
    """Let Dovecot's authentication service decide."""

    server_socket = option(STRING, help="Dovecot's Unix socket for authentication clients")

    def is_server(self) -> bool:
        """See :meth:`Authenticator.is_server`."""
        return self.server_socket is not None and not self.unusable

    def late(self) -> Iterator[ConfigError]:
        """See :meth:`OptionSet.late`."""
        yield from super().late()
        if self.server_socket is not None and not self.server_socket.startswith("/"):
            yield ConfigError(
                f"{self.name} authenticator: server_socket must be the absolute path of a socket",
                self.places.get("server_socket", self.where),
            )

    async def credentials(self, dialogue: Dialogue, scope: Scope) -> Any:
        """See :meth:`Authenticator.credentials`: the checker takes the dialogue over."""
        from mailsrv.auth.portal import DialogueCredentials

        return DialogueCredentials(self.mechanism, dialogue)

    def checker(self, environment: Environment) -> Any:
        """See :meth:`Authenticator.checker`."""
        from mailsrv.auth.checkers.dovecot import DovecotChecker

        assert self.server_socket is not None
        return DovecotChecker(environment.auth_socket(self.server_socket))

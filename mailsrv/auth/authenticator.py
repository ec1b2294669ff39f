"""What all authenticators share: the generic options and the work of a driver (chapter 33).

A driver gathers credentials from the client (:meth:`Authenticator.credentials`)
and names the checker that judges them (:meth:`Authenticator.checker`); the two
meet in a ``twisted.cred`` portal.  ``auth/sasl.py`` does all else.

Driver modules are imported whenever a configuration names them, also to print
it: they import Twisted inside their methods only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from mailsrv.config.options import OptionSet, option
from mailsrv.config.types import EXPANDED, STRING
from mailsrv.errors import ConfigError
from mailsrv.expansion.scope import Scope, Services
from mailsrv.interfaces import IClientExchange, IMailLog
from mailsrv.mail.connection import Connection

if TYPE_CHECKING:
    from mailsrv.auth.authsocket import AuthSocket


class Dialogue(Protocol):
    """The client at the other end of one AUTH command."""

    connection: Connection
    initial: bytes | None
    """The decoded initial response; None if AUTH came without one."""

    async def ask(self, challenge: bytes) -> bytes:
        """Send a challenge and return the client's (decoded) response."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What checkers use of the server around them.

    ``auth_socket`` gives the one connection manager for a Dovecot socket.
    """

    services: Services
    log: IMailLog
    auth_socket: Callable[[str], AuthSocket]


class Authenticator(OptionSet):
    """An instance of a driver in ``begin authenticators``."""

    kind: ClassVar[str] = "authenticator"
    server_condition_decides: ClassVar[bool] = False
    """Whether ``server_condition`` is the driver's own test, not one after it."""

    client_condition = option(
        EXPANDED, help="a client does not try it if this is empty, 0, no or false"
    )
    client_set_id = option(EXPANDED, help="whom the log names after a client's login")
    public_name = option(STRING, help="name of the mechanism; by default the instance's name")
    server_advertise_condition = option(
        EXPANDED, help="the mechanism is offered unless this is empty, 0, no or false"
    )
    server_condition = option(EXPANDED, help="test of the authentication data")
    server_debug_print = option(EXPANDED, help="text for the debugging output, and only for that")
    server_mail_auth_condition = option(
        EXPANDED, help="AUTH= on MAIL is dropped if this is empty, 0, no or false"
    )
    server_set_id = option(EXPANDED, help="what becomes $authenticated_id")

    @property
    def mechanism(self) -> str:
        """The name by which clients know the mechanism, upper case."""
        return (self.public_name or self.name).upper()

    def demand_public_name(self) -> None:
        """Refuse an instance without ``public_name``, of a driver that has no other name.

        :raises ConfigError: it is not set.
        """
        if self.public_name is None:
            problem = f"no public name specified for the {self.name} authenticator"
            raise ConfigError(problem, self.where)

    def is_server(self) -> bool:
        """Tell whether the instance is configured for the server side."""
        raise NotImplementedError

    def is_client(self) -> bool:
        """Tell whether the instance is configured for the client side."""
        return False

    async def client(self, scope: Scope) -> IClientExchange:
        """Return an exchange with a server, for a client.

        :raises ForcedFailure: it is not for this server (specification 33.6).
        :raises TemporaryFailure: an option cannot be expanded.
        """
        raise NotImplementedError

    async def credentials(self, dialogue: Dialogue, scope: Scope) -> Any:
        """Ask the client for what the mechanism needs; return ``twisted.cred`` credentials.

        :raises TemporaryFailure: the prompts cannot be expanded.
        :raises SaslError: the client's message is malformed.
        :raises twisted.cred.error.UnauthorizedLogin: refused without asking the checker.
        """
        raise NotImplementedError

    def checker(self, environment: Environment) -> Any:
        """Return the ``ICredentialsChecker`` for the credentials of this instance.

        :raises ConfigError: it cannot be made.
        """
        raise NotImplementedError

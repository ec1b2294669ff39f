"""Authentication as the SMTP server sees it: what is offered, and one exchange after the other.

Each configured authenticator has a ``twisted.cred`` portal.  An exchange runs
the driver's dialogue with the client, logs in at the portal, applies the
generic tests, and expands ``server_set_id`` (specification chapter 33).  What
fails unexpectedly is UNAVAILABLE and goes to the panic log; credentials go to
no log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.cred.error import LoginFailed
from twisted.cred.portal import Portal
from twisted.internet.defer import CancelledError, Deferred

from mailsrv.auth.authenticator import Authenticator, Environment
from mailsrv.auth.authsocket import AuthSocket
from mailsrv.auth.checkers.condition import is_true, require, with_strings
from mailsrv.auth.portal import IMailUser, MailUser, PasswordCredentials, Refused, portal_for
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.errors import ExpansionError, ForcedFailure, LookupDeferred
from mailsrv.expansion.scope import Scope, Services
from mailsrv.interfaces import AuthResult, AuthStep, IClock, IMailLog
from mailsrv.mail.connection import Connection
from mailsrv.mail.status import LOCAL_PROBLEM
from mailsrv.wire.sasl import SaslError

MAX_QUESTIONS = 25
"""Challenges in one exchange."""


FAILURE_SECONDS = 0.5
"""What a refusal takes, counted from the client's last message: the same for a user who does not
exist, whose password is never hashed, as for a wrong password."""


class Authentication:
    """All authenticators of the configuration: provides ``IAuthentication``."""

    def __init__(
        self,
        reactor: Any,
        authenticators: Sequence[Authenticator],
        services: Services,
        log: IMailLog,
    ) -> None:
        """Make the checkers.

        :raises ConfigError: one cannot be made.
        """
        self._reactor = reactor
        self._services = services
        self._log = log
        self._sockets: dict[str, AuthSocket] = {}
        environment = Environment(services, log, self._auth_socket)
        self._servers: dict[Authenticator, Portal] = {
            authenticator: portal_for(authenticator.checker(environment))
            for authenticator in authenticators
            if authenticator.is_server()
        }

    async def advertised(self, connection: Connection) -> list[str]:
        """See ``IAuthentication``; a name that several authenticators share is given once."""
        names: dict[str, None] = {}
        for authenticator in self._servers:
            if await self._offered(authenticator, connection):
                names[authenticator.mechanism] = None
        return list(names)

    async def begin(self, mechanism: str, connection: Connection) -> Exchange | None:
        """See ``IAuthentication``."""
        for authenticator, portal in self._servers.items():
            if authenticator.mechanism == mechanism.upper() and await self._offered(
                authenticator, connection
            ):
                return Exchange(
                    authenticator, portal, connection, self._services, self._log, self._reactor
                )
        return None

    async def keeps_mail_auth(self, connection: Connection) -> bool:
        """See ``IAuthentication``: ``server_mail_auth_condition`` (specification 33.2)."""
        for authenticator in self._servers:
            if authenticator.name == connection.origin.authenticator:
                condition = authenticator.server_mail_auth_condition
                if condition is None:
                    return True
                try:
                    return is_true(await condition.expand(_scope(self._services, connection)))
                except TemporaryFailure:
                    return False
        return True

    def close(self) -> None:
        """Close the kept connections to authentication services."""
        for socket in self._sockets.values():
            socket.close()

    def _auth_socket(self, path: str) -> AuthSocket:
        if path not in self._sockets:
            self._sockets[path] = AuthSocket(self._reactor, path, self._log)
        return self._sockets[path]

    async def _offered(self, authenticator: Authenticator, connection: Connection) -> bool:
        """Evaluate ``server_advertise_condition``; what cannot be expanded is not offered."""
        condition = authenticator.server_advertise_condition
        if condition is None:
            return True
        try:
            return is_true(await condition.expand(_scope(self._services, connection)))
        except (ForcedFailure, LookupDeferred):
            return False
        except TemporaryFailure as error:
            self._log.main(
                f'failed to expand condition "{condition.source}" for {authenticator.name} '
                f"authenticator: {error.explained}"
            )
            return False


class Exchange:
    """One AUTH command: ``IAuthExchange`` to the server, ``Dialogue`` to the driver.

    The driver's side is one coroutine, which stands still in :meth:`ask` while
    the client thinks.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        portal: Portal,
        connection: Connection,
        services: Services,
        log: IMailLog,
        clock: IClock,
    ) -> None:
        self.connection = connection
        self.initial: bytes | None = None
        self._authenticator = authenticator
        self._portal = portal
        self._scope = _scope(services, connection)
        self._log = log
        self._strings: tuple[str, ...] = ()  # $auth1 …, as far as they are known
        self._password = ""
        self._questions = 0
        self._flow: Deferred[None] | None = None
        self._turn: Deferred[AuthStep] | None = None  # the server waits for us
        self._response: Deferred[bytes] | None = None  # the driver waits for the client
        self._cancelled = False
        self._clock = clock
        self._asked_at = 0.0  # when the client's last message came

    async def step(self, response: bytes | None) -> AuthStep:
        """See ``IAuthExchange``; cancelling the wait cancels the exchange."""
        turn = self._turn = Deferred()
        self._asked_at = self._clock.seconds()
        if self._flow is None:
            self.initial = response
            self._flow = Deferred.fromCoroutine(self._run())
        else:
            waiting, self._response = self._response, None
            if waiting is None:
                raise RuntimeError("step of an exchange that is over")
            waiting.callback(response or b"")
        try:
            return await turn
        except CancelledError:
            self.cancel()
            raise

    def cancel(self) -> None:
        """See ``IAuthExchange``."""
        self._cancelled = True
        if self._flow is not None:
            self._flow.cancel()

    async def ask(self, challenge: bytes) -> bytes:
        """See ``Dialogue``."""
        self._questions += 1
        if self._questions > MAX_QUESTIONS:
            raise TemporaryFailure(reason="too many challenges")
        response = self._response = Deferred()
        self._reply(AuthStep(AuthResult.CONTINUE, challenge))
        return await response

    async def _run(self) -> None:
        """Run the exchange to its end; never raises."""
        try:
            step = await self._authenticate()
        except Refused as error:
            self._strings = self._strings or error.strings
            step = await self._ended(AuthResult.FAILURE, error.reason)
        except LoginFailed:
            step = await self._ended(AuthResult.FAILURE)
        except SaslError as error:
            step = await self._ended(AuthResult.MALFORMED, str(error))
        except TemporaryFailure as error:
            step = await self._ended(AuthResult.UNAVAILABLE, error.explained, error)
        except Exception as error:
            if not self._cancelled:
                self._log.panic(f"{self._authenticator.name} authenticator", _withheld(error))
            step = await self._ended(AuthResult.UNAVAILABLE, "unexpected error")
        if step.result is AuthResult.FAILURE and not self._cancelled:
            await self._until_failures_end()
        self._reply(step)

    async def _until_failures_end(self) -> None:
        """Wait until a refusal has taken its time; a cancellation ends the wait."""
        seconds = self._asked_at + FAILURE_SECONDS - self._clock.seconds()
        if seconds <= 0:
            return
        waiting: Deferred[None] = Deferred()
        call = self._clock.callLater(min(seconds, FAILURE_SECONDS), waiting.callback, None)
        try:
            await waiting
        except CancelledError:
            call.cancel()

    async def _authenticate(self) -> AuthStep:
        authenticator = self._authenticator
        credentials = await authenticator.credentials(self, self._scope)
        if isinstance(credentials, PasswordCredentials):
            self._strings = credentials.strings
            self._password = credentials.password.decode("latin-1")
        _, user, logout = await self._portal.login(credentials, None, IMailUser)
        assert isinstance(user, MailUser)
        logout()
        self._strings = self._strings or (user.user,)
        if (
            authenticator.server_condition is not None
            and not authenticator.server_condition_decides
        ):
            await require(authenticator.server_condition, with_strings(self._scope, self._strings))
        return await self._ended(AuthResult.SUCCESS)

    async def _ended(
        self, result: AuthResult, reason: str = "", failure: TemporaryFailure | None = None
    ) -> AuthStep:
        """Return the last step; ``authenticated_id`` is whom a failure concerns, too."""
        text = ""
        if failure is not None and failure.status.text != LOCAL_PROBLEM.text:
            text = failure.status.text
        if self._password:
            reason = reason.replace(self._password, "***")
        return AuthStep(
            result,
            authenticated_id=await self._set_id(),
            authenticator=self._authenticator.name,
            reason=reason,
            text=text,
        )

    async def _set_id(self) -> str:
        """Expand ``server_set_id``; it is ignored if that fails (specification 33.1)."""
        template = self._authenticator.server_set_id
        if template is None or self._cancelled or not self._strings:
            return ""
        try:
            return await template.expand(with_strings(self._scope, self._strings))
        except ExpansionError:
            return ""

    def _reply(self, step: AuthStep) -> None:
        turn, self._turn = self._turn, None
        if turn is not None and not turn.called:
            turn.callback(step)


def _scope(services: Services, connection: Connection) -> Scope:
    return Scope(services, connection=connection, origin=connection.origin)


def _withheld(error: Exception) -> Exception:
    """Return an error with the traceback but not the text of ``error``, which may hold secrets."""
    return RuntimeError(f"{type(error).__name__} (text withheld)").with_traceback(
        error.__traceback__
    )

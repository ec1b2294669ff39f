"""The ``cred`` authenticator, which is mailsrv's own: PLAIN or LOGIN by any Twisted checker.

``checker`` describes it as ``twistd --auth`` does, for example
``file:/etc/mailsrv/passwd``; packages add kinds with a ``twisted.plugin`` that
provides ``ICheckerFactory`` (``twisted.cred.strcred``).  The checker must take
``IUsernamePassword`` and must not block: what waits returns a Deferred.

``$auth1`` … are as with ``plaintext``; ``server_condition`` is a further test.
"""

from __future__ import annotations

from typing import Any

from mailsrv.auth.authenticator import Authenticator, Dialogue, Environment
from mailsrv.auth.strings import checked_plain, complete, gather, positions
from mailsrv.config.options import option
from mailsrv.config.types import STRING
from mailsrv.errors import ConfigError
from mailsrv.expansion.scope import Scope

_PROMPTS = {"PLAIN": ("",), "LOGIN": ("Username:", "Password:")}


class Cred(Authenticator):
    """Ask for name and password and let a checker of ``twisted.cred`` decide."""

    checker_ = option(STRING, name="checker", help="kind and argument of the checker", ours=True)

    def is_server(self) -> bool:
        """See :meth:`Authenticator.is_server`."""
        return self.checker_ is not None

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        if self.mechanism not in _PROMPTS:
            raise ConfigError(
                f"{self.name} authenticator: public_name must be PLAIN or LOGIN", self.where
            )

    async def credentials(self, dialogue: Dialogue, scope: Scope) -> Any:
        """See :meth:`Authenticator.credentials`."""
        from mailsrv.auth.portal import PasswordCredentials, Refused

        strings = await gather(dialogue, _PROMPTS[self.mechanism])
        if self.mechanism == "PLAIN":
            checked_plain(strings)
        user, password = positions(self.mechanism, 0)
        credentials = PasswordCredentials(strings, user, password, dialogue.connection)
        if not credentials.password:
            raise Refused("empty password", complete(strings, password))
        return credentials

    def checker(self, environment: Environment) -> Any:
        """See :meth:`Authenticator.checker`."""
        from twisted.cred import strcred
        from twisted.cred.credentials import IUsernamePassword

        assert self.checker_ is not None
        make: Any = strcred.makeChecker
        where = self.places.get("checker", self.where)
        try:
            checker = make(self.checker_)
        except (strcred.StrcredException, ValueError, OSError) as error:
            problem = f"{self.name} authenticator: no checker {self.checker_.partition(':')[0]!r}"
            raise ConfigError(f"{problem}: {type(error).__name__}", where) from error
        if IUsernamePassword not in checker.credentialInterfaces:
            raise ConfigError(
                f"{self.name} authenticator: the checker does not take a name and a password",
                where,
            )
        return checker

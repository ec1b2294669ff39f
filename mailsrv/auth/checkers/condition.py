"""The checker behind ``server_condition``: the expanded string decides (specification 34.3)."""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailsrv.auth.portal import IPasswordStrings, MailUser, PasswordCredentials, Refused
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.errors import ForcedFailure
from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.template import Template
from mailsrv.mail.status import Status
from mailsrv.mail.taint import Tainted

_NO = ("", "0", "no", "false")
YES = ("1", "yes", "true")

UNAVAILABLE = Status(454, 7, 0, "Unable to authenticate at present")


@implementer(ICredentialsChecker)
class ConditionChecker:
    """Expands a condition with the client's strings as ``$auth1`` … (and ``$1`` …)."""

    credentialInterfaces = (IPasswordStrings,)

    def __init__(self, condition: Template, services: Services) -> None:
        self._condition = condition
        self._services = services

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """Return the :class:`MailUser`; fails with ``Refused`` or :class:`TemporaryFailure`."""
        return Deferred.fromCoroutine(self._check(credentials))

    async def _check(self, credentials: PasswordCredentials) -> MailUser:
        connection = credentials.connection
        scope = Scope(self._services, connection=connection, origin=connection.origin)
        await require(self._condition, with_strings(scope, credentials.strings))
        return MailUser(Tainted(credentials.username, "latin-1"))


async def require(condition: Template, scope: Scope) -> None:
    """Expand a ``server_condition`` and return if it says yes.

    :raises Refused: it says no, or is forced to fail.
    :raises TemporaryFailure: it cannot be expanded, or says anything else; what
        it says is the text of the status then.
    """
    try:
        result = await condition.expand(scope)
    except ForcedFailure as error:
        raise Refused("server_condition is forced to fail") from error
    if result.lower() in _NO:
        raise Refused("")
    if result.lower() not in YES:
        text = f"{UNAVAILABLE.text}: {result}"
        raise TemporaryFailure(UNAVAILABLE.saying(text), result)


def is_true(result: str) -> bool:
    """Tell whether a condition that only has to be true is: all but empty, 0, no, false."""
    return result.lower() not in _NO


def with_strings(scope: Scope, strings: tuple[str, ...]) -> Scope:
    """Return a scope in which ``strings`` are ``$auth1`` to ``$auth3``, and ``$1`` and on."""
    names = {f"auth{number}": string for number, string in enumerate(strings[:3], 1)}
    return scope.within(names, ("", *strings))

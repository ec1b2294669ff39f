"""The client's side of authentication: what our SMTP client can try at a server (chapter 33.6)."""

from __future__ import annotations

from collections.abc import Sequence

from mailsrv.auth.authenticator import Authenticator
from mailsrv.expansion.errors import ExpansionError, ForcedFailure
from mailsrv.expansion.scope import Scope
from mailsrv.interfaces import IClientExchange

_NO = ("", "0", "no", "false")


class ClientAuthentication:
    """Provides ``IClientAuthentication``."""

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        self._clients = [each for each in authenticators if each.is_client()]

    def mechanisms(self) -> Sequence[str]:
        """See ``IClientAuthentication``."""
        return [each.name for each in self._clients]

    async def attempts(self, offered: Sequence[str], scope: Scope) -> Sequence[IClientExchange]:
        """See ``IClientAuthentication``; a forced failure means "not for this server".

        :raises TemporaryFailure: an option cannot be expanded now.
        """
        names = {name.upper() for name in offered}
        found: list[IClientExchange] = []
        for each in self._clients:
            if each.mechanism not in names:
                continue
            try:
                if each.client_condition is not None:
                    answer = await each.client_condition.expand(scope)
                    if answer.strip(" \t\n").lower() in _NO:
                        continue
                found.append(await each.client(scope))
            except ForcedFailure:
                continue
        return found


class ClientExchange:
    """What the exchanges of all drivers share; a driver adds ``initial`` and ``respond``."""

    ignore_invalid = False

    def __init__(self, authenticator: Authenticator, scope: Scope) -> None:
        self.name = authenticator.name
        self.mechanism = authenticator.mechanism
        self._set_id = authenticator.client_set_id
        self._scope = scope

    async def identity(self) -> str:
        """See ``IClientExchange``."""
        if self._set_id is None:
            return ""
        try:
            return await self._set_id.expand(self._scope)
        except ExpansionError:
            return ""


def with_nuls(text: str) -> bytes:
    """Return a string of ``client_send`` as sent: ``^`` is a NUL, ``^^`` a circumflex (34.4)."""
    return text.encode("latin-1").replace(b"^^", b"\1").replace(b"^", b"\0").replace(b"\1", b"^")

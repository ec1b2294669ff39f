"""The ``plaintext`` authenticator: PLAIN, LOGIN and their like, judged by ``server_condition``.

Specification chapter 34.  An empty password is refused before the condition is
evaluated, because a condition that compares it with a failed lookup's empty
result would let any unknown user in; ``server_allow_empty_password`` turns
that off.  The password is the third string for PLAIN and the second for LOGIN.
For a mechanism of another name it is the highest of ``$auth1`` … ``$auth3``
(``$1`` … ``$3``) that the condition mentions, or else the answer to the last
prompt.
"""

from __future__ import annotations

import re
from typing import Any

from mailsrv.auth.authenticator import Authenticator, Dialogue, Environment
from mailsrv.auth.client import ClientExchange, with_nuls
from mailsrv.auth.strings import checked_plain, complete, gather, positions
from mailsrv.config.options import option
from mailsrv.config.types import BOOLEAN, STRING_LIST
from mailsrv.expansion.errors import ForcedFailure
from mailsrv.expansion.lists import split_list
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import Template, compile_string
from mailsrv.interfaces import IClientExchange
from mailsrv.mail.taint import tainted

_MENTION = re.compile(r"\$\{?(?:auth)?([1-3])(?![0-9A-Za-z_])")


class Plaintext(Authenticator):
    """Ask for strings and judge them by expanding ``server_condition``."""

    server_condition_decides = True

    client_ignore_invalid_base64 = option(
        BOOLEAN, False, help="take a challenge that is not base64 for an empty one"
    )
    client_send = option(STRING_LIST, help="what a client sends, with AUTH and after each prompt")
    server_prompts = option(STRING_LIST, help="prompts for the strings that AUTH did not bring")
    server_allow_empty_password = option(
        BOOLEAN, False, help="evaluate server_condition for an empty password too", ours=True
    )

    def is_server(self) -> bool:
        """See :meth:`Authenticator.is_server`: as Exim, by ``server_condition``."""
        return self.server_condition is not None

    def is_client(self) -> bool:
        """See :meth:`Authenticator.is_client`."""
        return self.client_send is not None

    async def client(self, scope: Scope) -> IClientExchange:
        """See :meth:`Authenticator.client`; the first string is expanded here."""
        assert self.client_send is not None
        strings = [compile_string(item) for item in split_list(self.client_send.source)]
        first = await strings[0].expand(scope) if strings else ""
        return _Exchange(self, first, strings[1:], scope)

    async def credentials(self, dialogue: Dialogue, scope: Scope) -> Any:
        """See :meth:`Authenticator.credentials`."""
        from mailsrv.auth.portal import PasswordCredentials, Refused

        prompts: list[str] = []
        if self.server_prompts is not None:
            prompts = split_list(await self.server_prompts.expand(scope))
        strings = await gather(dialogue, prompts)
        if self.mechanism == "PLAIN":
            checked_plain(strings)
        user, password = positions(self.mechanism, self._mentioned() or len(prompts))
        credentials = PasswordCredentials(strings, user, password, dialogue.connection)
        if not credentials.password and not self.server_allow_empty_password:
            raise Refused("empty password", complete(strings, password))
        return credentials

    def checker(self, environment: Environment) -> Any:
        """See :meth:`Authenticator.checker`."""
        from mailsrv.auth.checkers.condition import ConditionChecker

        assert self.server_condition is not None
        return ConditionChecker(self.server_condition, environment.services)

    def _mentioned(self) -> int:
        """Return the highest string that the condition names; 0 if it names none."""
        assert self.server_condition is not None
        return max(map(int, _MENTION.findall(self.server_condition.source)), default=0)


class _Exchange(ClientExchange):
    """Provides ``IClientExchange``: strings that are expanded as the prompts come (34.4)."""

    def __init__(
        self, authenticator: Plaintext, first: str, strings: list[Template], scope: Scope
    ) -> None:
        super().__init__(authenticator, scope)
        self.ignore_invalid = authenticator.client_ignore_invalid_base64
        self._first = first
        self._strings = strings
        self._prompts: list[str] = []

    async def initial(self) -> bytes | None:
        """See ``IClientExchange``: an empty first string is not sent."""
        return with_nuls(self._first) or None

    async def respond(self, challenge: bytes) -> bytes | None:
        """See ``IClientExchange``; a forced failure cancels."""
        if not self._strings:
            return None
        self._prompts.append(tainted(challenge))
        names = {f"auth{number}": text for number, text in enumerate(self._prompts[:3], 1)}
        try:
            text = await self._strings.pop(0).expand(self._scope.within(names, ("",)))
        except ForcedFailure:
            return None
        return with_nuls(text)

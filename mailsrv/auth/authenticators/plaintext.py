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
from mailsrv.auth.strings import checked_plain, complete, gather, positions
from mailsrv.config.options import option
from mailsrv.config.types import BOOLEAN, STRING_LIST
from mailsrv.expansion.lists import split_list
from mailsrv.expansion.scope import Scope

_MENTION = re.compile(r"\$\{?(?:auth)?([1-3])(?![0-9A-Za-z_])")


class Plaintext(Authenticator):
    """Ask for strings and judge them by expanding ``server_condition``."""

    server_condition_decides = True

    server_prompts = option(STRING_LIST, help="prompts for the strings that AUTH did not bring")
    server_allow_empty_password = option(
        BOOLEAN, False, help="evaluate server_condition for an empty password too", ours=True
    )

    def is_server(self) -> bool:
        """See :meth:`Authenticator.is_server`: as Exim, by ``server_condition``."""
        return self.server_condition is not None

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

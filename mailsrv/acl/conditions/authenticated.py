"""``authenticated``: the client has authenticated, by an authenticator of a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.acl.item import Item
from mailsrv.acl.model import SMTP_PHASES
from mailsrv.expansion.lists import match_domain
from mailsrv.interfaces import AclPhase

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation


class Authenticated(Item):
    """The authenticator that succeeded is in a list of strings."""

    name = "authenticated"
    phases = SMTP_PHASES - {AclPhase.CONNECT, AclPhase.HELO}

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        authenticator = run.connection.origin.authenticator
        if not authenticator:
            return False
        if self.argument.constant == "*":
            return True
        return await match_domain(self.argument, authenticator, run.scope) is not None

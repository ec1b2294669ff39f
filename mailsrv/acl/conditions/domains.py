"""``domains``: the recipient's domain is in a domain list; sets ``$domain_data``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.acl.item import Item
from mailsrv.expansion.lists import match_domain
from mailsrv.interfaces import AclPhase

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation


class Domains(Item):
    """The domain of the address in hand is in the list."""

    name = "domains"
    phases = frozenset({AclPhase.RCPT, AclPhase.VRFY})

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        address = run.scope.address
        if address is None:
            return False
        address.domain_data = ""
        match = await match_domain(self.argument, address.domain, run.scope)
        if match is None:
            return False
        address.domain_data = match.data
        run.matched(match)
        return True

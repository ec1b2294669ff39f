"""``recipients``: the recipient's whole address is in an address list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.acl.item import Item
from mailsrv.expansion.lists import match_address
from mailsrv.interfaces import AclPhase

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation


class Recipients(Item):
    """The address in hand is in the list."""

    name = "recipients"
    phases = frozenset({AclPhase.RCPT})

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        if run.scope.address is None:
            return False
        match = await match_address(self.argument, run.scope.address.address, run.scope)
        if match is not None:
            run.matched(match)
        return match is not None

"""``local_parts``: the recipient's local part is in a list; sets ``$local_part_data``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.acl.item import Item
from mailsrv.expansion.lists import match_local_part
from mailsrv.interfaces import AclPhase

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation


class LocalParts(Item):
    """The local part of the address in hand is in the list."""

    name = "local_parts"
    phases = frozenset({AclPhase.RCPT, AclPhase.VRFY})

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        address = run.scope.address
        if address is None:
            return False
        address.local_part_data = ""
        match = await match_local_part(self.argument, address.local_part, run.scope, caseful=True)
        if match is None:
            return False
        address.local_part_data = match.data
        run.matched(match)
        return True

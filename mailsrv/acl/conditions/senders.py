"""``senders``: the envelope's sender is in an address list (``:`` matches the null sender)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.acl.item import Item
from mailsrv.acl.model import MESSAGE_PHASES
from mailsrv.expansion.lists import match_address
from mailsrv.interfaces import AclPhase

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation


class Senders(Item):
    """The reverse-path is in the list."""

    name = "senders"
    phases = MESSAGE_PHASES | {AclPhase.NOTQUIT}

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        match = await match_address(self.argument, run.transaction.sender, run.scope)
        if match is not None:
            run.matched(match)
        return match is not None

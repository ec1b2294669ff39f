"""``sender_domains``: the domain of the envelope's sender is in a domain list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.acl.item import Item
from mailsrv.acl.model import MESSAGE_PHASES
from mailsrv.expansion.lists import match_domain
from mailsrv.interfaces import AclPhase
from mailsrv.mail.address import split

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation


class SenderDomains(Item):
    """The reverse-path's domain, "" for the null sender, is in the list."""

    name = "sender_domains"
    phases = MESSAGE_PHASES | {AclPhase.NOTQUIT}

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        match = await match_domain(self.argument, split(run.transaction.sender)[1], run.scope)
        if match is not None:
            run.matched(match)
        return match is not None

"""``hosts``: the client is in a host list; sets ``$host_data``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.acl.item import Item
from mailsrv.acl.model import SMTP_PHASES
from mailsrv.expansion.lists import match_host

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation


class Hosts(Item):
    """The host at the other end is in the list."""

    name = "hosts"
    phases = SMTP_PHASES

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        match = await match_host(self.argument, run.connection.origin, run.scope)
        if match is None:
            return False
        run.give(host_data=match.data)
        run.matched(match)
        return True

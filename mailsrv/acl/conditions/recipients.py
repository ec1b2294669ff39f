"""``recipients``: the recipient's whole address is in an address list.

In ``acl_not_smtp``, where Exim has no such condition, it is met if any recipient
of the message is in the list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.acl.item import Item
from mailsrv.expansion.lists import match_address
from mailsrv.interfaces import AclPhase

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation


class Recipients(Item):
    """The address in hand (or any recipient of a local message) is in the list."""

    name = "recipients"
    phases = frozenset({AclPhase.RCPT, AclPhase.NOT_SMTP})

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        address = run.scope.address
        if run.phase is AclPhase.NOT_SMTP:
            candidates = [each.address for each in run.transaction.recipients]
        else:
            candidates = [] if address is None else [address.address]
        for candidate in candidates:
            match = await match_address(self.argument, candidate, run.scope)
            if match is not None:
                run.matched(match)
                return True
        return False

"""``encrypted``: the connection is encrypted, with a cipher suite of a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.acl.item import Item
from mailsrv.acl.model import SMTP_PHASES
from mailsrv.expansion.lists import match_domain
from mailsrv.interfaces import AclPhase

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation


class Encrypted(Item):
    """The cipher suite in use is in a list of strings."""

    name = "encrypted"
    phases = SMTP_PHASES - {AclPhase.HELO}

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        cipher = run.connection.origin.tls_cipher
        if not cipher:
            return False
        if self.argument.constant == "*":
            return True
        return await match_domain(self.argument, cipher, run.scope) is not None

"""``batch_max`` and ``batch_id``, which the local transports share (chapter 25)."""

from __future__ import annotations

from collections.abc import Hashable

from mailsrv.config.options import option
from mailsrv.config.types import EXPANDED, INTEGER
from mailsrv.errors import MailFailure
from mailsrv.expansion.scope import Scope
from mailsrv.mail.message import Message
from mailsrv.mail.routed import RoutedAddress
from mailsrv.transport.transport import Transport, mentions


class BatchingTransport(Transport):
    """A local transport that can handle several addresses at once."""

    batch_id = option(EXPANDED, help="addresses are batched if this expands to the same value")
    batch_max = option(INTEGER, default=1, help="addresses in one delivery at most")

    def most(self) -> int:
        """See :meth:`Transport.most`: options that name $local_part allow no batches."""
        return 1 if mentions(self, "local_part") else max(self.batch_max, 1)

    async def together(self, message: Message, address: RoutedAddress, scope: Scope) -> Hashable:
        """See :meth:`Transport.together`; a failing ``batch_id`` means alone."""
        domain = address.domain if mentions(self, "domain") else ""
        if self.batch_id is None:
            return domain
        try:
            return domain, await self.batch_id.expand(scope)
        except MailFailure:
            return id(address)

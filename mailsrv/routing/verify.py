"""``verify = recipient`` and ``verify = sender``: routing without delivery (specification 3.9)."""

from __future__ import annotations

from mailsrv.expansion import rewrite
from mailsrv.expansion.scope import Scope
from mailsrv.interfaces import Routed
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Recipient
from mailsrv.routing.route import Routing
from mailsrv.routing.router import EXPN, RECIPIENT, SENDER, Context


class Verifier:
    """Provides ``IVerifier`` with the routers of the configuration."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing

    async def verify(
        self, address: str, connection: Connection, *, as_sender: bool = False
    ) -> Routed:
        """See :meth:`IVerifier.verify`.

        The rewriting rules are applied before, to the sender for good.
        While a sender is verified the sender is unset (chapter 15, senders).
        """
        transaction = connection.transaction
        address = await self._rewritten(address, connection, SENDER if as_sender else RECIPIENT)
        sender = transaction.sender if transaction is not None and not as_sender else ""
        context = Context(
            self._routing.facilities,
            sender=sender,
            message=transaction,
            connection=connection,
            origin=connection.origin,
            verify=SENDER if as_sender else RECIPIENT,
        )
        return await self._routing.decide(Recipient(address), context)

    async def expand(self, address: str, connection: Connection) -> Routed:
        """See :meth:`IVerifier.expand`."""
        context = Context(
            self._routing.facilities,
            sender="",
            connection=connection,
            origin=connection.origin,
            asked=EXPN,
        )
        return await self._routing.decide(Recipient(address), context)

    async def _rewritten(self, address: str, connection: Connection, mode: str) -> str:
        """The address as it is routed (31.2): a message's sender stays what it became."""
        facilities, transaction = self._routing.facilities, connection.transaction
        scope = Scope(
            facilities.services,
            connection=connection,
            message=transaction,
            origin=connection.origin,
        )
        if mode == RECIPIENT:
            return await facilities.rewriter.address(address, rewrite.RECIPIENT, scope)
        if transaction is None or address != transaction.sender:
            return await facilities.rewriter.address(address, rewrite.SENDER, scope)
        if not transaction.sender_rewritten:
            new = await facilities.rewriter.address(address, rewrite.SENDER, scope)
            transaction.sender, transaction.sender_rewritten = new, True
        return transaction.sender

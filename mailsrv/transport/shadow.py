"""Shadow transports: what was delivered is passed to another local transport, too (chapter 24).

What becomes of the copy changes nothing for the delivery: it is said in the log, ``ST=``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from twisted.internet.defer import CancelledError

from mailsrv.errors import MailFailure
from mailsrv.interfaces import IMailLog
from mailsrv.mail.routed import Outcome, Result
from mailsrv.transport.transport import Batch, Transport, optional

_FALSE = ("", "0", "no", "false")


class Shadows:
    """Runs the shadow transports; ``prepare`` makes a batch ready for its transport."""

    def __init__(
        self,
        transports: Mapping[str, Transport],
        log: IMailLog,
        prepare: Callable[[Transport, Batch], Awaitable[None]],
    ) -> None:
        self._transports = transports
        self._log = log
        self._prepare = prepare

    async def cast(
        self, transport: Transport, batch: Batch, outcomes: Sequence[Outcome]
    ) -> Sequence[Outcome]:
        """Return the outcomes of a transport, with what became of its shadow."""
        done = [o for o in outcomes if o.result is Result.DELIVERED]
        if not done or not await self._wanted(transport, batch):
            return outcomes
        said = transport.shadow_transport or ""
        if problem := await self._run(said, batch, done):
            said += f" ({problem})"
        return [replace(o, shadow=said) if o.result is Result.DELIVERED else o for o in outcomes]

    async def _wanted(self, transport: Transport, batch: Batch) -> bool:
        """Expand shadow_condition; a failure means no."""
        if transport.shadow_condition is None:
            return True
        try:
            text = await optional(transport.shadow_condition, batch.scope())
        except MailFailure as error:
            self._log.panic(f"{transport.name} transport: shadow_condition: {error.explained}")
            return False
        return (text or "").lower() not in _FALSE

    async def _run(self, name: str, batch: Batch, done: Sequence[Outcome]) -> str:
        """Deliver to the shadow; return what went wrong, "" for nothing."""
        shadow = self._transports.get(name)
        if shadow is None or not shadow.local:
            return "no such local transport"
        found: list[Outcome] = []

        async def settle(outcomes: Sequence[Outcome]) -> None:
            found.extend(outcomes)

        addresses = [replace(o.address, transport=name) for o in done]
        most = shadow.most() or len(addresses)
        try:
            for start in range(0, len(addresses), most):
                part = replace(
                    batch,
                    addresses=tuple(addresses[start : start + most]),
                    settle=settle,
                    transport=name,
                    values={},
                    run_as=None,
                )
                await self._prepare(shadow, part)
                await shadow.deliver(part)
        except CancelledError:
            raise
        except MailFailure as error:
            return error.explained
        except Exception as error:  # a bug of the shadow costs the copy
            self._log.panic(f"{name} transport: delivery as a shadow failed", error)
            return "unexpected failure of the transport"
        return next((o.reason or "failed" for o in found if o.result is not Result.DELIVERED), "")

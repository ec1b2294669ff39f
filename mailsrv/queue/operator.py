"""What administrators do with the messages of a queue (design, decision 11)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from mailsrv.interfaces import IClock, IMailLog, ISpool
from mailsrv.mail.message import Message, Recipient
from mailsrv.queue.runner import QueueRunner

T = TypeVar("T")


class Operator:
    """Provides ``IQueueControl``.  While it changes a message no attempt of it begins."""

    def __init__(self, runner: QueueRunner, spool: ISpool, clock: IClock, log: IMailLog) -> None:
        self._runner = runner
        self._spool = spool
        self._clock = clock
        self._log = log

    async def remove(self, id: str) -> bool:
        """See :meth:`IQueueControl.remove`."""

        async def remove() -> bool:
            message = await self._spool.load(id)
            if message is None and await self._spool.history(id) is None:
                return False
            await self._spool.remove(id)
            self._log.main("removed by administrator", id)
            if message is not None:  # else it is quarantined
                self._log.completed(message)
            return True

        return await self._runner.claimed(id, remove)

    async def freeze(self, id: str) -> bool | None:
        """See :meth:`IQueueControl.freeze`."""
        return await self._set_frozen(id, self._clock.seconds(), "frozen by administrator")

    async def thaw(self, id: str) -> bool | None:
        """See :meth:`IQueueControl.thaw`."""
        return await self._set_frozen(id, 0.0, "unfrozen by administrator")

    async def give_up(self, id: str, reason: str = "delivery cancelled by administrator") -> bool:
        """See :meth:`IQueueControl.give_up`."""

        async def give_up(message: Message) -> bool:
            reports = await self._runner.bouncer.cancelled(message, reason)
            await self._spool.remove(id, reports=reports)
            self._log.main(reason, id)
            for report in reports:
                self._log.received(report, bounce_of=id)
            self._log.completed(message)
            return True

        return await self._changed(id, give_up) or False

    async def edit(self, id: str, *, sender: str | None = None, added: Sequence[str] = ()) -> bool:
        """See :meth:`IQueueControl.edit`."""

        async def edit(message: Message) -> bool:
            recipients = [Recipient(address) for address in added]
            if not await self._spool.edit(id, sender=sender, added=recipients):
                return False
            if sender is not None:
                self._log.main(f"sender address changed to <{sender}> by administrator", id)
            for address in added:
                self._log.main(f"recipient <{address}> added by administrator", id)
            if added and not message.frozen_at:
                await self._spool.update(message, self._clock.seconds())  # what is new is due
            return True

        return await self._changed(id, edit) or False

    async def mark_delivered(self, id: str, addresses: Sequence[str] | None) -> list[str] | None:
        """See :meth:`IQueueControl.mark_delivered`."""

        async def mark(message: Message) -> list[str]:
            left = [recipient.address for recipient in message.recipients]
            wanted = left if addresses is None else list(dict.fromkeys(addresses))
            known = message.delivered.union(left)
            if unknown := [address for address in wanted if address not in known]:
                return unknown  # as in Exim, the message is not changed then
            wanted = [address for address in wanted if address in left]
            for address in wanted:
                self._log.main(f"address <{address}> marked delivered by administrator", id)
            if set(wanted) >= set(left):
                await self._spool.remove(id)
                self._log.completed(message)
            elif wanted:
                await self._spool.settle(id, wanted)
            return []

        return await self._changed(id, mark)

    async def run_now(
        self, ids: Iterable[str] | None = None, *, force: bool = False, frozen: bool = False
    ) -> int:
        """See :meth:`IQueueControl.run_now`."""
        return await self._runner.run_now(ids, force=force, frozen=frozen)

    async def ended(self, ids: Iterable[str]) -> None:
        """See :meth:`IQueueControl.ended`."""
        await self._runner.ended(ids)

    async def _set_frozen(self, id: str, at: float, words: str) -> bool | None:
        async def set_frozen(message: Message) -> bool:
            if (message.frozen_at > 0) == (at > 0):
                return False
            message.frozen_at = at
            await self._spool.update(message, self._clock.seconds())
            self._log.main(words, id)
            return True

        return await self._changed(id, set_frozen)

    async def _changed(self, id: str, change: Callable[[Message], Awaitable[T]]) -> T | None:
        """Change a message; None if there is none."""

        async def changed() -> T | None:
            message = await self._spool.load(id)
            return None if message is None else await change(message)

        return await self._runner.claimed(id, changed)

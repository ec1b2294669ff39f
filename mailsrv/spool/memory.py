"""Spool and hints in memory: the twins of the real ones, for tests and the demo."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import FURTHEST, HISTORY, IBodyWriter, QueueEntry, RetryHint
from mailsrv.mail.message import Body, InlineBody, Message, Recipient
from mailsrv.mail.parts import made_of
from mailsrv.spool.bodies import IO_ERROR
from mailsrv.spool.codec import whole_lines


@dataclass(slots=True)
class _Kept:
    """A message as stored, and what was recorded since."""

    message: Message
    next_attempt: float
    done: set[str]
    parts: set[str]
    history: str = ""


class MemoryBodyWriter:
    """Provides ``IBodyWriter``."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._ended = False

    def write(self, piece: bytes) -> None:
        """See :meth:`IBodyWriter.write`."""
        if self._ended:
            raise TemporaryFailure(IO_ERROR, "the body was given up")
        self._pieces.append(piece)

    async def finish(self) -> Body:
        """See :meth:`IBodyWriter.finish`."""
        if self._ended:
            raise TemporaryFailure(IO_ERROR, "the body was given up")
        self._ended = True
        return InlineBody(b"".join(self._pieces))

    def abort(self) -> None:
        """See :meth:`IBodyWriter.abort`."""
        self._ended = True


class MemorySpool:
    """Provides ``ISpool``.  While ``failure`` is set, writing raises it."""

    def __init__(self) -> None:
        self.failure: TemporaryFailure | None = None
        self._messages: dict[str, _Kept] = {}

    def new_body(self) -> IBodyWriter:
        """See :meth:`ISpool.new_body`."""
        return MemoryBodyWriter()

    async def store(self, message: Message, next_attempt: float) -> None:
        """See :meth:`ISpool.store`."""
        self._fail([message])
        self._add(message, next_attempt)

    async def settle(
        self,
        id: str,
        done: Sequence[str],
        *,
        parts: Sequence[str] = (),
        next_attempt: float | None = None,
        reports: Sequence[Message] = (),
        history: str = "",
    ) -> None:
        """See :meth:`ISpool.settle`."""
        self._fail(reports)
        for report in reports:
            self._add(report, report.received_at)
        kept = self._messages.get(id)
        if kept is not None:
            kept.done.update(done)
            kept.parts.update(parts)
            text = history.encode("ascii", "backslashreplace").decode("ascii")
            kept.history = (kept.history + text)[-HISTORY:]
            if next_attempt is not None:
                kept.next_attempt = next_attempt

    async def update(self, message: Message, next_attempt: float) -> None:
        """See :meth:`ISpool.update`."""
        self._fail()
        kept = self._messages.get(message.id)
        if kept is not None:
            changed = {"frozen_at": message.frozen_at, "warned": message.warned}
            kept.message = replace(kept.message, **changed)  # type: ignore[arg-type]
            kept.next_attempt = next_attempt

    async def edit(
        self, id: str, *, sender: str | None = None, added: Sequence[Recipient] = ()
    ) -> bool:
        """See :meth:`ISpool.edit`."""
        self._fail()
        kept = self._messages.get(id)
        if kept is None:
            return False
        message = kept.message
        known = {recipient.address for recipient in message.recipients}
        new = {each.address: each for each in added if each.address not in known}
        kept.message = replace(
            message,
            sender=message.sender if sender is None else sender,
            recipients=(*message.recipients, *new.values()),
        )
        return True

    async def remove(self, id: str, *, reports: Sequence[Message] = ()) -> None:
        """See :meth:`ISpool.remove`."""
        self._fail(reports)
        for report in reports:
            self._add(report, report.received_at)
        self._messages.pop(id, None)

    async def load(self, id: str) -> Message | None:
        """See :meth:`ISpool.load`."""
        kept = self._messages.get(id)
        if kept is None:
            return None
        message = kept.message
        return replace(
            message,
            recipients=tuple(r for r in message.recipients if r.address not in kept.done),
            delivered=frozenset(kept.done),
            parts=frozenset(kept.parts),
            headers=list(message.headers),
        )

    async def due(self, now: float, limit: int, skip: frozenset[str] = frozenset()) -> list[str]:
        """See :meth:`ISpool.due`."""
        ready = self._ready(skip)
        return [id for time, id in ready if not now < time <= now + FURTHEST][:limit]

    async def next_due(self, skip: frozenset[str] = frozenset()) -> float | None:
        """See :meth:`ISpool.next_due`."""
        return next((time for time, _ in self._ready(skip)), None)

    async def listing(self, start: str = "") -> AsyncIterator[QueueEntry]:
        """See :meth:`ISpool.listing`."""
        for id in sorted(id for id in self._messages if id >= start):
            kept = self._messages.get(id)
            if kept is not None:
                yield _entry(kept)

    async def count(self) -> int:
        """See :meth:`ISpool.count`."""
        return len(self._messages)

    async def history(self, id: str) -> str | None:
        """See :meth:`ISpool.history`."""
        kept = self._messages.get(id)
        return None if kept is None else whole_lines(kept.history)

    async def close(self) -> None:
        """See :meth:`ISpool.close`."""

    def _fail(self, new: Sequence[Message] = ()) -> None:
        if self.failure is not None:
            raise self.failure
        for message in new:
            if message.id in self._messages:
                raise TemporaryFailure(IO_ERROR, f"there is a message {message.id}")

    def _add(self, message: Message, next_attempt: float) -> None:
        self._messages[message.id] = _Kept(message, next_attempt, set(), set())

    def _ready(self, skip: frozenset[str]) -> list[tuple[float, str]]:
        return sorted(
            (kept.next_attempt, id)
            for id, kept in self._messages.items()
            if not kept.message.frozen_at and id not in skip
        )


class MemoryHints:
    """Provides ``IHints``."""

    def __init__(self) -> None:
        self._retry: dict[str, RetryHint] = {}

    def retry(self, key: str) -> RetryHint | None:
        """See :meth:`IHints.retry`."""
        return self._retry.get(key)

    def set_retry(self, key: str, hint: RetryHint | None) -> None:
        """See :meth:`IHints.set_retry`."""
        if hint is None:
            self._retry.pop(key, None)
        else:
            self._retry[key] = hint

    async def claim(self, key: str, until: float) -> bool:
        """See :meth:`IHints.claim`: there is no other worker."""
        return True


def _entry(kept: _Kept) -> QueueEntry:
    message = kept.message
    addresses = [recipient.address for recipient in message.recipients]
    return QueueEntry(
        message.id,
        message.sender,
        message.size,
        message.received_at,
        kept.next_attempt,
        message.frozen_at > 0,
        tuple(a for a in addresses if a not in kept.done),
        tuple(a for a in addresses if a in kept.done),
        reason=kept.history.rstrip("\n").rpartition("\n")[2],
        made=made_of(kept.parts, addresses),
    )

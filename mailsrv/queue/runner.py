"""The queue runner: which message is attempted when.  Provides ``IQueue``.

There is no periodic queue run: each deferred message has a next attempt's time
in the spool, and one timer waits for the earliest of them.  Of all that waits,
only ids are in memory: of messages under way, of a bounded number of new ones,
and of those that a command asked for, which may be all.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from mailsrv.errors import Locked, TemporaryFailure
from mailsrv.interfaces import (
    FURTHEST,
    IClock,
    IDelivering,
    IMailLog,
    IRouting,
    ISpool,
)
from mailsrv.mail.message import Message
from mailsrv.queue.attempt import QUEUED, Attempt, Domains, Tools, no_domain
from mailsrv.queue.bouncer import Bouncer
from mailsrv.queue.schedule import Schedule
from mailsrv.queue.shield import shielded

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

T = TypeVar("T")
HOLD = 60.0  # seconds until a message is tried again that could not be loaded or written
LONGEST_TIMER = 3600.0
EXPECTED = 10000  # messages being stored at a time; one forgotten is looked for in the spool
SLOW = 10.0  # seconds after which an attempt, whatever it waits for, keeps no others back
POLL = 0.1  # seconds between looks whether attempts that a command waits for have ended
LAST_WRITES = 5.0  # seconds that the spool has at the end to record what was delivered


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """Main options of the queue; times in seconds, 0 = not set where Exim says so."""

    max_active: int = 200  # messages being delivered at a time
    max_parked: int = 1000  # further ones that wait for a place at a host, or take SLOW seconds
    max_waiting: int = 2000  # new messages whose ids are remembered; the spool knows the rest
    queue_only: bool = False
    queue_only_files: tuple[str, ...] = ()  # one that exists is queue_only for now
    ignore_bounce_errors_after: float = 70 * 86400.0
    timeout_frozen_after: float = 0.0
    auto_thaw: float = 0.0
    message_logs: bool = True
    holds: Domains = no_domain  # hold_domains
    later: Domains = no_domain  # queue_domains
    later_remote: Domains = no_domain  # queue_smtp_domains
    remote: frozenset[str] = frozenset()  # the transports that later_remote is about
    halted: str = ""  # why nothing at all can be delivered


class QueueRunner:
    """Delivers the messages of one spool.

    ``schedule`` is handed to the transports, too, as their IHostRetry.
    """

    def __init__(
        self,
        clock: IClock,
        spool: ISpool,
        schedule: Schedule,
        routing: IRouting,
        delivering: IDelivering,
        log: IMailLog,
        bouncer: Bouncer,
        settings: QueueSettings = QueueSettings(),
    ) -> None:
        self._clock = clock
        self._spool = spool
        self._log = log
        self._stopping = False
        self._take(schedule, routing, delivering, bouncer, settings)
        self._active: dict[str, float] = {}  # ids, and since when
        self._parked: set[str] = set()  # of the active: those that wait for a host
        self._expected: OrderedDict[str, None] = OrderedDict()  # being stored, nobody's yet
        self._fresh: list[Message] = []  # received in this turn of the reactor
        self._new: deque[str] = deque()  # received before, when there was no room
        self._asked: OrderedDict[str, None] = OrderedDict()  # run_now, each id once
        self._thawing: dict[str, str] = {}  # ids, and by what
        self._held: dict[str, float] = {}
        self._soonest = 0.0  # nothing that waits in the spool is due before
        self._timer: Any = None
        self._slow_timer: Any = None
        self._filling = False
        self._again = False
        self._idle: list[Deferred[None]] = []
        self._attempts: set[Deferred[None]] = set()
        self._changing: set[Deferred[None]] = set()  # messages that commands change

    def _take(
        self,
        schedule: Schedule,
        routing: IRouting,
        delivering: IDelivering,
        bouncer: Bouncer,
        settings: QueueSettings,
    ) -> None:
        """Use these for what begins from now on."""
        self.schedule = schedule
        self.bouncer = bouncer
        self.settings = settings
        self._tools = Tools(
            self._clock,
            self._spool,
            routing,
            delivering,
            schedule,
            bouncer,
            self._log,
            lambda: self._stopping,
            lambda id: partial(self._waits, id),
            settings.ignore_bounce_errors_after,
            settings.message_logs,
            settings.holds,
            settings.later,
            settings.later_remote,
            settings.remote,
            settings.halted,
        )

    # --- life ---

    def start(self) -> None:
        """Begin with what the spool holds; returns at once."""
        self._wake()

    def renew(
        self,
        schedule: Schedule,
        routing: IRouting,
        delivering: IDelivering,
        bouncer: Bouncer,
        settings: QueueSettings,
    ) -> None:
        """Go on with a new configuration; attempts under way end with what they began with."""
        if schedule is not self.schedule:
            schedule.forced |= self.schedule.forced
        self._take(schedule, routing, delivering, bouncer, settings)
        if not self._stopping:
            self._wake()

    async def stop(self, grace: float = 30.0) -> None:
        """Begin no delivery; after ``grace`` seconds cut those that are still under way.

        What they have delivered by then is recorded; the rest is as if it had not
        been tried.
        """
        self._stopping = True
        for timer in (self._timer, self._slow_timer):
            if timer is not None and timer.active():
                timer.cancel()
        if not await self._until_idle(grace):
            self._log.main(f"{len(self._attempts)} deliveries did not end in time and are cut")
            for attempt in list(self._attempts):
                attempt.cancel()
            if not await self._until_idle(LAST_WRITES):
                self._log.panic("outcomes of deliveries could not be recorded in time")

    async def _until_idle(self, seconds: float) -> bool:
        """Wait until nothing is under way; False: something still is after ``seconds``."""
        from twisted.internet.defer import CancelledError, Deferred

        if not self._active:
            return True
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        timer = self._clock.callLater(seconds, idle.cancel)
        try:
            await idle
        except CancelledError:
            return False
        if timer.active():
            timer.cancel()
        return True

    def first_attempt(self, message: Message) -> float:
        """See :meth:`IQueue.first_attempt`."""
        self._expected[message.id] = None
        if len(self._expected) > EXPECTED:  # of what could not be stored none is submitted
            self._expected.popitem(last=False)
        return self._due(message)

    def _due(self, message: Message) -> float:
        return message.received_at + (QUEUED if self._only_queued(message) else 0.0)

    def _only_queued(self, message: Message) -> bool:
        settings = self.settings
        return (
            message.queue_only
            or settings.queue_only
            or any(map(os.path.exists, settings.queue_only_files))
        )

    def submit(self, message: Message) -> None:
        """See :meth:`IQueue.submit`.

        The spool may show a message before whoever stored it hears of that.  If it was taken
        from there meanwhile, this copy is out of date, and what is left is looked for.
        """
        known = message.id in self._expected
        self._expected.pop(message.id, None)
        if message.frozen_at and not message.no_tell and self.bouncer.freeze_tell:
            self._spawn(self._tell_frozen(message))
        if message.frozen_at or self._only_queued(message):
            self._soonest = min(self._soonest, self._due(message))
            self._wake()
        elif not known:
            self._soonest = 0.0
            self._wake()
        elif self._room() > 0 and not self._new:
            self._active[message.id] = self._clock.seconds()  # nothing else may begin with it
            self._fresh.append(message)
            if len(self._fresh) == 1:  # whoever sent it hears of it first
                self._clock.callLater(0, self._begin_fresh)
        else:
            if len(self._new) < self.settings.max_waiting:
                self._new.append(message.id)
            else:
                self._soonest = 0.0
            self._look_for_slow_ones()

    async def _tell_frozen(self, message: Message) -> None:
        """Tell freeze_tell of a message that an ACL froze."""
        waiting = [recipient.address for recipient in message.recipients]
        for notice in self.bouncer.frozen(message, "by ACL", waiting):
            await self._spool.store(notice, self._clock.seconds())
            self._log.received(notice, bounce_of=message.id)
            self.submit(notice)

    def _begin_fresh(self) -> None:
        """Begin the first attempts of what was received in the reactor's last turn."""
        fresh, self._fresh = self._fresh, []
        for message in fresh:
            if self._stopping:
                self._release(message.id)
            else:
                self._start(message.id, first=True, message=message)

    # --- for the control socket and the commands ---

    async def run_now(
        self,
        ids: Iterable[str] | None = None,
        *,
        force: bool = False,
        frozen: bool = False,
        thawed_by: str = "forced delivery",
    ) -> int:
        """Attempt messages now, all of them if ``ids`` is None; return how many.

        ``-q`` is neither flag: of each address whose retry time has come.
        ``force`` (``-qf``) tries all addresses, ``frozen`` (``-qff``, ``-M``)
        thaws frozen messages first, by what the log says.  Messages under way are left alone.
        """
        found = 0
        async for id, is_frozen in self._chosen(ids):
            if id in self._active or (is_frozen and not frozen):
                continue
            if is_frozen:
                self._thawing.setdefault(id, thawed_by)
            if force:
                self.schedule.forced.add(id)
            self._held.pop(id, None)
            self._asked[id] = None
            found += 1
        self._wake()
        return found

    async def _chosen(self, ids: Iterable[str] | None) -> AsyncIterator[tuple[str, bool]]:
        """Those of these messages, or of all, that can be read; and whether they are frozen."""
        if ids is None:
            async for entry in self._spool.listing():
                if not entry.quarantined:
                    yield entry.id, entry.frozen
            return
        for id in dict.fromkeys(ids):
            message = await self._spool.load(id)
            if message is not None:
                yield id, message.frozen_at > 0

    async def ended(self, ids: Iterable[str]) -> None:
        """See :meth:`IQueueControl.ended`."""
        from twisted.internet.task import deferLater

        clock: Any = self._clock
        waiting = set(ids)
        while waiting := {id for id in waiting if id in self._active or id in self._asked}:
            await deferLater(clock, POLL, lambda: None)

    async def quiet(self) -> None:
        """Wait until nothing that was asked for, or is new, is left to be attempted."""
        from twisted.internet.task import deferLater

        clock: Any = self._clock
        while self._active or self._asked or self._new or self._filling:
            await deferLater(clock, POLL, lambda: None)

    def may_change(self, id: str) -> bool:
        """Tell whether :meth:`claimed` would work now, and there is time for it."""
        return id not in self._active and not self._stopping

    async def claimed(self, id: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do something while no attempt of a message can begin.

        A write cannot be taken back: the claim is kept until the work has ended,
        though whoever asked for it may be gone.

        :raises Locked: it is being attempted.
        """

        async def claimed() -> T:
            try:
                return await work()
            finally:
                self._release(id)

        if id in self._active:
            raise Locked(id)
        self._expected.pop(id, None)
        self._active[id] = self._clock.seconds()
        said = f"{id}: cannot be changed"
        changing, waiting = shielded(claimed(), lambda error: self._log.panic(said, error))
        self._changing.add(changing)  # or nothing might refer to it once its caller is gone
        changing.addBoth(lambda _: self._changing.discard(changing))
        return await waiting

    # --- what is attempted next ---

    def _wake(self) -> None:
        """Fill the free places; at most one filling at a time."""
        if self._soonest == inf and not (self._asked or self._new or self._held or self._filling):
            return  # nothing waits, here or in the spool
        self._again = True
        if not self._filling and not self._stopping:
            self._filling = True
            self._spawn(self._fill())

    async def _fill(self) -> None:
        try:
            while self._again and not self._stopping:
                self._again = False
                await self._begin()
        except TemporaryFailure as failure:
            if self._stopping:  # the spool may be closed meanwhile: the next start looks again
                return
            self._soonest = 0.0
            self._log.panic(f"queue: the spool cannot be read: {failure}")
            self._arm(self._clock.seconds() + HOLD)
        finally:
            self._filling = False

    async def _begin(self) -> None:
        """Begin attempts while there is room, then set the timer for the next."""
        now = self._clock.seconds()
        if any(until <= now for until in self._held.values()):
            self._held = {id: until for id, until in self._held.items() if until > now}
            self._soonest = 0.0
        while (self._asked or self._new) and self._room() > 0:
            first = not self._asked
            id = self._new.popleft() if first else self._asked.popitem(last=False)[0]
            if id not in self._active and id not in self._held:
                self._start(id, first=first)
        if self._room() > 0 and (self._soonest <= now or now + FURTHEST < self._soonest < inf):
            await self._look(now)
        when = min(self._soonest, *self._held.values(), inf)
        if self._room() > 0 and when < inf:
            self._arm(when)
        else:
            self._look_for_slow_ones()

    async def _look(self, now: float) -> None:
        """Start what the spool says is due, and learn when there will be more."""
        self._soonest = inf
        skip = frozenset(self._active) | frozenset(self._held)
        for id in await self._spool.due(now, self._room(), skip):
            if id not in self._active and self._room() > 0:
                self._start(id, first=False)
        skip = frozenset(self._active) | frozenset(self._held)
        following = await self._spool.next_due(skip)
        if following is not None:
            self._soonest = min(self._soonest, following)

    def _room(self) -> int:
        """Return how many attempts may begin: one that waits for a busy host keeps none back."""
        if self._stopping:
            return 0
        settings = self.settings
        parked = min(len(self._parked), settings.max_parked)
        return settings.max_active - len(self._active) + parked

    def _waits(self, id: str, waits: bool) -> None:
        """A message begins, or ceases, to wait for its turn at busy hosts."""
        if not waits:
            self._parked.discard(id)
        elif id in self._active:
            full = self._room() <= 0
            self._parked.add(id)
            if full:
                self._wake()

    def _look_for_slow_ones(self) -> None:
        """If there is no room, have those parked that take long, so that others may begin."""
        full = self._room() <= 0 and len(self._parked) < self.settings.max_parked
        if full and self._slow_timer is None and not self._stopping:
            oldest = next((at for id, at in self._active.items() if id not in self._parked), inf)
            delay = max(oldest + SLOW - self._clock.seconds(), 1.0)
            self._slow_timer = self._clock.callLater(min(delay, SLOW), self._park_slow_ones)

    def _park_slow_ones(self) -> None:
        self._slow_timer = None
        latest = self._clock.seconds() - SLOW
        self._parked.update(id for id, at in self._active.items() if at <= latest)
        self._wake()

    def _arm(self, when: float) -> None:
        """Wake at ``when`` (and not before): the one timer."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if not self._stopping:
            delay = min(max(when - self._clock.seconds(), 0.01), LONGEST_TIMER)
            self._timer = self._clock.callLater(delay, self._wake)

    # --- attempts ---

    def _start(self, id: str, *, first: bool, message: Message | None = None) -> None:
        """Begin an attempt; ``message`` is given if it is at hand, as the spool has it."""
        self._expected.pop(id, None)
        self._active[id] = self._clock.seconds()
        attempt = self._spawn(self._attempt(id, first, message))
        if not attempt.called:
            self._attempts.add(attempt)
            attempt.addBoth(lambda _: self._attempts.discard(attempt))

    async def _attempt(self, id: str, first: bool, message: Message | None) -> None:
        from twisted.internet.defer import CancelledError

        quiet = False  # it left nothing in the spool
        try:
            message = message or await self._spool.load(id)
            if message is None:
                return
            if message.frozen_at and id in self._thawing:
                self._log.main(f"Unfrozen by {self._thawing[id]}", id)
                message.frozen_at = 0.0
                await self._spool.update(message, self._clock.seconds())
            if not message.frozen_at:
                first = first or self._untried(message)
                message.queue_running = not first
                attempt = Attempt(self._tools, message, first=first)
                await attempt.run()
                quiet = attempt.removed and not attempt.reported
        except TemporaryFailure as failure:
            self._held[id] = self._clock.seconds() + HOLD
            self._log.panic(f"{id}: the spool cannot be used: {failure}")
        except CancelledError:
            pass  # cut by stop()
        except Exception as error:  # a bug costs one attempt
            self._held[id] = self._clock.seconds() + HOLD
            self._log.panic(f"{id}: delivery attempt failed", error)
        finally:
            self._thawing.pop(id, None)
            self.schedule.forced.discard(id)
            self._release(id, quiet=quiet)

    def _untried(self, message: Message) -> bool:
        """A message that waited for room, or for a restart, has its first attempt yet to come."""
        return message.first_delivery and 0 <= self._clock.seconds() - message.received_at < 60

    def _release(self, id: str, *, quiet: bool = False) -> None:
        """Let go of a message; unless ``quiet``, the spool may have something due now."""
        self._active.pop(id, None)
        self._parked.discard(id)
        if not quiet:
            self._soonest = 0.0
        if not self._active:
            waiting, self._idle = self._idle, []
            for idle in waiting:
                if not idle.called:
                    idle.callback(None)
        self._wake()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> Deferred[None]:
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(work).addErrback(
            lambda failure: self._log.panic("queue: internal error", failure.value)
        )

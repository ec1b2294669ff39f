"""What the retry hints say, and what a failure adds to them (specification chapters 32, 49.2).

Keys: ``T:name:address:port`` a host (without the address if it is known by name),
and with ``:id`` that host for one message; ``R:address:sender`` an address at a
remote host (``R:address`` if the sender does not matter), ``R:address`` or
``R:domain`` what could not be routed; ``T:address`` or ``T:domain`` a local
delivery; ``M:id:address`` an error of one message there.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import FURTHEST, IClock, IHints, RetryHint
from mailsrv.mail.address import split
from mailsrv.mail.case import lower
from mailsrv.mail.message import Message
from mailsrv.mail.routed import BESIDE, CROWDED, NOT_REACHED, Host, HostFailure, Outcome
from mailsrv.queue.retry import INTERVAL_MAX, after_failure, timed_out
from mailsrv.queue.rules import RetryRules, Rule

UNDECIDED = 900.0  # seconds to the next attempt if a rule's pattern cannot be looked up now
PROBED = 60.0  # seconds to the next attempt while other messages try a host; longer if crowded


def host_key(host: Host) -> str:
    """Return the key of a host's hint."""
    return f"T:{host.name.lower()}:{'' if host.by_name else host.address}:{host.port}"


class Schedule:
    """Computes the next attempts.  Provides ``IHostRetry``."""

    def __init__(
        self,
        clock: IClock,
        hints: IHints,
        rules: RetryRules,
        *,
        interval_max: float = INTERVAL_MAX,
    ) -> None:
        self._clock = clock
        self._hints = hints
        self._rules = rules
        self._interval_max = interval_max
        self._probed: set[str] = set()  # keys of failing hosts that are being tried
        self.forced: set[str] = set()  # ids of messages whose retry times are overridden

    def _hint(self, key: str) -> RetryHint | None:
        """Return what is known, unless a clock that was wrong planned it."""
        hint = self._hints.retry(key)
        if hint is not None and hint.next_try > self._clock.seconds() + FURTHEST:
            return None
        return hint

    def _holds(self, message: Message, hint: RetryHint | None) -> bool:
        """Tell whether a hint keeps a message waiting.

        One that has been queued for longer than the rule's cutoff does not wait (32.11).
        """
        now = self._clock.seconds()
        if hint is None or hint.next_try <= now:
            return False
        return not 0 < hint.cutoff < now - message.received_at

    def _of_host(self, message: Message, host: Host) -> list[RetryHint]:
        """Return what is held against a host, by all messages and by this one."""
        key = host_key(host)
        hints = (self._hint(key), self._hint(f"{key}:{message.id}"))
        return [hint for hint in hints if hint is not None]

    # --- IHostRetry ---

    def may_try(self, message: Message, host: Host) -> bool:
        """See :meth:`IHostRetry.may_try`."""
        if message.id in self.forced:
            return True
        if any(self._holds(message, hint) for hint in self._of_host(message, host)):
            return False
        return host_key(host) not in self._probed

    async def claim(self, message: Message, host: Host, seconds: float) -> bool:
        """See :meth:`IHostRetry.claim`."""
        if not self.may_try(message, host):
            return False
        key = host_key(host)
        hint = self._hint(key)
        if hint is None or message.id in self.forced:
            return True
        self._probed.add(key)
        claimed = False
        try:
            claimed = await self._hints.claim(key, self._clock.seconds() + seconds)
        finally:
            if not claimed:
                self._probed.discard(key)
        return claimed

    def release(self, host: Host) -> None:
        """See :meth:`IHostRetry.release`."""
        self._probed.discard(host_key(host))

    async def failed(self, message: Message, failure: HostFailure, domain: str) -> None:
        """See :meth:`IHostRetry.failed`.

        A host whose time has not come is not counted again: it failed for two
        messages at once.
        """
        key, now = host_key(failure.host), self._clock.seconds()
        self._probed.discard(key)
        if failure.message_only:
            key += f":{message.id}"
        hint = self._hint(key)
        if hint is not None and hint.next_try > now and message.id not in self.forced:
            return
        rule, _ = await self._find(
            [failure.host.name, domain], failure.error, failure.more_errno, message.sender
        )
        if rule is None or not rule.parameters:
            return
        hint = after_failure(
            rule,
            hint,
            now,
            error=failure.error,
            text=failure.reason,
            arrived=message.received_at if failure.message_only else None,
            interval_max=self._interval_max,
        )
        if now - message.received_at > rule.cutoff and not hint.expired:
            hint.next_try = now  # 32.11: others are considered immediately
        self._hints.set_retry(key, hint)

    def worked(self, host: Host) -> None:
        """See :meth:`IHostRetry.worked`."""
        key = host_key(host)
        self._probed.discard(key)
        self._hints.set_retry(key, None)

    def given_up(self, message: Message, hosts: Sequence[Host]) -> bool:
        """See :meth:`IHostRetry.given_up`."""
        return bool(hosts) and all(
            any(hint.expired for hint in self._of_host(message, host)) for host in hosts
        )

    def untried(self, message: Message, host: Host) -> bool:
        """See :meth:`IHostRetry.untried`."""
        hints = self._of_host(message, host)
        return all(hint.last_tried < message.received_at for hint in hints)

    # --- for the queue ---

    def routed(self, address: str) -> None:
        """Forget that an address could not be routed."""
        self._hints.set_retry(f"R:{address}", None)
        self._hints.set_retry(f"R:{lower(split(address)[1])}", None)

    def waits_until(self, message: Message, address: str) -> float:
        """Return the time before which a recipient is not tried again; 0 if it may be now."""
        domain = lower(split(address)[1])
        keys = (
            f"R:{address}",
            f"R:{domain}",
            f"R:{address}:{message.sender}",
            f"T:{address}",
            f"T:{domain}",
            f"M:{message.id}:{address}",
        )
        hints = (self._hint(key) for key in keys)
        waits = (h.next_try for h in hints if h is not None and self._holds(message, h))
        return max(waits, default=0.0)

    def succeeded(self, message: Message, outcome: Outcome) -> None:
        """Forget what was held against an address after a delivery."""
        address = outcome.address.address
        keys = [f"M:{message.id}:{address}"]
        if outcome.remote:
            keys += (f"R:{address}:{message.sender}", f"R:{address}")
        else:
            keys += (f"T:{address}", f"T:{outcome.address.domain}")
        if outcome.host is not None:
            keys.append(f"{host_key(outcome.host)}:{message.id}")
        for key in keys:
            self._hints.set_retry(key, None)

    async def deferred(self, message: Message, outcome: Outcome) -> float | None:
        """Take note of a temporary failure; return the next attempt's time, None to give up.

        A message is tried again when it has been queued for as long as its rule
        says, though it were not yet time: that attempt is the last (32.11).
        """
        now = self._clock.seconds()
        if outcome.error == NOT_REACHED:
            return self._not_reached(message, outcome)
        if outcome.error == BESIDE:
            return now + UNDECIDED
        if outcome.error == CROWDED and outcome.after:
            return now + max(outcome.after, 1.0)
        if outcome.error == CROWDED:
            return now + min(max((now - message.received_at) / 4, PROBED), UNDECIDED)
        address = outcome.address.address
        domain = lower(split(address)[1])
        subjects: Sequence[str] = [address] if outcome.by_local_part else [domain]
        if outcome.host_error and outcome.host is not None:
            subjects = [outcome.host.name, domain]
        rule, found = await self._find(subjects, outcome.error, outcome.more_errno, message.sender)
        if not found:
            return now + UNDECIDED
        if rule is None or now - message.received_at > rule.cutoff:
            if not outcome.host_error:  # 32.11: others are considered immediately
                self._hints.set_retry(self._key(message, outcome), None)
            return None
        if outcome.host_error and outcome.host is not None:
            return self._soonest(message, outcome, rule)
        late = outcome.error.startswith(("data_", "mail_", "quota"))
        hint = after_failure(
            rule,
            self._hint(self._key(message, outcome)),
            now,
            error=outcome.error,
            text=outcome.reason,
            status=outcome.status,
            arrived=message.received_at if late else None,
            interval_max=self._interval_max,
        )
        self._hints.set_retry(self._key(message, outcome), hint)
        if timed_out(rule, hint, message.received_at, now):
            return None
        return self._at_the_latest(message, rule.cutoff, hint.next_try)

    def _soonest(self, message: Message, outcome: Outcome, rule: Rule) -> float | None:
        """All hosts failed: the earliest of their times, or give up if all did for too long."""
        if self.given_up(message, outcome.hosts):
            return None
        return self._at_the_latest(message, rule.cutoff, self._earliest(message, outcome))

    def _earliest(self, message: Message, outcome: Outcome) -> float:
        """Return when the first of the hosts that were held back, or failed, may be tried."""
        now = self._clock.seconds()
        known = (self._of_host(message, host) for host in outcome.hosts)
        times = [max(hint.next_try for hint in hints) for hints in known if hints]
        earliest = max(min(times, default=now + UNDECIDED), now + 1)
        if any(host_key(host) in self._probed for host in outcome.hosts):
            earliest = max(min(times, default=now), now + PROBED)
        return earliest

    def _not_reached(self, message: Message, outcome: Outcome) -> float:
        """No host was tried: wait for the earliest."""
        hints = [hint for host in outcome.hosts for hint in self._of_host(message, host)]
        cutoff = max((hint.cutoff for hint in hints), default=0.0)
        return self._at_the_latest(message, cutoff, self._earliest(message, outcome))

    def _at_the_latest(self, message: Message, cutoff: float, next_try: float) -> float:
        """Return the next attempt's time, but the cutoff's if that comes before."""
        last = message.received_at + cutoff + 1
        return min(next_try, last) if cutoff and last > self._clock.seconds() else next_try

    def _key(self, message: Message, outcome: Outcome) -> str:
        address = outcome.address.address
        whom = address if outcome.by_local_part else lower(split(address)[1])
        if not outcome.address.transport:
            return f"R:{whom}"
        if outcome.error.startswith(("data_", "mail_")):
            return f"M:{message.id}:{address}"
        if not outcome.remote:
            return f"T:{whom}"
        return f"R:{address}:{message.sender}" if outcome.by_sender else f"R:{address}"

    async def _find(
        self, subjects: Sequence[str], error: str, more: str, sender: str
    ) -> tuple[Rule | None, bool]:
        """Return the rule, and whether it could be looked up."""
        try:
            return await self._rules.find(subjects, error, sender, more), True
        except TemporaryFailure:
            return None, False

"""What the retry hints say, and what a failure adds to them (specification chapters 32, 49.2).

Keys: ``T:name:address:port`` a host; ``R:address:sender`` an address at a
remote host, ``R:address`` one that could not be routed; ``T:address`` a local
delivery; ``M:id:address`` an error of one message.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import FURTHEST, IClock, IHints, RetryHint
from mailsrv.mail.address import split
from mailsrv.mail.message import Message
from mailsrv.mail.routed import Host, HostFailure, Outcome
from mailsrv.queue.retry import INTERVAL_MAX, after_failure, timed_out
from mailsrv.queue.rules import RetryRules, Rule

UNDECIDED = 900.0  # seconds to the next attempt if a rule's pattern cannot be looked up now
NOT_REACHED = "retry"  # Outcome.error of a host or address that was not tried: too early


def host_key(host: Host) -> str:
    """Return the key of a host's hint."""
    return f"T:{host.name.lower()}:{host.address}:{host.port}"


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
        self.forced: set[str] = set()  # ids of messages whose retry times are overridden

    def _hint(self, key: str) -> RetryHint | None:
        """Return what is known, unless a clock that was wrong planned it."""
        hint = self._hints.retry(key)
        if hint is not None and hint.next_try > self._clock.seconds() + FURTHEST:
            return None
        return hint

    # --- IHostRetry ---

    def may_try(self, message: Message, host: Host, domain: str) -> bool:
        """See :meth:`IHostRetry.may_try`."""
        hint = self._hint(host_key(host))
        return hint is None or hint.next_try <= self._clock.seconds() or message.id in self.forced

    # --- for the queue ---

    async def host_failed(self, message: Message, failure: HostFailure, domain: str) -> None:
        """Take note of a host's failure in an attempt, also if another host was tried after it.

        A host whose time has not come is not counted again: it failed for two
        messages at once.
        """
        key, now = host_key(failure.host), self._clock.seconds()
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
            interval_max=self._interval_max,
        )
        self._hints.set_retry(key, hint)

    def host_worked(self, host: Host) -> None:
        """Forget what was held against a host: it has answered."""
        self._hints.set_retry(host_key(host), None)

    def routed(self, address: str) -> None:
        """Forget that an address could not be routed."""
        self._hints.set_retry(f"R:{address}", None)

    def waits_until(self, message: Message, address: str) -> float:
        """Return the time before which a recipient is not tried again; 0 if it may be now."""
        keys = (f"R:{address}", f"R:{address}:{message.sender}", f"T:{address}")
        hints = (self._hint(key) for key in (*keys, f"M:{message.id}:{address}"))
        latest = max((hint.next_try for hint in hints if hint is not None), default=0.0)
        return latest if latest > self._clock.seconds() else 0.0

    def succeeded(self, message: Message, outcome: Outcome) -> None:
        """Forget what was held against an address after a delivery."""
        address = outcome.address.address
        for key in (
            f"R:{address}:{message.sender}",
            f"T:{address}",
            f"M:{message.id}:{address}",
        ):
            self._hints.set_retry(key, None)

    async def deferred(self, message: Message, outcome: Outcome) -> float | None:
        """Take note of a temporary failure; return the next attempt's time, None to give up."""
        routed, now = outcome.address, self._clock.seconds()
        if outcome.error == NOT_REACHED:
            return self._not_reached(outcome)
        domain = split(routed.address)[1]
        if outcome.host_error and outcome.host is not None:
            rule, found = await self._find(
                [outcome.host.name, domain], outcome.error, outcome.more_errno, message.sender
            )
            if not found:
                return now + UNDECIDED
            return self._after_hosts(rule, message, outcome)
        about_message = outcome.error.startswith(("data_", "mail_"))
        key = self._key(message, outcome, about_message)
        subjects = [routed.address] if routed.transport else [routed.address, domain]
        rule, found = await self._find(subjects, outcome.error, outcome.more_errno, message.sender)
        if not found:
            return now + UNDECIDED
        if rule is None:
            return None
        hint = after_failure(
            rule,
            self._hint(key),
            now,
            error=outcome.error,
            text=outcome.reason,
            status=outcome.status,
            arrived=message.received_at if about_message else None,
            interval_max=self._interval_max,
        )
        if now - message.received_at > rule.cutoff:
            self._hints.set_retry(key, None)  # 32.11: others are considered immediately
            return None
        self._hints.set_retry(key, hint)
        return None if timed_out(rule, hint, message.received_at, now) else hint.next_try

    def _after_hosts(self, rule: Rule | None, message: Message, outcome: Outcome) -> float | None:
        """All hosts failed: the earliest of their times, or give up if all did for too long."""
        now = self._clock.seconds()
        if rule is None or now - message.received_at > rule.cutoff:
            return None
        hints = self._hints_of(outcome)
        if all(hint is not None and hint.expired for hint in hints):
            return None
        return min((h.next_try for h in hints if h is not None), default=now + UNDECIDED)

    def _hints_of(self, outcome: Outcome) -> list[RetryHint | None]:
        """Return what is known of each host that an address could go to."""
        hosts = [host for host in outcome.address.hosts if host.address]
        hosts += [failure.host for failure in outcome.host_failures]
        if outcome.host is not None:
            hosts.append(outcome.host)
        return [self._hint(key) for key in dict.fromkeys(map(host_key, hosts))]

    def _key(self, message: Message, outcome: Outcome, about_message: bool) -> str:
        address = outcome.address.address
        if about_message:
            return f"M:{message.id}:{address}"
        if not outcome.address.transport:
            return f"R:{address}"
        return f"R:{address}:{message.sender}" if outcome.remote else f"T:{address}"

    def _not_reached(self, outcome: Outcome) -> float | None:
        """No host could be tried: wait for the earliest, or give up if all failed for too long."""
        hints = self._hints_of(outcome)
        known = [hint for hint in hints if hint is not None]
        if known and len(known) == len(hints) and all(hint.expired for hint in known):
            return None
        now = self._clock.seconds()
        return max(now + 1, min((h.next_try for h in known), default=now + UNDECIDED))

    async def _find(
        self, subjects: Sequence[str], error: str, more: str, sender: str
    ) -> tuple[Rule | None, bool]:
        """Return the rule, and whether it could be looked up."""
        try:
            return await self._rules.find(subjects, error, sender, more), True
        except TemporaryFailure:
            return None, False

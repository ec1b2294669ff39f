"""When the next attempt is, and when to give up: pure computation (specification 32.7 to 32.11)."""

from __future__ import annotations

from collections.abc import Callable
from random import random as random_number

from mailsrv.interfaces import RetryHint
from mailsrv.mail.status import Status
from mailsrv.queue.rules import Parameters, Rule

INTERVAL_MAX = 86400.0  # retry_interval_max, and its own maximum


def after_failure(
    rule: Rule,
    hint: RetryHint | None,
    now: float,
    *,
    error: str = "*",
    text: str = "",
    status: Status | None = None,
    arrived: float | None = None,
    interval_max: float = INTERVAL_MAX,
    random: Callable[[], float] = random_number,
) -> RetryHint:
    """Return what to remember after one more failure.

    ``hint`` is what was remembered, None at the first failure.  ``arrived`` is
    given for errors of the message itself: a message that came before the
    first failure counts from its arrival (32.11).  ``expired`` is set once the
    last cutoff is passed; a next time is computed from the last parameters
    even then, for new messages (32.10).
    """
    first = now if hint is None else hint.first_failed
    if arrived is not None:
        first = min(first, arrived)
    failing = now - first
    chosen = next((p for p in rule.parameters if failing <= p.cutoff), None)
    previous = 0.0
    if hint is not None:
        previous = max(0.0, min(hint.next_try, now) - hint.last_tried)
    last = chosen or (rule.parameters[-1] if rule.parameters else None)
    gap = 0.0 if last is None else _gap(last, previous, random)
    gap = min(gap, interval_max, INTERVAL_MAX)
    return RetryHint(first, now, now + gap, error, text, chosen is None, status, rule.cutoff)


def timed_out(rule: Rule | None, hint: RetryHint, received_at: float, now: float) -> bool:
    """Tell whether an address that has just failed is to be given up.

    It is without a rule, past the rule's last cutoff, or if the message has
    been queued for longer than that (32.11, the second exception).
    """
    if rule is None or not rule.parameters:
        return True
    return hint.expired or now - received_at > rule.cutoff


def _gap(parameters: Parameters, previous: float, random: Callable[[], float]) -> float:
    """Return the seconds to the next attempt, ``previous`` being the last interval."""
    interval = parameters.interval
    if parameters.letter == "F":
        return interval
    largest = max(interval, previous * parameters.factor)
    if parameters.letter == "G":
        return largest
    return interval if previous < interval else interval + (largest - interval) * random()

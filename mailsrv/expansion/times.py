"""``$tod_…``: the time of day, and Exim's time intervals (specification 6.16, 11.9)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from mailsrv.expansion.arithmetic import whole

if TYPE_CHECKING:
    from mailsrv.expansion.scope import Scope

_UNITS = {"w": 7 * 24 * 3600, "d": 24 * 3600, "h": 3600, "m": 60, "s": 1}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PART = re.compile(r"([0-9]+)([wdhms])", re.ASCII)


def interval(text: str) -> int | None:
    """Seconds of an interval such as ``1d12h``; None if it is none."""
    position, total = 0, 0
    while match := _PART.match(text, position):
        total += whole(match[1]) * _UNITS[match[2]]
        position = match.end()
    return total if position and position == len(text) else None


def show_interval(seconds: int) -> str:
    """Seconds in Exim's form, for example ``1w3d4h2m6s``; ``0s`` for none."""
    result = ""
    for unit, length in _UNITS.items():
        count, seconds = divmod(seconds, length)
        if count:
            result += f"{count}{unit}"
    return result or "0s"


def zone(now: float) -> str:
    """The local offset from UTC, as ``+0100``."""
    return time.strftime("%z", time.localtime(now))


def full(now: float) -> str:
    """As in a header line: ``Fri, 07 Apr 2000 14:25:48 +0100``, English whatever the locale."""
    return _full(int(now))


@lru_cache(maxsize=2)  # many greetings fall into one second
def _full(now: int) -> str:
    t = time.localtime(now)
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year} "
        f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} {zone(now)}"
    )


def _bsd_inbox(now: float) -> str:
    t = time.localtime(now)
    return (
        f"{_DAYS[t.tm_wday]} {_MONTHS[t.tm_mon - 1]} {t.tm_mday:02} "
        f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} {t.tm_year}"
    )


def _local(form: str) -> Callable[[float], str]:
    return lambda now: time.strftime(form, time.localtime(now))


_FORMS: dict[str, Callable[[float], str]] = {
    "bsdinbox": _bsd_inbox,
    "epoch": lambda now: str(int(now)),
    "epoch_l": lambda now: str(int(now * 1_000_000)),
    "full": full,
    "log": _local("%Y-%m-%d %H:%M:%S"),
    "logfile": _local("%Y%m%d"),
    "zone": zone,
    "zulu": lambda now: time.strftime("%Y%m%d%H%M%SZ", time.gmtime(now)),
}


def _variable(form: Callable[[float], str]) -> Callable[[Scope], str]:
    return lambda scope: form(scope.services.clock.seconds())


VARIABLES = {name: _variable(form) for name, form in _FORMS.items()}

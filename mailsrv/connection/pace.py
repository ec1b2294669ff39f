"""smtp_ratelimit_mail and smtp_ratelimit_rcpt: commands of one session are slowed down (14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.config.types import Pacing
from mailsrv.interfaces import IClock

if TYPE_CHECKING:
    from mailsrv.connection.dialogue import Dialogue


class Pace:
    """Counts commands of a kind, and tells how long the next one waits."""

    def __init__(self, pacing: Pacing) -> None:
        self._pacing = pacing
        self._count = 0
        self._delay = pacing.delay

    def next(self) -> float:
        """Count a command; return seconds."""
        self._count += 1
        if self._count <= self._pacing.threshold:
            return 0.0
        delay = self._delay
        self._delay = min(delay * self._pacing.factor, self._pacing.most)
        return delay


async def hold(session: Dialogue, kind: str) -> None:
    """Wait before a MAIL or RCPT (``kind`` is "mail" or "rcpt") if the client is to be slowed.

    The RCPTs of each message are counted anew.
    """
    settings = session.parts.settings
    pacing = settings.smtp_ratelimit_mail if kind == "mail" else settings.smtp_ratelimit_rcpt
    if kind == "mail":
        session.paces.pop("rcpt", None)
    if pacing is None or not session.connection.origin.host_address:
        return
    if not await session.parts.listed(settings.smtp_ratelimit_hosts, session.connection):
        return
    pace = session.paces.setdefault(kind, Pace(pacing))
    await _sleep(session.parts.clock, pace.next())


async def _sleep(clock: IClock, seconds: float) -> None:
    if seconds <= 0:
        return
    from twisted.internet.defer import Deferred  # here, so that -bV stays quick

    waiting: Deferred[None] = Deferred(lambda _: call.cancel())
    call = clock.callLater(seconds, waiting.callback, None)
    await waiting

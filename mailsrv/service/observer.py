"""Takes what Twisted logs as a failure to the panic log.

An error in a Deferred that nobody handled is a bug of ours: it must be seen by
the administrator, whichever way twistd was told to log.
"""

from __future__ import annotations

from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from mailsrv.interfaces import IMailLog


@implementer(ILogObserver)
class PanicObserver:
    """Passes critical events, and events with a failure, to ``log.panic``."""

    def __init__(self, log: IMailLog) -> None:
        self._log = log

    def __call__(self, event: LogEvent) -> None:
        """Take an event that Twisted logged."""
        failure = event.get("log_failure")
        if failure is None and event.get("log_level") is not LogLevel.critical:
            return
        text = str(event.get("log_format") or event.get("format") or "unexpected failure")
        self._log.panic(text.partition("\n")[0], getattr(failure, "value", None))

    def start(self) -> None:
        """Begin to watch."""
        globalLogPublisher.addObserver(self)

    def stop(self) -> None:
        """Watch no longer."""
        globalLogPublisher.removeObserver(self)

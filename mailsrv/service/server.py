"""The running server as a Twisted service: what happens in which order at start and end.

Start, as root where needed: file limit, folders, private keys, ports; then root
is dropped for good; then logs, spool, queue and reception begin.  With more
than one worker this process does the first part and supervises, and the rest
is done by the workers.  End: no new connections, sessions and deliveries
finish, the spool is closed last.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from twisted.application import service
from twisted.internet.defer import Deferred

from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError, ConfigErrors
from mailsrv.service.prepare import Prepared, prepare
from mailsrv.service.privileges import UMASK, drop
from mailsrv.service.single import Single
from mailsrv.service.source import Source, reasons
from mailsrv.service.supervisor import Supervisor
from mailsrv.spool.files import SpoolError

STDERR = 2


class NotStarted(Exception):
    """The server did not start in the background; twistd's parent process tells the text."""


class MailService(service.Service):
    """``twistd mailsrv``.

    A failure to start is told on the standard error that there was when this was
    made.  Unless ``foreground``, twistd's parent process, which waits for the
    child, adds words of its own, and the line is in twistd's log too.
    """

    name = "mailsrv"

    def __init__(
        self,
        source: Source,
        configuration: Configuration,
        texts: Mapping[str, str],
        *,
        foreground: bool = True,
        reactor: Any = None,
    ) -> None:
        self._source = source
        self._configuration = configuration
        self._texts = texts
        self._foreground = foreground
        self._given_reactor = reactor
        # twistd takes the standard error away before the ports are bound
        self._terminal = os.dup(STDERR)
        self._server: Single | Supervisor | None = None
        self._prepared: Prepared | None = None

    @property
    def _reactor(self) -> Any:
        if self._given_reactor is None:
            from twisted.internet import reactor

            self._given_reactor = reactor
        return self._given_reactor

    def privilegedStartService(self) -> None:
        """Do what may need root: limits, folders, keys, ports."""
        self._prepared = self._or_exit(lambda: prepare(self._configuration))

    def startService(self) -> None:
        """Drop root and begin to serve."""
        super().startService()
        self._or_exit(self._start)
        os.close(self._terminal)  # whoever waits for its end, such as ssh, may go

    def stopService(self) -> Deferred[None] | None:
        """End gracefully: sessions and deliveries under way finish, or are kept.

        Further signals to end are ignored: the end is under way, and takes a bounded time.
        """
        super().stopService()
        if self._server is None:
            return None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        server, self._server = self._server, None
        return server.end()

    def _start(self) -> None:
        prepared = self._prepared
        assert prepared is not None, "privilegedStartService comes first"
        os.umask(UMASK)
        arguments = self._source, self._configuration, prepared, self._reactor
        if len(prepared.listening) > 1:
            self._server = Supervisor(*arguments, self._texts)
        else:
            if prepared.account is not None:
                drop(prepared.account)
            self._server = Single(*arguments)
        self._server.begin()
        self._on_signal(signal.SIGUSR1, self._server.reopen_logs)
        self._on_signal(signal.SIGHUP, self._server.hang_up)

    def _on_signal(self, number: int, function: Callable[[], None]) -> None:
        """Call ``function`` on the reactor thread at each such signal."""
        signal.signal(number, lambda *_: self._reactor.callFromThread(function))

    def _or_exit(self, step: Callable[[], Any]) -> Any:
        """Do a step; what an administrator can mend ends the start with one clear line."""
        try:
            return step()
        except (ConfigError, ConfigErrors, SpoolError, OSError) as error:
            line = "\n".join(f"mailsrv: {reason}" for reason in reasons(error))
            os.write(self._terminal, f"{line}\n".encode(errors="backslashreplace"))
            if self._foreground:
                raise SystemExit(1) from error
            print(line, file=sys.stderr)  # to twistd's log
            raise NotStarted("the reason is told above") from error

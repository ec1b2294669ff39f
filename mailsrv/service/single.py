"""A server of one process (``workers = 1``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred

from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError, ConfigErrors
from mailsrv.service.core import Core
from mailsrv.service.prepare import Prepared, close_missing, remove, renew
from mailsrv.service.source import Source, reasons
from mailsrv.service.spools import folders


class Single:
    """Serves, and delivers from all the spools that there are.

    Made after root was dropped.

    :raises ConfigError, SpoolError, OSError: as :class:`~mailsrv.service.core.Core`.
    """

    def __init__(
        self, source: Source, configuration: Configuration, prepared: Prepared, reactor: Any
    ) -> None:
        self._source = source
        self._configuration = configuration
        self._prepared = prepared
        self._core = Core(configuration, prepared, reactor)

    def begin(self) -> None:
        """Accept connections, and deliver.

        :raises OSError: a control socket cannot be made.
        """
        core, prepared = self._core, self._prepared
        core.start(prepared.listening[0])
        for number in folders(prepared.spool_directory):
            if number != core.number:
                core.adopt(number, self._left)

    def _left(self, number: int, problem: str) -> None:
        if problem:
            self._core.log.panic(f"spool {number}: {problem}")

    def end(self) -> Deferred[None]:
        """End gracefully."""
        for listener in self._prepared.listening[0]:
            remove(listener)
        return Deferred.fromCoroutine(self._core.stop())

    def reopen_logs(self) -> None:
        """SIGUSR1: the log files were renamed."""
        self._core.log.reopen()

    def hang_up(self) -> None:
        """SIGHUP: read the configuration anew; a bad one is reported and changes nothing."""
        core, before = self._core, self._prepared
        core.log.reopen()
        try:
            configuration, _ = self._source.read()
            prepared = renew(configuration, self._configuration, before)
        except (ConfigError, ConfigErrors, OSError) as error:
            self._report(reasons(error))
            return
        try:
            core.renew(configuration, prepared)
        except (ConfigError, ConfigErrors, OSError) as error:
            self._report(reasons(error))
            close_missing(prepared.listening, before.listening)
            return
        core.doors.open(core.number, prepared.listening[0])
        close_missing(before.listening, prepared.listening)
        self._configuration, self._prepared = configuration, prepared
        for warning in configuration.notices():
            core.log.main(warning)

    def _report(self, why: Iterable[str]) -> None:
        for text in ("SIGHUP: the configuration is wrong and is not used", *why):
            self._core.log.panic(text)

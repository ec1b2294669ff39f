"""A process that serves: sessions, queue and logs, whatever the configuration becomes.

The parts that outlive a configuration are here; those that obey one are
:class:`~mailsrv.service.build.Stages`, which :meth:`Core.renew` replaces as a
whole.  Sessions and deliveries under way end with the stages they began with.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from mailsrv import __version__
from mailsrv.config.model import Configuration
from mailsrv.connection.factory import SmtpFactory
from mailsrv.connection.limits import ConnectionCounts, IConnectionCounts
from mailsrv.connection.lmtp import LmtpFactory
from mailsrv.logs.log import MailLog
from mailsrv.mail.msgid import MessageIds
from mailsrv.net.listen import Listener
from mailsrv.net.poll import poll_plainly
from mailsrv.net.threads import Threads
from mailsrv.service import collector
from mailsrv.service.build import Lasting, Stages
from mailsrv.service.clockwatch import ClockWatch
from mailsrv.service.doors import Doors
from mailsrv.service.environment import log_settings, set_environment
from mailsrv.service.local import LocalSubmission
from mailsrv.service.observer import PanicObserver
from mailsrv.service.prepare import Prepared
from mailsrv.service.spools import Spools
from mailsrv.spool.hints import SqliteHints
from mailsrv.spool.rates import SqliteRates

GRACE = 20.0  # seconds that sessions have to end
RETIRED_CHECK = 5.0  # seconds between looks whether the sessions of old stages have ended
POOLS = {"lookups": 4, "deliveries": 16, "hints": 1, "users": 2, "commands": 32}  # threads


class Core:
    """One serving process; ``number`` is that of its spool.

    Made after root was dropped, on the reactor thread.

    :raises ConfigError, SpoolError, OSError: the log, the spool or a checker cannot be had.
    """

    def __init__(
        self,
        configuration: Configuration,
        prepared: Prepared,
        reactor: Any,
        *,
        number: int = 0,
        counts: IConnectionCounts | None = None,
    ) -> None:
        set_environment(configuration.main)
        self.reactor = reactor
        self.number = number
        self.log = MailLog(log_settings(configuration), reactor)
        self.pools = {name: Threads(reactor, name, workers=most) for name, most in POOLS.items()}
        self._directory = prepared.spool_directory
        self.hints = SqliteHints(
            reactor,
            f"{prepared.spool_directory}/hints.sqlite3",
            self.pools["hints"],
            self.log.main,
            expire=configuration.main.retry_data_expire,
        )
        self.rates = SqliteRates(
            reactor, f"{prepared.spool_directory}/hints.sqlite3", self.pools["hints"]
        )
        self._lasting = Lasting(
            reactor,
            self.log,
            self.pools,
            self.hints,
            MessageIds(reactor.seconds, number),
            counts or ConnectionCounts(),
            self.rates,
        )
        self.stages = Stages(configuration, prepared, self._lasting)
        self.spools = Spools(reactor, prepared.spool_directory, self.log)
        self.own = self.spools.open(number, self.stages)
        self.factory = SmtpFactory(
            self.stages.parts(self.own.spool, self.own.queue), _tls_ports(prepared)
        )
        self.doors = Doors(reactor, self.factory, LmtpFactory(self.factory))
        folder = f"{prepared.spool_directory}/{number}"
        self.local = LocalSubmission(
            reactor, self.factory, prepared.spool_directory, folder, self.log
        )
        self._observer = PanicObserver(self.log)
        self._clock = ClockWatch(reactor, self._clock_was_set)
        self._retired: list[tuple[Any, Stages]] = []

    def start(self, listening: Mapping[Listener, Any]) -> None:
        """Accept connections, and deliver what the spool holds.

        :raises OSError: the control socket cannot be made.
        """
        poll_plainly(self.reactor)
        self._observer.start()
        self._clock.start()
        self.spools.start(self.number)
        self.doors.open(self.number, listening)
        if self.number == 0:
            self.local.start(self.stages.configuration.main)
        self.log.main(started(listening))
        for warning in self.stages.prepared.warnings:
            self.log.panic(warning)
        collector.keep()

    def _clock_was_set(self, by: float) -> None:
        self.log.main(f"the clock was set by {by:+.0f} seconds: timers move with it")

    def adopt(self, number: int, left: Callable[[int, str], None]) -> None:
        """Take over a spool that nobody has; see :meth:`Spools.adopt`."""
        self.spools.adopt(number, self.stages, left)

    def renew(self, configuration: Configuration, prepared: Prepared) -> None:
        """Obey another configuration from now on.

        :raises ConfigError, OSError: it cannot be; nothing has changed.
        """
        # The processes that have the old settings keep log, spool and folders where they are.
        settings = log_settings(configuration)
        stages = Stages(configuration, prepared, self._lasting)
        self.log.renew(settings)
        set_environment(configuration.main)
        self._retire()
        self.stages = stages
        self.spools.renew(stages)
        self.factory.tls_on_connect_ports = frozenset(_tls_ports(prepared))
        self.factory.parts = stages.parts(self.own.spool, self.own.queue)
        self.log.main(f"configuration read anew: pid={os.getpid()}")
        for warning in prepared.warnings:
            self.log.panic(warning)
        collector.keep()

    def _retire(self) -> None:
        """Close what the old stages keep open, as soon as nothing uses it."""
        stages = self.stages
        closing = Deferred.fromCoroutine(stages.delivering.close())
        closing.addErrback(lambda failure: self.log.panic("old connections", failure.value))
        self._retired.append((self.factory.parts, stages))
        if len(self._retired) == 1:
            self.reactor.callLater(RETIRED_CHECK, self._close_retired)

    def _close_retired(self) -> None:
        used = {id(connection.parts) for connection in self.factory.connections}
        kept = []
        for parts, stages in self._retired:
            if id(parts) in used:
                kept.append((parts, stages))
            else:
                stages.authentication.close()
        self._retired = kept
        if kept and not self.factory.draining:
            self.reactor.callLater(RETIRED_CHECK, self._close_retired)

    async def stop(self) -> None:
        """End gracefully: what is not finished in time is kept in the spool for the next start."""
        for step in self._last_steps():
            try:
                await step()
            except Exception as error:  # the others are done all the same
                self.log.panic("a step of the end failed", error)
        self.log.main(f"mailsrv {__version__} ended: pid={os.getpid()}")
        self._observer.stop()
        self._clock.stop()
        self.log.close()

    def _last_steps(self) -> Iterator[Callable[[], Awaitable[object]]]:
        """What is ended, in its order."""
        yield self.doors.close
        yield self.local.stop
        yield partial(self.factory.drain, GRACE)
        yield self.spools.stop_queues
        yield self.spools.stop_control
        yield self.stages.delivering.close
        for _, stages in self._retired:
            yield partial(maybeDeferred, stages.authentication.close)
        yield partial(maybeDeferred, self.stages.authentication.close)
        yield self.spools.close
        yield self.hints.close
        yield self.rates.close
        for pool in self.pools.values():
            yield partial(pool.stop, 1.0)


def _tls_ports(prepared: Prepared) -> set[int]:
    return {each.port for each in prepared.listening[0] if each.tls_on_connect}


def started(listening: Mapping[Listener, Any]) -> str:
    """Return the line that tells of the start."""
    places: dict[str, list[str]] = {}
    for listener in listening:
        protocol = ("LMTP" if listener.lmtp else "SMTP") + "S" * listener.tls_on_connect
        if listener.local:
            places[f"{protocol} on"] = [*places.get(f"{protocol} on", ()), listener.address]
        else:
            place = f"{protocol} on port {listener.port} of"
            places.setdefault(place, []).append(f"[{listener.address}]")
    where = " and for ".join(f"{what} {', '.join(those)}" for what, those in places.items())
    return f"mailsrv {__version__} daemon started: pid={os.getpid()}, listening for {where}"

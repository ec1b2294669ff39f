"""The spools of a server that does not run, for the length of one command.

Everything is as in the server but that nobody can connect: what a command
changes or delivers goes the same ways, under the same user.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import maybeDeferred

from mailsrv.config.model import Configuration
from mailsrv.connection.limits import ConnectionCounts
from mailsrv.logs.log import MailLog
from mailsrv.mail.msgid import MessageIds
from mailsrv.net.threads import Threads
from mailsrv.service.build import Lasting, Stages
from mailsrv.service.core import POOLS
from mailsrv.service.environment import log_settings, set_environment
from mailsrv.service.prepare import Prepared, prepare_without_ports
from mailsrv.service.privileges import drop
from mailsrv.service.requests import Answer, Requests
from mailsrv.service.spools import Spools
from mailsrv.spool.hints import SqliteHints
from mailsrv.spool.rates import MemoryRates

UMASK = 0o027


def ready(configuration: Configuration) -> Prepared:
    """Do what needs root, then drop it for good.

    :raises ConfigError, ConfigErrors, SpoolError, OSError: it cannot be done.
    """
    prepared = prepare_without_ports(configuration)
    os.umask(UMASK)
    if prepared.account is not None:
        drop(prepared.account)
    return prepared


class Offline:
    """One spool, with all that delivers from it; ``number`` is its folder's.

    Made on the reactor thread.

    :raises ConfigError, SpoolError, OSError: it cannot be used.
    """

    def __init__(
        self, configuration: Configuration, prepared: Prepared, reactor: Any, number: int
    ) -> None:
        set_environment(configuration.main)
        self._log = MailLog(log_settings(configuration), reactor)
        self._pools = {name: Threads(reactor, name, workers=most) for name, most in POOLS.items()}
        self._hints = SqliteHints(
            reactor,
            f"{prepared.spool_directory}/hints.sqlite3",
            self._pools["hints"],
            self._log.main,
            expire=configuration.main.retry_data_expire,
        )
        lasting = Lasting(
            reactor,
            self._log,
            self._pools,
            self._hints,
            MessageIds(reactor.seconds, number),
            ConnectionCounts(),
            MemoryRates(reactor),
        )
        self._stages = Stages(configuration, prepared, lasting)
        self._spools = Spools(reactor, prepared.spool_directory, self._log)
        self._open = self._spools.open(number, self._stages)

    async def answer(self, request: dict[str, Any]) -> AsyncIterator[Answer]:
        """Answer a request; deliveries that it asks for have ended when this has."""
        async for piece in Requests(self._open.spool, self._open.operator).answer(request):
            yield piece
        await self._open.queue.quiet()

    async def close(self) -> None:
        """End all of it."""
        await self._spools.stop_queues()
        await self._stages.delivering.close()
        await maybeDeferred(self._stages.authentication.close)
        await self._spools.close()
        await self._hints.close()
        for pool in self._pools.values():
            await pool.stop(1.0)
        self._log.close()

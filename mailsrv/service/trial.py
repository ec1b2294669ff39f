"""The stages of a configuration without a server, for a command that tries something out.

Nothing is kept: no spool is opened, no log written, retry times are not known.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import maybeDeferred

from mailsrv.config.model import Configuration
from mailsrv.connection.limits import ConnectionCounts
from mailsrv.interfaces import IMailLog
from mailsrv.mail.msgid import MessageIds
from mailsrv.net.threads import Threads
from mailsrv.net.tls import KeyStore
from mailsrv.service.build import Lasting, Stages
from mailsrv.service.core import POOLS
from mailsrv.service.environment import set_environment, spool_directory
from mailsrv.service.prepare import Prepared
from mailsrv.spool.memory import MemoryHints
from mailsrv.spool.rates import MemoryRates


class Trial:
    """Made on the reactor thread; ``stages`` are as in the server.

    :raises ConfigError, OSError: they cannot be had.
    """

    def __init__(self, configuration: Configuration, reactor: Any, log: IMailLog) -> None:
        set_environment(configuration.main)
        self._pools = {name: Threads(reactor, name, workers=most) for name, most in POOLS.items()}
        lasting = Lasting(
            reactor,
            log,
            self._pools,
            MemoryHints(),
            MessageIds(reactor.seconds, 0),
            ConnectionCounts(),
            MemoryRates(reactor),
        )
        prepared = Prepared([{}], KeyStore(), 0, None, spool_directory(configuration), "")
        self.stages = Stages(configuration, prepared, lasting)

    async def close(self) -> None:
        """End it."""
        await self.stages.delivering.close()
        await maybeDeferred(self.stages.authentication.close)
        for pool in self._pools.values():
            await pool.stop(1.0)

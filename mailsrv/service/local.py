"""Local submission as part of a serving process: its socket and the drop folder.

One process has them, the one whose spool has number 0; if it dies, programs use the
drop folder until it is back.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import Any

from mailsrv.config.main import MainOptions
from mailsrv.connection.factory import SmtpFactory
from mailsrv.connection.local.drop import DropReader, make_folder
from mailsrv.connection.local.frames import DROP
from mailsrv.connection.local.protocol import LocalFactory, bind
from mailsrv.interfaces import IMailLog
from mailsrv.service.environment import at_start

TAKEN = "taken"  # the folder, in that of the spool, of dropped files that are being read


class LocalSubmission:
    """What ``mailsrv-sendmail`` speaks to; ``folder`` is that of the process' spool."""

    def __init__(
        self, reactor: Any, factory: SmtpFactory, spool_directory: str, folder: str, log: IMailLog
    ) -> None:
        self._reactor = reactor
        self._factory = LocalFactory(factory)
        self._directory = spool_directory
        self._log = log
        drop = os.path.join(spool_directory, DROP)
        taken = os.path.join(folder, TAKEN)
        self._reader = DropReader(lambda: factory.parts, drop, taken)
        self._port: Any = None
        self._path = ""
        self._reading = False

    def start(self, main: MainOptions) -> None:
        """Listen, and look into the drop folder; what cannot be is told in the panic log."""
        try:
            self._open_directory()
            make_folder(os.path.join(self._directory, DROP))
            self._reader.start()
            self._reading = True
            services = self._factory.smtp.parts.services
            self._path = at_start(main.local_socket, services, "local_socket")
            self._listen(bind(self._path))
        except OSError as error:
            self._log.panic(f"no local submission: {error.filename or ''}: {error.strerror}")

    def _listen(self, bound: socket.socket) -> None:
        self._port = self._reactor.adoptStreamPort(bound.fileno(), socket.AF_UNIX, self._factory)
        bound.close()

    def _open_directory(self) -> None:
        """Let everybody pass through the spool directory, which nobody else can list."""
        mode = stat.S_IMODE(os.stat(self._directory).st_mode)
        if mode & 0o001 == 0:
            os.chmod(self._directory, mode | 0o001)

    async def stop(self) -> None:
        """End: what is being read is given up, or stored."""
        if self._port is not None:
            await self._port.stopListening()
            self._port = None
            if os.path.exists(self._path):
                os.unlink(self._path)
        await self._factory.drain()
        if self._reading:
            await self._reader.stop()

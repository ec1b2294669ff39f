"""This checkout, as ``twistd mailsrv`` starts it."""

from __future__ import annotations

import os
from pathlib import Path

from bench.peers import family
from tests.real.server import Server

WORKERS = len(os.sched_getaffinity(0))  # as many as it makes by default
_SERVES = "daemon started: pid="


class Mailsrv:
    """See :class:`bench.peers.Peer`."""

    name = "mailsrv"

    def __init__(
        self, sink_port: int, *, deliver: bool, aliases: Path | None = None, tls: bool = False
    ) -> None:
        macros = {"T_SINK": str(sink_port), **({} if deliver else {"T_QUEUE_ONLY": "yes"})}
        if aliases is not None:
            macros["T_ALIASES"] = str(aliases)
        if tls:
            macros["T_TLS"] = "yes"
        self._server = Server(Path(__file__).parent / "exim.conf", macros)

    def start(self) -> int:
        """See :meth:`Peer.start`."""
        served = self._server.log().count(_SERVES)
        self._server.start()
        # Its ports are open before its workers serve; the others are measured when they do, too.
        self._server.wait_for_log(_SERVES, timeout=60, count=served + WORKERS)
        return self._server.smtp_port

    def stop(self) -> None:
        """End it; its spool stays, for another :meth:`start`."""
        self._server.stop()

    def spools(self) -> list[Path]:
        """The databases of its workers."""
        return sorted((self._server.folder / "spool").glob("*/spool.sqlite3"))

    def processes(self) -> list[int]:
        """See :meth:`Peer.processes`."""
        return family(self._server.pid)

    def close(self) -> None:
        """See :meth:`Peer.close`."""
        self._server.close()

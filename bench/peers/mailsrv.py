"""This checkout, as ``twistd mailsrv`` starts it."""

from __future__ import annotations

from pathlib import Path

from bench.peers import family
from tests.real.server import Server


class Mailsrv:
    """See :class:`bench.peers.Peer`."""

    name = "mailsrv"

    def __init__(self, sink_port: int, *, deliver: bool, aliases: Path | None = None) -> None:
        macros = {"T_SINK": str(sink_port), **({} if deliver else {"T_QUEUE_ONLY": "yes"})}
        if aliases is not None:
            macros["T_ALIASES"] = str(aliases)
        self._server = Server(Path(__file__).parent / "exim.conf", macros)

    def start(self) -> int:
        """See :meth:`Peer.start`."""
        self._server.start()
        return self._server.smtp_port

    def processes(self) -> list[int]:
        """See :meth:`Peer.processes`."""
        return family(self._server.pid)

    def close(self) -> None:
        """See :meth:`Peer.close`."""
        self._server.close()

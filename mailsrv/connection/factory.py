"""Makes the connections of a server, and ends them when it stops."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.mail.smtp import SMTPFactory

from mailsrv.connection.parts import Parts
from mailsrv.connection.protocol import SmtpProtocol


class SmtpFactory(SMTPFactory):
    """One for all ports of a process; ``parts.clock`` is the reactor (or a ``task.Clock``).

    A new configuration is a new ``parts``: connections that exist keep theirs
    (each session holds the one it began with), new ones get the new one.
    """

    noisy = False
    protocol = SmtpProtocol  # type: ignore[assignment]  # Twisted's class says SMTP itself

    def __init__(self, parts: Parts, tls_on_connect_ports: Iterable[int] = ()) -> None:
        # Twisted's own __init__ only takes a portal, which is ours to ask.
        self.portal = None
        self.parts = parts
        self.clock = parts.clock
        self.tls_on_connect_ports = frozenset(tls_on_connect_ports)
        self.connections: set[SmtpProtocol] = set()
        self.draining = False
        self._empty: list[Deferred[None]] = []

    def buildProtocol(self, addr: Any) -> Any:
        """Make the protocol of a new connection; none while the server stops."""
        return self.build(SmtpProtocol)

    def build(self, kind: type[SmtpProtocol]) -> SmtpProtocol | None:
        """Make a protocol of a certain kind."""
        if self.draining:
            return None
        protocol = kind()
        protocol.factory = self
        return protocol

    def drain(self, grace: float = 30.0) -> Deferred[None]:
        """End all sessions: 421 to idle ones, messages under way are finished.

        What is left after ``grace`` seconds is closed at once.  The result fires
        when there is no connection any more.
        """
        self.draining = True
        for connection in list(self.connections):
            connection.drain()
        if not self.connections:
            return succeed(None)
        done: Deferred[None] = Deferred()
        timer = self.clock.callLater(grace, self._abort_all)

        def stop_timer(_: None) -> None:
            if timer.active():
                timer.cancel()

        done.addCallback(stop_timer)
        self._empty.append(done)
        return done

    def one_ended(self) -> None:
        """A connection was lost."""
        if not self.connections:
            waiting, self._empty = self._empty, []
            for deferred in waiting:
                deferred.callback(None)

    def _abort_all(self) -> None:
        for connection in list(self.connections):
            connection.abort()

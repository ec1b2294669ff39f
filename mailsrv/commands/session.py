"""``mailsrv -bh HOST`` and ``-bhc HOST``: an SMTP session as if from a host, on the terminal (5.2).

Nothing is stored or delivered; ``-bhc`` does callouts, ``-bh`` does not.
"""

from __future__ import annotations

import sys
from typing import Any

from mailsrv.commands.invocation import Invocation
from mailsrv.commands.quietlog import QuietLog
from mailsrv.commands.spools import Loop
from mailsrv.commands.terminal import say
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError
from mailsrv.mail.message import Message
from mailsrv.net.hosts import is_ip

_BEGIN = """
**** SMTP testing session as if from host {}
**** but without any ident (RFC 1413) callback.
**** This is not for real!
"""
_ACCEPTED = "\n**** SMTP testing: that is not a real message id!\n"


def run(invocation: Invocation, configuration: Configuration | None) -> int:
    """Hold the session; its commands are lines of the standard input."""
    assert configuration is not None, "the table says that a configuration is needed"
    address, port = _host(invocation.value)
    if not is_ip(address):
        say(f"mailsrv: -{invocation.action}: {invocation.value} is not an IP address", error=True)
        return 1
    from mailsrv.connection.factory import SmtpFactory
    from mailsrv.service.trial import Trial
    from mailsrv.spool.memory import MemorySpool

    loop = Loop()
    try:
        trial = Trial(configuration, loop.reactor, QuietLog())
    except (ConfigError, OSError) as error:
        say(f"mailsrv: {error}", error=True)
        loop.end()
        return 1
    if invocation.action == "bh":
        trial.stages.policy.callout = None
    terminal = _Terminal(address, port)
    queue: Any = _Nobody(terminal)
    factory = SmtpFactory(trial.stages.parts(MemorySpool(), queue))
    say(_BEGIN.format(invocation.value))
    try:
        _converse(factory.buildProtocol(None), terminal, loop)
    finally:
        loop.run(trial.close())
        loop.end()
    return 0


def _host(text: str) -> tuple[str, int]:
    """Divide ``192.0.2.1.1234`` or ``[…]:1234`` into address and port."""
    if is_ip(text):
        return text, 0
    if text.startswith("[") and "]:" in text:
        address, _, port = text[1:].partition("]:")
    else:
        address, _, port = text.rpartition(".")
    return address.removesuffix("]"), int(port) if port.isdigit() else 0


def _converse(protocol: Any, terminal: _Terminal, loop: Loop) -> None:
    """Give the protocol a line at a time, and time until it has answered."""
    protocol.makeConnection(terminal)
    while True:
        loop.run(_answered(protocol, loop.reactor))
        if terminal.closed:
            break
        line = sys.stdin.buffer.readline()
        if not line:
            break
        protocol.dataReceived(line.rstrip(b"\r\n") + b"\r\n")
    from twisted.internet.error import ConnectionDone
    from twisted.python.failure import Failure

    protocol.connectionLost(Failure(ConnectionDone()))


async def _answered(protocol: Any, clock: Any) -> None:
    from twisted.internet.task import deferLater

    while protocol.waiting:
        await deferLater(clock, 0.01, lambda: None)


class _Nobody:
    """Provides ``IQueue``: what is accepted goes nowhere."""

    def __init__(self, terminal: _Terminal) -> None:
        self._terminal = terminal

    def first_attempt(self, message: Message) -> float:
        """At once, if it were for real."""
        return message.received_at

    def submit(self, message: Message) -> None:
        """Say that it is not for real."""
        self._terminal.unreal = True


class _Terminal:
    """The transport of the session: replies go to the standard output."""

    def __init__(self, address: str, port: int) -> None:
        self._peer = (address, port)
        self.closed = False
        self.unreal = False  # a message was accepted, and its id is about to be told
        self.connected = True
        self.disconnecting = False

    def write(self, data: bytes) -> None:
        """Print a reply."""
        sys.stdout.write(data.decode("latin-1").replace("\r\n", "\n"))
        if self.unreal:
            say(_ACCEPTED)
            self.unreal = False
        sys.stdout.flush()

    def getPeer(self) -> Any:
        """Return the host that is played."""
        from twisted.internet.address import IPv4Address, IPv6Address

        kind = IPv6Address if ":" in self._peer[0] else IPv4Address
        return kind("TCP", *self._peer)

    def getHost(self) -> None:
        """Return our end: there is none."""

    def loseConnection(self) -> None:
        """End the session."""
        self.closed = True

    abortConnection = loseConnection

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Take note of nothing: the terminal is never full."""

    def unregisterProducer(self) -> None:
        """See :meth:`registerProducer`."""

    def pauseProducing(self) -> None:
        """Lines come only when they are asked for."""

    def resumeProducing(self) -> None:
        """See :meth:`pauseProducing`."""

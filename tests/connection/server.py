"""A server in memory: a factory with doubles, and a client that sends and reads octets."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from mailsrv.config.main import MainOptions
from mailsrv.connection.factory import SmtpFactory
from mailsrv.connection.parts import Parts
from mailsrv.errors import Position, TemporaryFailure
from mailsrv.expansion.scope import Services
from mailsrv.mail.message import InlineBody, Message
from tests.doubles.authentication import FakeAuthentication
from tests.doubles.log import RecordingLog
from tests.doubles.policy import FakePolicy


class Writer:
    def __init__(self, spool: Spool) -> None:
        self.spool, self.pieces = spool, []
        spool.open += 1
        self.live = True

    def write(self, piece: bytes) -> None:
        if self.spool.full:
            raise TemporaryFailure(self.spool.full, "disk full")
        self.pieces.append(piece)

    async def finish(self) -> InlineBody:
        self._over()
        return InlineBody(b"".join(self.pieces))

    def abort(self) -> None:
        self._over()

    def _over(self) -> None:
        if self.live:
            self.live = False
            self.spool.open -= 1


class Spool:
    """What reception needs of ``ISpool``; ``gate`` makes ``store`` wait."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.open = 0
        self.full = None
        self.gate: Deferred[None] | None = None

    def new_body(self) -> Writer:
        return Writer(self)

    async def store(self, message: Message, next_attempt: float) -> None:
        if self.gate is not None:
            await self.gate
        self.messages.append(message)


class Queue:
    def __init__(self) -> None:
        self.ids: list[str] = []

    def first_attempt(self, message: Message) -> float:
        return message.received_at

    def submit(self, message: Message) -> None:
        self.ids.append(message.id)


class Transport(StringTransportWithDisconnection):
    """``reading`` tells whether the protocol wants octets."""

    reading = True

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def registerProducer(self, producer: object, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None


class Server:
    """Settings are given by Exim's names; a text is compiled where the option is expanded."""

    def __init__(self, tls: object = None, **settings: object) -> None:
        self.clock, self.log, self.policy = Clock(), RecordingLog(), FakePolicy()
        self.clock.advance(1_000_000)
        self.auth, self.spool, self.queue = FakeAuthentication(), Spool(), Queue()
        values: dict[str, object] = {
            "primary_hostname": "mx.example.com",
            "qualify_domain": "example.com",
            "qualify_recipient": "example.com",
            "smtp_banner": "mx.example.com ESMTP",
            "received_header_text": "",
            "dsn_advertise_hosts": "*",
            "smtp_accept_max_nonmail": 1000,
            "smtp_max_synprot_errors": 100,
            "smtp_max_unknown_commands": 100,
            **settings,
        }
        options = MainOptions()
        for name, value in values.items():
            if isinstance(value, str):
                value = MainOptions.options()[name].type.parse(value, Position("test", 1))
            options.values[name] = value
        options.complete()
        services = Services(clock=self.clock, settings={}, lookup=lambda name: None)
        self.count = 0
        self.parts = Parts(
            self.clock, options, services, self.policy, self.auth,
            self.spool, self.queue, self.log, self.next_id, tls=tls,
        )  # fmt: skip
        self.factory = SmtpFactory(self.parts)

    def next_id(self) -> str:
        self.count += 1
        return f"1aaaaa-{self.count:06d}-00"

    def connect(self) -> Client:
        return Client(self)


class Client:
    def __init__(self, server: Server, address: str = "192.0.2.1", factory: Any = None) -> None:
        self.server = server
        self.transport = Transport()
        self.transport.peerAddr = IPv4Address("TCP", address, 4321)
        self.transport.hostAddr = IPv4Address("TCP", "192.0.2.9", 25)
        self.protocol = (factory or server.factory).buildProtocol(None)
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)

    def raw(self, octets: bytes) -> bytes:
        self.protocol.dataReceived(octets)
        return self.read()

    def read(self) -> bytes:
        octets = self.transport.value()
        self.transport.clear()
        return octets

    def say(self, line: str) -> str:
        """Send a line; return the reply with its lines joined by ``|``."""
        reply = self.raw(line.encode("latin-1") + b"\r\n").decode("latin-1")
        return reply.removesuffix("\r\n").replace("\r\n", "|")

    def envelope(self, to: str = "b@d.example") -> None:
        """Begin a message, up to and with its RCPT."""
        self.say("EHLO client.example")
        assert self.say("MAIL FROM:<a@c.example>") == "250 OK"
        assert self.say(f"RCPT TO:<{to}>") == "250 Accepted"

    @property
    def closed(self) -> bool:
        return not self.transport.connected

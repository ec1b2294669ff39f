"""A next hop in memory: an SMTP or LMTP server that answers as its script says, or misbehaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.address import IPv4Address

from mailsrv.transport.connection import HopFailure, HopProtocol, Target

HANG = "hang"  # says nothing at this point, and nothing afterwards
CLOSE = "close"  # closes the connection at this point

Answer = bytes | str | Callable[[str], "bytes | str"]


@dataclass
class Received:
    """A message as the next hop understood it."""

    sender: str = ""
    recipients: list[str] = field(default_factory=list)
    data: bytes = b""  # without the dots of transparency


class NextHop:
    """Provides ``IConnector``: every connection meets the same server.

    ``script`` replaces the answer at a point: greeting, hello, mail, rcpt,
    data, final, rset, quit, starttls, handshake, auth, challenge, chunk.  A
    value is the octets to send, ``HANG``, ``CLOSE``, or a function of the
    command (for final: of the recipient).
    """

    def __init__(
        self,
        *,
        lmtp: bool = False,
        extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SIZE 10000000"),
        **script: Answer,
    ) -> None:
        self.lmtp = lmtp
        self.extensions = extensions
        self.script: dict[str, Answer] = dict(script)
        self.connections: list[Peer] = []
        self.messages: list[Received] = []
        self.refuse: dict[str, HopFailure] = {}  # by address

    async def connect(self, target: Target, protocol: HopProtocol, timeout: float) -> None:
        if target.address in self.refuse:
            raise self.refuse[target.address]
        peer = Peer(self, protocol, target)
        self.connections.append(peer)
        protocol.makeConnection(peer)  # type: ignore[arg-type]
        peer.answer("greeting", b"220 hop.example ready\r\n")


class Handle:
    """A connection object of OpenSSL, after a handshake with a server without certificate."""

    def get_peer_certificate(self) -> None:
        return None

    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def get_cipher_name(self) -> str:
        return "TLS_AES_256_GCM_SHA384"

    def get_cipher_bits(self) -> int:
        return 256


class Peer:
    """One connection, seen as the transport by the client."""

    def __init__(self, hop: NextHop, protocol: HopProtocol, target: Target) -> None:
        self.hop = hop
        self.protocol = protocol
        self.target = target
        self.commands: list[str] = []
        self.writes: list[bytes] = []
        self.raw = b""
        self.open = True
        self.aborted = False
        self.hanging = False
        self.secured = False
        self._in_data = False
        self._in_auth = False
        self._chunk = -1  # octets of a BDAT chunk that are still to come
        self._last = False
        self._buffer = b""
        self._message = Received()

    # --- the transport's side ---

    def write(self, data: bytes) -> None:
        if not self.open or not data:
            return
        self.raw += data
        self.writes.append(data)
        self._buffer += data
        self._read()

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.99", 40000)

    def loseConnection(self) -> None:
        self.lose()

    def abortConnection(self) -> None:
        self.aborted = True
        self.lose()

    def startTLS(self, start: object) -> None:
        """Begin TLS: nothing is encrypted here; ``handshake`` in the script makes it fail."""
        chosen = self.hop.script.get("handshake", b"")
        self.secured = chosen == b""
        if chosen == CLOSE:
            self.lose()
        elif chosen == b"":
            self.protocol.handshakeCompleted()

    def getHandle(self) -> Handle:
        return Handle()

    def lose(self) -> None:
        """End the connection, from either side."""
        if self.open:
            self.open = False
            self.protocol.connectionLost()

    def registerProducer(self, producer: object, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...

    def say(self, data: bytes) -> None:
        """Send octets that nobody asked for."""
        self.protocol.dataReceived(data)

    # --- the server's side ---

    def answer(self, point: str, normal: bytes, argument: str = "") -> None:
        chosen = self.hop.script.get(point, normal)
        if callable(chosen):
            chosen = chosen(argument)
        if self.hanging or not self.open:
            return
        if chosen == HANG:
            self.hanging = True
        elif chosen == CLOSE:
            self.lose()
        else:
            assert isinstance(chosen, bytes)
            if point == "rcpt" and chosen.startswith(b"2"):
                self._message.recipients.append(argument)
            if point == "data":
                self._in_data = chosen.startswith(b"354")
            self.protocol.dataReceived(chosen)

    def _read(self) -> None:
        while self.open and not self.hanging:
            if self._in_data:
                end = (b"\r\n" + self._buffer).find(b"\r\n.\r\n")
                if end < 0:
                    return
                body, self._buffer = self._buffer[:end], self._buffer[end + 3 :]
                self._in_data = False
                self._final(body)
                continue
            if self._chunk >= 0:
                if len(self._buffer) < self._chunk:
                    return
                self._message.data += self._buffer[: self._chunk]
                self._buffer, self._chunk = self._buffer[self._chunk :], -1
                if self._last:
                    message, self._message = self._message, Received()
                    self.hop.messages.append(message)
                self.answer("final" if self._last else "chunk", b"250 OK id=1\r\n")
                continue
            line, newline, rest = self._buffer.partition(b"\r\n")
            if not newline:
                return
            self._buffer = rest
            self._command(line.decode("latin-1"))

    def _final(self, body: bytes) -> None:
        self._message.data = (b"\r\n" + body).replace(b"\r\n..", b"\r\n.")[2:]
        message, self._message = self._message, Received()
        self.hop.messages.append(message)
        if self.hop.lmtp:
            for recipient in message.recipients:
                self.answer(
                    "final", b"250 2.0.0 <" + recipient.encode() + b"> Saved\r\n", recipient
                )
        else:
            self.answer("final", b"250 OK id=1\r\n")

    def _command(self, line: str) -> None:
        self.commands.append(line)
        if self._in_auth:
            self._in_auth = False
            self.answer("auth", b"235 welcome\r\n", line)
            return
        verb = line[:4].upper()
        argument = line.partition("<")[2].partition(">")[0]
        if verb in ("EHLO", "LHLO", "HELO"):
            words = ("hop.example", *self.hop.extensions)
            marks = ["-"] * (len(words) - 1) + [" "]
            text = "".join(f"250{m}{w}\r\n" for m, w in zip(marks, words, strict=True))
            self.answer("hello", text.encode(), line)
        elif verb == "MAIL":
            self._message = Received(sender=argument)
            self.answer("mail", b"250 OK\r\n", argument)
        elif verb == "RCPT":
            self.answer("rcpt", b"250 Accepted\r\n", argument)
        elif verb == "DATA":
            if self._message.recipients:
                self.answer("data", b"354 go\r\n")
            else:
                self.answer("norcpt", b"503 no recipients\r\n")
        elif verb == "BDAT":
            words = line.split()
            self._chunk, self._last = int(words[1]), words[-1] == "LAST"
        elif verb == "STAR":
            self.answer("starttls", b"220 go ahead\r\n")
        elif verb == "AUTH":
            self._in_auth = len(line.split()) == 2
            if self._in_auth:
                self.answer("challenge", b"334 VXNlcm5hbWU6\r\n", line)
            else:
                self.answer("auth", b"235 welcome\r\n", line)
        elif verb == "RSET":
            self.answer("rset", b"250 reset\r\n")
        elif verb == "QUIT":
            self.answer("quit", b"221 bye\r\n")
        else:
            self.answer("other", b"500 what?\r\n")

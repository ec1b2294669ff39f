"""A load generator: clients that send messages one after the other and time each answer."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

PATIENCE = 90.0
LINE = b"x" * 70 + b"\r\n"
Begin = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter, bool]]]
_ANYBODY = ssl.create_default_context()
_ANYBODY.check_hostname, _ANYBODY.verify_mode = False, ssl.CERT_NONE


@dataclass
class Load:
    """``clients`` send ``each`` messages of some ``size`` octets; ``kept``: on one connection each.

    ``latencies`` are the seconds of each session from connecting (of a kept one, from MAIL)
    to the answer to the end of data.  Commands are pipelined where the server offers it.
    """

    port: int
    clients: int = 20
    each: int = 100
    size: int = 4096
    kept: bool = True
    recipients: int = 1
    latencies: list[float] = field(default_factory=list)

    def run(self) -> float:
        """Send all, and return messages a second.

        :raises RuntimeError: an answer was not the expected one.
        :raises TimeoutError: the server did not answer all in ``PATIENCE`` seconds.
        """
        return asyncio.run(asyncio.wait_for(self._run(), PATIENCE))

    async def _run(self) -> float:
        begun = time.monotonic()
        await asyncio.gather(*(self._client() for _ in range(self.clients)))
        return self.clients * self.each / (time.monotonic() - begun)

    async def _client(self) -> None:
        if self.kept:
            await self._session(self.each)
        else:
            for _ in range(self.each):
                await self._session(1)

    async def _session(self, messages: int) -> None:
        begun = time.monotonic()
        reader, writer, pipelining = await greet(self.port)
        try:
            text = b"Subject: bench\r\n\r\n" + LINE * (self.size // len(LINE)) + b".\r\n"
            for _ in range(messages):
                if self.kept:
                    begun = time.monotonic()
                await _envelope(reader, writer, self.recipients, pipelining=pipelining)
                writer.write(text)
                await writer.drain()
                await expect(reader, b"250")
                self.latencies.append(time.monotonic() - begun)
            writer.write(b"QUIT\r\n")
            await expect(reader, b"221")
        finally:
            writer.close()


async def greet(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bool]:
    """Connect and say EHLO; the last of the result tells whether PIPELINING is offered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await expect(reader, b"220")
        writer.write(b"EHLO client.example\r\n")
        offered = await expect(reader, b"250")
    except BaseException:
        writer.close()
        raise
    return reader, writer, b"PIPELINING" in offered


async def _envelope(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    recipients: int,
    *,
    pipelining: bool,
) -> None:
    more = [b"RCPT TO:<r%d@x.example>\r\n" % n for n in range(1, recipients)]
    commands = [b"MAIL FROM:<s@x.example>\r\n", b"RCPT TO:<r@x.example>\r\n", *more, b"DATA\r\n"]
    codes = [b"250"] * (recipients + 1) + [b"354"]
    if pipelining:
        writer.write(b"".join(commands))
        for code in codes:
            await expect(reader, code)
    else:
        for command, code in zip(commands, codes, strict=True):
            writer.write(command)
            await expect(reader, code)


async def expect(reader: asyncio.StreamReader, code: bytes) -> bytes:
    """Read a reply and return it.  :raises RuntimeError: it is another than expected."""
    reply = b""
    while True:
        line = await reader.readline()
        reply += line
        if not line.startswith(code):
            raise RuntimeError(f"{code.decode()} expected, not {line!r}")
        if line[3:4] != b"-":
            return reply


async def secured(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bool]:
    """Connect, and say EHLO again after STARTTLS; whose certificate it is does not matter."""
    reader, writer, _ = await greet(port)
    writer.write(b"STARTTLS\r\n")
    await expect(reader, b"220")
    await writer.start_tls(_ANYBODY, server_hostname="bench.example")
    writer.write(b"EHLO client.example\r\n")
    offered = await expect(reader, b"250")
    return reader, writer, b"PIPELINING" in offered


async def idle(port: int, count: int, begin: Begin = greet) -> list[asyncio.StreamWriter]:
    """Open ``count`` sessions that have said EHLO, some at a time."""
    writers: list[asyncio.StreamWriter] = []
    while len(writers) < count:
        some = min(50, count - len(writers))
        writers += [w for _, w, _ in await asyncio.gather(*(begin(port) for _ in range(some)))]
    return writers

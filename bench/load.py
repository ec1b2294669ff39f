"""A load generator: clients that send messages one after the other and time each answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field


@dataclass
class Load:
    """``clients`` send ``each`` messages of some ``size`` octets; ``kept``: on one connection each.

    ``latencies`` are the seconds from MAIL to the answer to the end of data.
    """

    port: int
    clients: int = 20
    each: int = 100
    size: int = 4096
    kept: bool = True
    latencies: list[float] = field(default_factory=list)

    def run(self) -> float:
        """Send all, and return messages a second.

        :raises RuntimeError: an answer was not the expected one.
        """
        return asyncio.run(self._run())

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
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            await _expect(reader, b"220")
            writer.write(b"EHLO client.example\r\n")
            await _expect(reader, b"250")
            line = b"x" * 70 + b"\r\n"
            text = b"Subject: bench\r\n\r\n" + line * (self.size // len(line)) + b".\r\n"
            for _ in range(messages):
                begun = time.monotonic()
                writer.write(b"MAIL FROM:<s@x.example>\r\nRCPT TO:<r@x.example>\r\nDATA\r\n")
                for code in (b"250", b"250", b"354"):
                    await _expect(reader, code)
                writer.write(text)
                await _expect(reader, b"250")
                self.latencies.append(time.monotonic() - begun)
            writer.write(b"QUIT\r\n")
            await _expect(reader, b"221")
        finally:
            writer.close()


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    while True:
        line = await reader.readline()
        if not line.startswith(code):
            raise RuntimeError(f"{code.decode()} expected, not {line!r}")
        if line[3:4] != b"-":
            return

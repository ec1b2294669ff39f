"""Next hops that fail: one port, and for each loopback address a phase and a kind of failure."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tests.real import machine

MARK = re.compile(rb"^X-Mark: (\S+)", re.MULTILINE)
PHASES = (
    "greeting", "ehlo", "starttls", "handshake", "auth", "mail", "rcpt", "data", "body", "final",
    "quit",
)  # fmt: skip
KINDS: Mapping[str, bytes] = {
    "timeout": b"", "close": b"", "4xx": b"450 later\r\n", "5xx": b"550 never\r\n",
    "garbage": b"\xff\xfeHTTP/1.1 200 OK\r\n", "endless line": b"2" * 100_000,
    "continuation": b"250-x\r\n" * 100_000, "nul": b"250 a\0b\r\n", "999": b"999 x\r\n",
    "early": b"250 more than was asked\r\n", "drip": b"220-",
}  # fmt: skip
GOOD = "127.0.99.1"


@dataclass(frozen=True, slots=True)
class Cell:
    """A failure; at ``address``."""

    phase: str
    kind: str
    address: str


SERVED = tuple(
    Cell(phase, kind, f"127.0.{row + 1}.{column + 1}")
    for row, phase in enumerate(PHASES)
    for column, kind in enumerate(KINDS)
)
CELLS = (*SERVED, Cell("connect", "refused", "127.0.98.1"))


class BadHops:
    """Serves all cells and one good host; ``taken`` counts (address, mark) that were acknowledged.

    ``reported`` counts the recipients of messages that reached the good host.
    """

    def __init__(self) -> None:
        self.port = machine.free_port()
        self.taken: Counter[tuple[str, str]] = Counter()
        self.reported: Counter[str] = Counter()
        self._cells = {cell.address: cell for cell in SERVED}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait(10)

    def close(self) -> None:
        """End all connections."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        addresses = [GOOD, *self._cells]
        self._loop.run_until_complete(asyncio.start_server(self._serve, addresses, self.port))
        self._ready.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = writer.get_extra_info("sockname")[0]
        with contextlib.suppress(
            ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError
        ):
            await _Session(self, self._cells.get(address), address, reader, writer).converse()
        writer.close()


class _Session:
    def __init__(
        self, hops: BadHops, cell: Cell | None, address: str,
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        self._hops, self._cell, self._address = hops, cell, address
        self._reader, self._writer = reader, writer

    async def at(self, phase: str, normal: bytes) -> bytes:
        """Answer at a phase as the cell says; return what was said."""
        cell = self._cell
        if cell is None or cell.phase != phase:
            self._writer.write(normal)
            return normal
        if cell.kind == "close":
            raise ConnectionError
        said = (normal if cell.kind == "early" else b"") + KINDS[cell.kind]
        self._writer.write(said)
        await self._writer.drain()
        if cell.kind in ("timeout", "endless line"):
            await asyncio.sleep(3600)
        while cell.kind == "drip":
            await asyncio.sleep(0.2)
            self._writer.write(b"x")
            await self._writer.drain()
        return said

    async def converse(self) -> None:
        await self.at("greeting", b"220 hop\r\n")
        recipients: list[str] = []
        offers = b"250-hop\r\n250-PIPELINING\r\n"
        phase = self._cell.phase if self._cell else ""
        offers += b"250-STARTTLS\r\n" if phase in ("starttls", "handshake") else b""
        offers += b"250-AUTH PLAIN\r\n" if phase == "auth" else b""
        while line := await self._reader.readline():
            verb, argument = line[:4].upper(), line.partition(b"<")[2].partition(b">")[0].decode()
            if verb in (b"EHLO", b"HELO"):
                await self.at("ehlo", offers + b"250 8BITMIME\r\n")
            elif verb == b"STAR":
                if (await self.at("starttls", b"220 go on\r\n")).startswith(b"220"):
                    await self._reader.read(1)
                    await self.at("handshake", b"")
                    return
            elif verb == b"AUTH":
                await self.at("auth", b"235 welcome\r\n")
            elif verb == b"MAIL":
                await self.at("mail", b"250 ok\r\n")
            elif verb == b"RCPT":
                if (await self.at("rcpt", b"250 ok\r\n")).startswith(b"250 ok"):
                    recipients.append(argument)
            elif verb == b"DATA":
                if not recipients:
                    self._writer.write(b"503 nobody\r\n")
                elif (await self.at("data", b"354 go on\r\n")).startswith(b"354"):
                    await self._take(recipients)
                recipients = []
            elif verb == b"QUIT":
                await self.at("quit", b"221 bye\r\n")
                return
            else:
                recipients = []
                self._writer.write(b"250 ok\r\n")

    async def _take(self, recipients: list[str]) -> None:
        heard = True  # not if the client takes what stands before it for the final reply
        if self._cell is not None and self._cell.phase == "body":
            heard = await self.at("body", b"") in (b"", KINDS["early"])
        message = await self._reader.readuntil(b"\r\n.\r\n")
        found = MARK.search(message.partition(b"\r\n\r\n")[0])
        if self._address == GOOD and found is None:
            self._hops.reported.update(recipients)
        said = await self.at("final", b"250 taken\r\n")
        if heard and said.startswith(b"250 taken") and found:
            self._hops.taken[self._address, found[1].decode()] += 1

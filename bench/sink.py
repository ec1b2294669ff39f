"""An LMTP server that takes everything at once and keeps nothing: ``python -m bench.sink PORT``.

A process of its own, so that it does not share the load generator's interpreter.
"""

from __future__ import annotations

import asyncio
import sys

END = b"\r\n.\r\n"
HELLO = b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n"


class Sink(asyncio.Protocol):
    """One connection; ``XCNT`` asks how many messages came in all."""

    taken = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.input = b""
        self.recipients = 0
        self.in_data = False
        transport.write(b"220 sink LMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self.input += data
        while True:
            line, found, rest = self.input.partition(END if self.in_data else b"\r\n")
            if not found:
                return
            self.input = rest
            self.transport.write(self.answer(line))

    def answer(self, line: bytes) -> bytes:
        """Return the answer to a command, or to a message's end."""
        if self.in_data:
            self.in_data = False
            taken, self.recipients = self.recipients, 0
            Sink.taken += taken
            return b"250 2.0.0 ok\r\n" * taken
        verb = line[:4].upper()
        if verb == b"LHLO":
            return HELLO
        if verb == b"RCPT":
            self.recipients += 1
        if verb == b"XCNT":
            return b"250 %d\r\n" % Sink.taken
        if verb == b"DATA":
            self.in_data = True
            return b"354 go on\r\n"
        if verb == b"QUIT":
            asyncio.get_running_loop().call_soon(self.transport.close)
        return b"250 2.0.0 ok\r\n"


async def serve(port: int) -> None:
    """Serve until the process ends."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port, backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))

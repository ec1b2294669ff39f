"""``transport_filter``: a command through which a message goes when it is delivered (chapter 24).

The message lies in a file that is the command's standard input; what it writes goes
to another one, which becomes the message.  Nothing waits on a pipe.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import IO

from mailsrv.errors import TemporaryFailure
from mailsrv.mail.message import Body, InlineBody
from mailsrv.net.threads import IThreads
from mailsrv.transport.commandline import arguments_of, untainted
from mailsrv.transport.headers import Content
from mailsrv.transport.transport import Batch, Transport
from mailsrv.wire.outgoing import LineEnds

INLINE = 1 << 18  # octets of a message that is kept in memory
PIECE = 1 << 16


async def run_filter(
    transport: Transport, batch: Batch, content: Content, values: Mapping[str, str]
) -> Content:
    """Return what the transport's filter makes of a message; ``values`` are further variables.

    :raises TemporaryFailure: it fails, takes too long, or may not be run.
    """
    assert transport.transport_filter is not None
    addresses = [address.address for address in batch.addresses]
    scope = batch.scope(values)
    found = await arguments_of(transport.transport_filter.source, scope, addresses)
    if not found or not found[0]:
        return content
    arguments = untainted(found, transport.name)
    if not arguments[0].startswith("/"):
        raise TemporaryFailure(reason=f"transport_filter: {arguments[0]} is no absolute path")
    if batch.run_as is not None:
        raise TemporaryFailure(reason="transport_filter cannot be run as another user")
    threads = batch.facilities.commands
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as made:
        async for piece in content.chunks():
            await threads.run(given.write, piece.replace(b"\r\n", b"\n"))
        await threads.run(_run, arguments, given, made, float(transport.transport_filter_timeout))
        return Content(b"", await threads.run(_collect, made, threads))


def _run(arguments: Sequence[str], given: IO[bytes], made: IO[bytes], timeout: float) -> None:
    """Run the command to its end; in a thread.

    :raises TemporaryFailure: it fails, or does not end in time (seconds).
    """
    given.flush()
    given.seek(0)
    try:
        process = subprocess.Popen(
            [argument.encode("latin-1") for argument in arguments],
            stdin=given, stdout=made, stderr=subprocess.STDOUT, cwd="/", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        reason = f"transport filter {arguments[0]} cannot be run: {error.strerror}"
        raise TemporaryFailure(reason=reason) from error
    try:
        status = process.wait(timeout or None)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise TemporaryFailure(reason="transport filter timed out") from None
    if status:
        raise TemporaryFailure(reason=f"transport filter process failed ({status})")


def _collect(made: IO[bytes], threads: IThreads) -> Body:
    """Return what the command wrote, with line ends of the wire; in a thread."""
    ends = LineEnds()
    made.seek(0)
    whole = tempfile.SpooledTemporaryFile(max_size=INLINE)  # noqa: SIM115 - the body keeps it
    size = lines = 0
    last = b"\n"
    while piece := made.read(PIECE):
        piece = ends.feed(piece)
        whole.write(piece)
        size, lines, last = size + len(piece), lines + piece.count(b"\n"), piece[-1:] or last
    rest = ends.end() or (b"" if last == b"\n" else b"\r\n")
    whole.write(rest)
    size, lines = size + len(rest), lines + rest.count(b"\n")
    whole.seek(0)
    if size <= INLINE:
        return InlineBody(whole.read())
    return _FileBody(whole, size, lines, threads)


class _FileBody:
    """A body in a temporary file; see :class:`Body`."""

    inline = None

    def __init__(self, file: IO[bytes], size: int, lines: int, threads: IThreads) -> None:
        self._file = file
        self.size = size
        self.lines = lines
        self._threads = threads

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give it in pieces, from the start each time."""
        place = 0
        while place < self.size:
            piece = await self._threads.run(self._read, place)
            place += len(piece)
            yield piece

    def _read(self, place: int) -> bytes:
        self._file.seek(place)
        return self._file.read(PIECE)

"""Running a command that reads a message on its standard input (specification 29.3).

Blocks; used in a thread of a serving process, and as another user by the
privileged process.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from mailsrv.errors import TemporaryFailure

NOT_EXECUTED = 127
MOST_KEPT = 64 * 1024  # octets of output that are kept


@dataclass(frozen=True, slots=True)
class Command:
    """What is run: ``arguments[0]`` is sought in ``path`` if it has no slash.

    ``directory`` is where, ``timeout`` 0 is none, ``max_output`` the octets of
    output at which the process is killed.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    path: str = "/bin:/usr/bin"
    directory: str = "/"
    umask: int = 0o022
    timeout: float = 0.0
    max_output: int = 20 * 1024

    @property
    def program(self) -> str:
        """The path of the program, or its name."""
        return self.arguments[0] if self.arguments else ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: ``status`` as of a shell, or the ``signal`` that killed it."""

    status: int = 0
    signal: int = 0
    timed_out: bool = False
    not_executed: bool = False
    output: str = ""


def found_in(name: str, path: str) -> str:
    """Return the path of a program; "" if there is none of that name."""
    if "/" in name:
        return name
    for folder in path.split(":"):
        whole = f"{folder}/{name}"
        if folder.startswith("/") and os.access(whole.encode("latin-1"), os.X_OK):
            return whole
    return ""


class CommandWriter:
    """A message on its way to a command; as the writers of mailboxes.

    :raises TemporaryFailure: no process is to be had.
    """

    def __init__(self, command: Command) -> None:
        self._command = command
        self._deadline = time.monotonic() + command.timeout if command.timeout else None
        self._output: list[bytes] = []
        self._size = 0
        self._timed_out = False
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                [argument.encode("latin-1") for argument in command.arguments],
                executable=(found_in(command.program, command.path) or command.program).encode(
                    "latin-1"
                ),
                env={
                    name.encode("latin-1"): value.encode("latin-1")
                    for name, value in command.environment.items()
                },
                cwd=command.directory.encode("latin-1"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                umask=command.umask,
                start_new_session=True,
            )
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
                raise TemporaryFailure(
                    reason=f"cannot start {command.program}: {error.strerror}"
                ) from error
            if not _is_directory(command.directory):
                raise TemporaryFailure(
                    reason=f"failed to chdir to {command.directory}: {error.strerror}"
                ) from error
        else:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            os.set_blocking(self._process.stdin.fileno(), False)
            os.set_blocking(self._process.stdout.fileno(), False)

    def write(self, piece: bytes) -> None:
        """Give the command the next octets; what it does not read is thrown away."""
        process = self._process
        if process is None or process.stdin is None or process.stdin.closed:
            return
        view = memoryview(piece)
        while view and not process.stdin.closed:
            if not self._wait(writing=True):
                return
            if process.poll() is not None:
                process.stdin.close()
                return
            try:
                view = view[os.write(process.stdin.fileno(), view[:65536]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:  # it is not interested, which may well be a success
                process.stdin.close()

    def finish(self) -> Ended:
        """Wait for the command's end."""
        process = self._process
        if process is None:
            return Ended(NOT_EXECUTED, not_executed=True)
        assert process.stdin is not None
        process.stdin.close()
        while self._wait(writing=False):
            if process.poll() is not None and not self._more(process):
                break  # what it has left running may hold its output open
        if not self._timed_out:
            self._reap(process)
        if self._timed_out:
            self.abort()
        status = process.wait()
        output = b"".join(self._output)[: min(self._command.max_output, MOST_KEPT)]
        return Ended(
            max(status, 0), max(-status, 0), self._timed_out, output=output.decode("latin-1")
        )

    def _more(self, process: subprocess.Popen[bytes]) -> bool:
        """Tell whether a process that has ended left output to be read."""
        assert process.stdout is not None
        return not process.stdout.closed and bool(select.select([process.stdout], [], [], 0)[0])

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the process has ended, which may be after its output."""
        try:
            left = None if self._deadline is None else max(self._deadline - time.monotonic(), 0.001)
            process.wait(left)
        except subprocess.TimeoutExpired:
            self._timed_out = True

    def _wait(self, *, writing: bool) -> bool:
        """Wait until the command reads (or ends); take its output meanwhile.  False: it is over."""
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        if process.stdout.closed:
            return writing and not self._expired()
        if self._expired():
            return False
        poll = select.poll()
        poll.register(process.stdout.fileno(), select.POLLIN)
        if writing:
            poll.register(process.stdin.fileno(), select.POLLOUT)
        left = 1.0 if self._deadline is None else min(self._deadline - time.monotonic(), 1.0)
        ready = dict(poll.poll(max(left, 0.0) * 1000))
        if process.stdout.fileno() in ready:
            self._read(process)
        return True

    def _expired(self) -> bool:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._timed_out = True
        return self._timed_out

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        try:
            piece = os.read(process.stdout.fileno(), 65536)
        except BlockingIOError:
            return
        if not piece:
            process.stdout.close()
            return
        if self._size < MOST_KEPT:
            self._output.append(piece)
        self._size += len(piece)
        if self._size > self._command.max_output:
            self._kill(process)
            process.stdout.close()

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)

    def abort(self) -> None:
        """Kill the command with all that it has started; harmless when it has ended."""
        process = self._process
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None and not stream.closed:
                with suppress(OSError):
                    stream.close()
        if process.returncode is None:
            self._kill(process)
            process.wait()


def _is_directory(path: str) -> bool:
    try:
        return os.path.isdir(path.encode("latin-1"))
    except ValueError:
        return False

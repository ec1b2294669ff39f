"""A worker: one serving process of several, started by the supervisor.

It gets everything through the channel of :mod:`mailsrv.service.handover`: the
configuration's text, keys, sockets.  It imports what it may need, drops root
for good, and serves.  When the supervisor is gone, it ends as if it was told
to: gracefully.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from mailsrv.connection.counts import SharedCounts
from mailsrv.errors import ConfigError, ConfigErrors
from mailsrv.net.listen import Listener
from mailsrv.service.core import Core
from mailsrv.service.handover import TEXT, Channel, Message
from mailsrv.service.preload import preload
from mailsrv.service.prepare import Prepared, Sockets
from mailsrv.service.privileges import UMASK, drop
from mailsrv.service.source import Snapshot, reasons
from mailsrv.spool.files import FolderLock, SpoolError, make_folder

CONTROL = 3
LOCK_PATIENCE = 60.0  # seconds that the spool's worker before may take to end
LOCK_CHECK = 0.1


class Worker:
    """One worker's life; ``end`` is the descriptor of its side of the channel."""

    def __init__(self, number: int, end: socket.socket, reactor: Any) -> None:
        self._number = number
        self._reactor = reactor
        self._core: Core | None = None
        self._waiting: tuple[Snapshot, Prepared, SharedCounts] | None = None
        self._until = 0.0
        self._ending = False
        self._channel = Channel(reactor, end, self._received, self.end)

    # --- messages ---

    def _received(self, message: Message, files: list[int]) -> None:
        kind = message["kind"]
        if kind == "begin":
            self._or_die(lambda: self._begin(message, files))
        elif kind == "stop":
            self.end()
        elif self._core is not None and not self._ending:
            try:
                self._obey(self._core, kind, message, files)
            except Exception as error:  # what could not be obeyed costs nothing else
                self._core.log.panic(f"the supervisor's {kind} failed", error)

    def _obey(self, core: Core, kind: str, message: Message, files: list[int]) -> None:
        if kind == "ask":
            self._channel.send("lives")
        elif kind == "configure":
            self._renew(core, message, files)
        elif kind == "listen":
            sockets = _sockets(message, files)
            core.doors.open(message["owner"], sockets)
            _close(sockets)
        elif kind == "leave":
            core.doors.close(message["owner"])
        elif kind == "adopt":
            core.adopt(message["spool"], self._left)
        elif kind == "give":
            core.spools.give_back(message["spool"], self._left)
        elif kind == "reopen":
            core.log.reopen()
        elif kind == "log":
            write = core.log.panic if message["stream"] == "panic" else core.log.main
            write(message["text"])

    def _left(self, spool: int, problem: str) -> None:
        self._channel.send("left", spool=spool, problem=problem[:TEXT])

    # --- start ---

    def _begin(self, message: Message, files: list[int]) -> None:
        snapshot, prepared, rest = _prepared(message, files)
        self._waiting = snapshot, prepared, SharedCounts(rest, self._number)
        preload()
        if snapshot.account is not None:
            drop(snapshot.account)
        self._until = time.monotonic() + LOCK_PATIENCE
        self._begin_when_free()

    def _begin_when_free(self) -> None:
        """Serve as soon as the worker that had this spool before has ended."""
        assert self._waiting is not None
        if self._ending:
            return
        snapshot, prepared, counts = self._waiting
        if time.monotonic() < self._until and not _is_free(snapshot.spool_directory, self._number):
            self._reactor.callLater(LOCK_CHECK, self._or_die, self._begin_when_free)
            return
        core = Core(snapshot.read(), prepared, self._reactor, number=self._number, counts=counts)
        core.start(prepared.listening[0])
        _close(prepared.listening[0])
        self._core, self._waiting = core, None
        self._channel.send("ready")

    def _or_die(self, step: Any) -> None:
        """Do a step of the start; what is wrong is told to the supervisor."""
        try:
            step()
        except (ConfigError, ConfigErrors, SpoolError, OSError) as error:
            self._die("; ".join(reasons(error)))
        except Exception as error:
            self._die(f"{type(error).__name__}: {error}")

    def _die(self, why: str) -> None:
        self._channel.send("failed", text=why[:TEXT])
        os._exit(1)

    # --- another configuration ---

    def _renew(self, core: Core, message: Message, files: list[int]) -> None:
        try:
            snapshot, prepared, rest = _prepared(message, files)
            os.close(rest)
            core.renew(snapshot.read(), prepared)
            core.doors.open(self._number, prepared.listening[0])
            _close(prepared.listening[0])
        except (ConfigError, ConfigErrors, OSError) as error:
            for reason in reasons(error):
                core.log.panic(f"the configuration is not used: {reason}")

    # --- end ---

    def end(self) -> None:
        """End gracefully, and then the process."""
        if self._ending:
            return
        self._ending = True
        if self._core is None:
            os._exit(0)
        done = Deferred.fromCoroutine(self._core.stop())
        done.addBoth(lambda _: self._reactor.stop())


def _prepared(message: Message, files: Sequence[int]) -> tuple[Snapshot, Prepared, int]:
    """Return what a message hands over; the files are kept by new descriptors."""
    privileged = 2 + message["privileged"]
    snapshot = Snapshot.unpack(files[0])
    return (
        snapshot,
        Prepared(
            [_sockets(message, files[privileged:])],
            snapshot.store(),
            snapshot.file_limit * snapshot.workers,  # the limit of connections is the server's
            snapshot.account,
            snapshot.spool_directory,
            snapshot.log_file_path,
            privileged=[socket.socket(fileno=os.dup(each)) for each in files[2:privileged]],
        ),
        os.dup(files[1]),
    )


def _sockets(message: Message, files: Sequence[int]) -> Sockets:
    return {
        Listener(*listener): socket.socket(fileno=os.dup(each))
        for listener, each in zip(message["listeners"], files, strict=True)
    }


def _close(sockets: Sockets) -> None:
    for each in sockets.values():
        each.close()


def _is_free(spool_directory: str, number: int) -> bool:
    """Tell whether no process has a spool.

    :raises SpoolError: it cannot be used at all.
    """
    folder = Path(spool_directory) / str(number)
    make_folder(folder)
    try:
        FolderLock(folder).release()
    except SpoolError as error:
        if isinstance(error.__cause__, BlockingIOError):
            return False
        raise
    return True


def main() -> None:
    """Be a worker: ``python -m mailsrv.service.worker NUMBER``, with the channel as file 3."""
    from twisted.internet import reactor as found
    from twisted.logger import (
        FilteringLogObserver,
        LogLevel,
        LogLevelFilterPredicate,
        globalLogBeginner,
        textFileLogObserver,
    )

    reactor: Any = found
    os.umask(UMASK)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's; the supervisor tells us
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    warnings = FilteringLogObserver(
        textFileLogObserver(sys.stderr), [LogLevelFilterPredicate(LogLevel.warn)]
    )
    globalLogBeginner.beginLoggingTo([warnings], redirectStandardIO=False)
    worker = Worker(int(sys.argv[1]), socket.socket(fileno=CONTROL), reactor)
    signal.signal(
        signal.SIGTERM,
        lambda *_: reactor.callFromThread(worker.end),
    )
    reactor.run(installSignalHandlers=False)
    os._exit(0)  # threads that hang have had their time


if __name__ == "__main__":
    main()

"""The supervisor of several workers: it has the ports and the keys, and touches no network data.

What to do when is decided by :class:`~mailsrv.service.roster.Roster`; here are
the processes.  Started by root it stays root, and writes nothing into folders
that are the server's account's: its lines are written to the log by a worker.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

import mailsrv
from mailsrv.config.model import Configuration
from mailsrv.connection.counts import make_counts, reset
from mailsrv.errors import ConfigError, ConfigErrors
from mailsrv.service.clockwatch import ClockWatch
from mailsrv.service.handover import TEXT, Channel, Message, Watch
from mailsrv.service.prepare import (
    Prepared,
    Sockets,
    close_missing,
    privileged_process,
    remove,
    renew,
)
from mailsrv.service.roster import Roster
from mailsrv.service.source import Snapshot, Source, reasons
from mailsrv.service.spools import folders
from mailsrv.spool.files import SpoolError

CONTROL = 3  # the worker's descriptor of the channel
END_LIMIT = 60.0  # seconds that workers have to end
HELPER_WAIT = 1.0  # seconds until another privileged process takes the place of one that ended
LINES_KEPT = 200  # log lines that wait for a worker


class _Process(ProcessProtocol):
    """One start of a worker."""

    def __init__(self, ended: Callable[[Failure], None]) -> None:
        self._ended = ended

    def processEnded(self, reason: Failure) -> None:
        """The process is gone."""
        self._ended(reason)


class _Worker:
    """What the supervisor has of a running worker."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.transport: Any = None
        self.pid = 0
        self.generation = 0  # of what it was handed
        self.problem = ""  # why it could not start, in its own words


class Supervisor:
    """Starts workers, and keeps them; provides the roster's ``IHands``."""

    def __init__(
        self,
        source: Source,
        configuration: Configuration,
        prepared: Prepared,
        reactor: Any,
        texts: Mapping[str, str],
    ) -> None:
        self._source = source
        self._reactor = reactor
        self._configuration = configuration
        self._prepared = prepared
        self._count = len(prepared.listening)
        self._snapshot = self._packed(texts)
        self._counts = make_counts(self._count)
        self._running: dict[int, _Worker] = {}
        self._lines: deque[tuple[str, str]] = deque(maxlen=LINES_KEPT)
        self._generation = 0  # of what workers are handed
        self._ending = False
        self._ended: Deferred[None] | None = None
        self._clock = ClockWatch(reactor, lambda by: None)  # workers tell of it
        self._helper = Watch(reactor, self._helper_ended)
        self._helper.see(prepared.privileged)
        found = folders(prepared.spool_directory)
        self._roster = Roster(reactor, self, self._count, found)

    # --- life ---

    def begin(self) -> None:
        """Start all workers."""
        for warning in self._prepared.warnings:
            self._log("panic", warning)
        self._clock.start()
        self._roster.begin()

    def end(self) -> Deferred[None]:
        """Let all workers end gracefully; the result fires when they have."""
        self._roster.end()
        self._ending = True
        self._helper.end()
        self._clock.stop()
        done: Deferred[None] = Deferred()
        self._ended = done
        for listener in self._prepared.listening[0]:
            remove(listener)
        self._tell_all("stop")
        limit = self._reactor.callLater(END_LIMIT, self._kill_all)

        def over(_: None) -> None:
            if limit.active():
                limit.cancel()

        done.addCallback(over)
        self._check_end()
        return done

    def _check_end(self) -> None:
        if self._ended is not None and not self._running:
            done, self._ended = self._ended, None
            done.callback(None)

    def _kill_all(self) -> None:
        for number in list(self._running):
            self.kill(number)

    def reopen_logs(self) -> None:
        """SIGUSR1: the log files were renamed."""
        self._tell_all("reopen")

    # --- another configuration ---

    def hang_up(self) -> None:
        """SIGHUP: read the configuration anew; a bad one is reported and changes nothing."""
        self._tell_all("reopen")
        try:
            configuration, files = self._source.read()
            prepared = renew(configuration, self._configuration, self._prepared)
        except (ConfigError, ConfigErrors, OSError, SpoolError) as error:
            self._report("SIGHUP: the configuration is wrong and is not used", reasons(error))
            return
        except Exception as error:  # a bug costs one reload
            self._report("SIGHUP: the configuration could not be read", [repr(error)])
            return
        before, self._prepared, self._configuration = self._prepared, prepared, configuration
        os.close(self._snapshot)
        self._snapshot = self._packed(files.texts)
        self._hand_over_to_all(before)
        for number in range(self._count):
            keeper = self._roster.keeper(number)
            if keeper is not None:
                self.lend(number, keeper)
        close_missing(before.listening, prepared.listening)
        for warning in configuration.notices():
            self._log("main", warning)
        for warning in prepared.warnings:
            self._log("panic", warning)

    def _hand_over_to_all(self, before: Prepared) -> None:
        """Let all workers have what is prepared now; one that starts gets it when it is ready."""
        self._generation += 1
        for number in self._roster.ready_workers:
            self._hand_over(number, "configure")
        if self._prepared.privileged is not before.privileged:
            self._helper.see(self._prepared.privileged)
            for each in before.privileged:
                each.close()

    def _helper_ended(self) -> None:
        """The process that delivers as other users is gone: nobody ends it but a fault."""
        if not self._ending:
            self._log("panic", "the privileged delivery process ended: another one is started")
            self._reactor.callLater(HELPER_WAIT, self._start_helper)

    def _start_helper(self) -> None:
        before, account = self._prepared, self._prepared.account
        if self._ending or account is None or self._helper.watching:
            return
        try:
            channels = privileged_process(self._configuration, account, self._count)
        except OSError as error:
            self._log("panic", f"the privileged delivery process cannot be started: {error}")
            self._reactor.callLater(HELPER_WAIT, self._start_helper)
            return
        self._prepared = replace(before, privileged=channels)
        self._hand_over_to_all(before)

    def _packed(self, texts: Mapping[str, str]) -> int:
        prepared = self._prepared
        return Snapshot(
            self._source,
            texts,
            prepared.keys.kept,
            prepared.account,
            prepared.file_limit,
            prepared.spool_directory,
            prepared.log_file_path,
            self._count,
        ).pack()

    # --- IHands ---

    def start(self, number: int) -> None:
        """See :meth:`IHands.start`; it gets its parts, and says when it serves."""
        try:
            self._spawn(number)
        except OSError as error:  # no process or no descriptor to be had, which may pass
            self._log("panic", f"worker {number} cannot be started: {error.strerror}")
            if number in self._running:
                self._running.pop(number).channel.close()
            self._reactor.callLater(0, self._roster.died, number)
            return
        self._hand_over(number, "begin")

    def _spawn(self, number: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = Channel(
            self._reactor,
            ours,
            lambda message, _: self._heard(number, message),
            lambda: None,  # it is the end of the process that counts
        )
        worker = self._running[number] = _Worker(channel)
        with theirs:
            worker.transport = self._reactor.spawnProcess(
                _Process(lambda reason: self._over(number, reason)),
                sys.executable,
                [sys.executable, "-P", "-m", "mailsrv.service.worker", str(number)],
                env={**os.environ, "PYTHONPATH": _module_path()},
                childFDs={0: 0, 1: 1, 2: 2, CONTROL: theirs.fileno()},
            )
        worker.pid = worker.transport.pid

    def _hand_over(self, number: int, kind: str) -> None:
        """Give a worker all that a configuration needs."""
        if number in self._running:
            self._running[number].generation = self._generation
        listeners, sockets = _listed(self._prepared.listening[number])
        privileged = [each.fileno() for each in self._prepared.privileged[number : number + 1]]
        self._send(
            number,
            kind,
            [self._snapshot, self._counts, *privileged, *sockets],
            listeners=listeners,
            privileged=len(privileged),
        )

    def kill(self, number: int) -> None:
        """See :meth:`IHands.kill`."""
        if number in self._running:
            worker = self._running[number]
            worker.problem = worker.problem or "it did not answer, and was killed"
            worker.transport.signalProcess("KILL")

    def ask(self, worker: int) -> None:
        """See :meth:`IHands.ask`."""
        self._send(worker, "ask")

    def lend(self, number: int, keeper: int) -> None:
        """See :meth:`IHands.lend`."""
        listeners, sockets = _listed(self._prepared.listening[number])
        self._send(keeper, "listen", sockets, owner=number, listeners=listeners)

    def take_back(self, number: int, keeper: int) -> None:
        """See :meth:`IHands.take_back`."""
        self._send(keeper, "leave", owner=number)

    def adopt(self, spool: int, keeper: int) -> None:
        """See :meth:`IHands.adopt`."""
        self._send(keeper, "adopt", spool=spool)

    def give_back(self, spool: int, keeper: int) -> None:
        """See :meth:`IHands.give_back`."""
        self._send(keeper, "give", spool=spool)

    def _send(self, number: int, kind: str, files: Sequence[int] = (), **values: Any) -> None:
        """Send to a worker; one that does not read is hung, and is replaced."""
        worker = self._running.get(number)
        if worker is not None and not worker.channel.send(kind, files, **values):
            self.kill(number)

    def _tell_all(self, kind: str) -> None:
        for number in list(self._running):
            self._send(number, kind)

    # --- what workers say, and their end ---

    def _heard(self, number: int, message: Message) -> None:
        kind = message["kind"]
        if kind == "ready":
            if self._running[number].generation != self._generation:
                self._hand_over(number, "configure")
            self._roster.ready(number)
            while self._lines:
                self._write(number, *self._lines.popleft())
        elif kind == "lives":
            self._roster.lives(number)
        elif kind == "left":
            if message["problem"]:
                self._log("panic", f"spool {message['spool']}: {message['problem']}")
            self._roster.left(message["spool"], number)
        elif kind == "failed":
            self._running[number].problem = message["text"]

    def _over(self, number: int, reason: Failure) -> None:
        """A worker's process ended: its connections are counted no longer, and it is replaced."""
        worker = self._running.pop(number)
        worker.channel.close()
        reset(self._counts, number)
        if not self._ending:
            how = worker.problem or _how(reason)
            self._log("panic", f"worker {number} (pid={worker.pid}) ended: {how}")
        self._roster.died(number)
        self._check_end()

    # --- the log, which workers write ---

    def _log(self, stream: str, text: str) -> None:
        for number in self._roster.ready_workers:
            if self._write(number, stream, text):
                return
        self._lines.append((stream, text))
        print(f"mailsrv: {text}", file=sys.stderr, flush=True)

    def _write(self, number: int, stream: str, text: str) -> bool:
        """Let a worker write a line; False: it cannot."""
        worker = self._running.get(number)
        return worker is not None and worker.channel.send("log", stream=stream, text=text[:TEXT])

    def _report(self, what: str, why: list[str]) -> None:
        for text in (what, *why):
            self._log("panic", text)


def _how(reason: Failure) -> str:
    """Return how a process ended."""
    status = getattr(reason.value, "exitCode", None)
    number = getattr(reason.value, "signal", None)
    if number is not None:
        return f"killed by signal {number} ({signal.Signals(number).name})"
    return f"exit status {status or 0}"


def _listed(sockets: Sockets) -> tuple[list[list[Any]], list[int]]:
    """Return listeners in a form that a message can have, and their descriptors in that order."""
    listeners = [[each.address, each.port, each.tls_on_connect, each.lmtp] for each in sockets]
    return listeners, [each.fileno() for each in sockets.values()]


def _module_path() -> str:
    """Return where a worker finds modules: where we do, and never in the current folder."""
    own = os.path.dirname(mailsrv.__path__[0])
    paths = dict.fromkeys([*(path for path in sys.path if os.path.isabs(path)), own])
    return os.pathsep.join(paths)

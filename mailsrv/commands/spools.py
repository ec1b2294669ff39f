"""The spools that a command works on: each by its server, or opened here when no server runs."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from mailsrv.commands.control import (
    Control,
    ControlError,
    NotRunning,
    socket_path,
    worker_folders,
)
from mailsrv.commands.terminal import say
from mailsrv.config.model import Configuration
from mailsrv.interfaces import IMailLog, QueueEntry
from mailsrv.service.environment import spool_directory
from mailsrv.service.requests import Answer, Requests, unpack_entry

MakeLog = Callable[[Any], IMailLog]  # from a clock
READS = ("list", "count", "headers", "body", "whole", "log", "remove")  # need the spool alone

# A server that starts or ends has the spool, but does not answer yet, or any more: seconds
# that a command waits for one or the other, and between its looks.
PATIENCE = 5.0
PAUSE = 0.1

T = TypeVar("T")


class Asked(Protocol):
    """Something that answers requests about one spool."""

    def ask(self, do: str, **values: Any) -> Iterator[Answer]:
        """Give the pieces of the answer; see :meth:`mailsrv.commands.control.Control.ask`."""

    def close(self) -> None:
        """Release it."""


class IOffline(Protocol):
    """All that delivers from one spool (``mailsrv.service.offline``)."""

    def answer(self, request: dict[str, Any]) -> AsyncIterator[Answer]:
        """Answer a request."""

    async def close(self) -> None:
        """End it."""


MakeOffline = Callable[[Any, int], IOffline]  # from a reactor and the folder's number


class OpenedSpool:
    """A spool that this command opens, because no server runs; it keeps it until it is closed.

    If a server has it after all, one that starts or ends, it is asked as soon as it answers.

    ``make_log`` opens the log that is told of removals; ``make_offline`` makes what
    changes and delivers messages.

    :raises ControlError: it is locked or cannot be read.
    """

    def __init__(
        self,
        folder: str,
        make_log: MakeLog | None = None,
        make_offline: MakeOffline | None = None,
    ) -> None:
        self._folder = folder
        self._make_log = make_log
        self._make_offline = make_offline
        self._loop: Loop | None = None
        self._reader: _Reader | None = None
        self._offline: IOffline | None = None
        self._server: Control | None = None

    def ask(self, do: str, **values: Any) -> Iterator[Answer]:
        """Answer one request; of its pieces only a few are held at a time."""
        answerer = self._answerer(do)
        if answerer is None:
            assert self._server is not None, "it has the spool"
            yield from self._server.ask(do, **values)
            return
        assert self._loop is not None, "made for the answerer"
        for piece in self._loop.stream(answerer.answer({"do": do, **values})):
            if "error" in piece:
                raise ControlError(str(piece["error"]))
            if not piece.get("done"):
                yield piece

    def _answerer(self, do: str) -> _Reader | IOffline | None:
        """Open the spool; None: a server has it, which is to be asked."""
        from mailsrv.spool.files import SpoolInUse

        if self._server is not None:
            return None
        if self._loop is None:
            self._loop = Loop()
        changes = do not in READS and self._make_offline is not None
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return self._changer() if changes else self._reading()
            except SpoolInUse as error:
                with suppress(NotRunning):
                    self._server = Control(socket_path(self._folder))
                    return None
                if time.monotonic() >= until:
                    problem = f"{error}, which has not answered for {PATIENCE:g} seconds"
                    raise ControlError(problem) from error
            time.sleep(PAUSE)

    def _reading(self) -> _Reader | IOffline:
        if self._offline is not None:
            return self._offline
        if self._reader is None:
            assert self._loop is not None, "ask() made it"
            self._reader = _Reader(self._loop.reactor, self._folder, self._make_log)
        return self._reader

    def _changer(self) -> IOffline:
        from mailsrv.spool.files import SpoolError, SpoolInUse

        assert self._loop is not None, "ask() made it"
        assert self._make_offline is not None, "asked before"
        if self._offline is None:
            if self._reader is not None:
                self._loop.run(self._reader.close())
                self._reader = None
            number = int(os.path.basename(self._folder))
            try:
                self._offline = self._make_offline(self._loop.reactor, number)
            except SpoolInUse:
                raise
            except (SpoolError, OSError) as error:
                raise ControlError(str(error)) from error
        return self._offline

    def close(self) -> None:
        """Close the spool."""
        if self._server is not None:
            self._server.close()
        if self._loop is None:
            return
        loop, self._loop = self._loop, None
        for each in (self._reader, self._offline):
            if each is not None:
                loop.run(each.close())
        self._reader = self._offline = None
        loop.end()


class _Reader:
    """A spool without all that delivers from it: to look at it, and to remove messages.

    :raises SpoolInUse: it is locked.
    :raises ControlError: it cannot be read.
    """

    def __init__(self, reactor: Any, folder: str, make_log: MakeLog | None) -> None:
        from mailsrv.spool.files import SpoolError, SpoolInUse
        from mailsrv.spool.sqlite import SqliteSpool

        try:
            self._spool = SqliteSpool(reactor, folder, lambda text: say(text, error=True))
        except SpoolInUse:
            raise
        except SpoolError as error:
            raise ControlError(str(error)) from error
        self._requests = Requests(self._spool, None, make_log(reactor) if make_log else None)

    def answer(self, request: dict[str, Any]) -> AsyncIterator[Answer]:
        """Answer a request."""
        return self._requests.answer(request)

    async def close(self) -> None:
        """Close the spool."""
        await self._spool.close()


class Loop:
    """An event loop for a command: it runs while something is waited for, and not between."""

    def __init__(self) -> None:
        from twisted.internet.epollreactor import EPollReactor

        self.reactor: Any = EPollReactor()
        self.reactor.startRunning(installSignalHandlers=False)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end.

        :raises Exception: what the coroutine raises.
        """
        from twisted.internet.defer import Deferred
        from twisted.python.failure import Failure

        results: list[Any] = []
        Deferred.fromCoroutine(work).addBoth(results.append)
        while not results:
            self.reactor.runUntilCurrent()  # what it ends is seen before anything is waited for
            if not results:
                self.reactor.doIteration(self.reactor.timeout())
        if isinstance(results[0], Failure):
            results[0].raiseException()
        result: T = results[0]
        return result

    def stream(self, pieces: AsyncIterator[T]) -> Iterator[T]:
        """Give what an asynchronous iterator gives, one piece at a time."""

        async def one() -> tuple[T, ...]:
            async for piece in pieces:
                return (piece,)
            return ()

        while found := self.run(one()):
            yield found[0]

    def end(self) -> None:
        """End it."""
        self.reactor.stop()
        while self.reactor.running:
            self.reactor.iterate(0)


def run_reactor(work: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine on an event loop of its own, which ends with it.

    :raises Exception: what the coroutine raises.
    """
    loop = Loop()
    try:
        loop.run(work(loop.reactor))
    finally:
        loop.end()


def open_worker(
    folder: str, make_log: MakeLog | None = None, make_offline: MakeOffline | None = None
) -> Asked:
    """Return the worker's server if it runs, else its spool."""
    try:
        return Control(socket_path(folder))
    except NotRunning:
        return OpenedSpool(folder, make_log, make_offline)


class Workers:
    """The spools of all workers, running or not.

    :raises ControlError: one of them cannot be reached.
    """

    def __init__(
        self,
        spool_directory: str,
        make_log: MakeLog | None = None,
        make_offline: MakeOffline | None = None,
    ) -> None:
        self.each: list[Asked] = []
        try:
            for folder in worker_folders(spool_directory):
                self.each.append(open_worker(folder, make_log, make_offline))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release them."""
        for each in self.each:
            each.close()

    def entries(self, **part: str) -> Iterator[QueueEntry]:
        """All messages, the oldest first; of a ``part``, from id ``start`` to id ``stop``."""
        streams = [entries(each, **part) for each in self.each]
        return heapq.merge(*streams, key=lambda entry: entry.received_at)

    def entry(self, id: str) -> QueueEntry | None:
        """One message."""
        return next(self.entries(start=id, stop=id), None)

    def total(self, name: str, do: str, **values: Any) -> int:
        """Ask all; return the sum of a number in their answers."""
        return sum(int(piece[name]) for each in self.each for piece in each.ask(do, **values))

    def change(self, what: str, ids: Sequence[str]) -> list[bool | str | None]:
        """Change messages wherever they are; see ``each`` in :mod:`mailsrv.service.requests`."""
        results: dict[str, bool | str | None] = dict.fromkeys(ids)
        for each in self.each:
            left = [id for id, result in results.items() if result is None]
            if left:
                for piece in each.ask("each", what=what, messages=left):
                    results.update(zip(left, piece["results"], strict=True))
        return list(results.values())

    def text(self, do: str, id: str) -> Iterator[str]:
        """The pieces of a text of one message; none: there is no such message."""
        for each in self.each:
            found = False
            for piece in each.ask(do, message=id):
                found = True
                yield str(piece["text"])
            if found:
                return


def entries(worker: Asked, **part: str) -> Iterator[QueueEntry]:
    """The messages of one worker."""
    for piece in worker.ask("list", **part):
        for packed in piece["entries"]:
            yield unpack_entry(packed)


def opened(configuration: Configuration) -> Workers:
    """Open the spools of a configuration.

    :raises ConfigError, ControlError: that is not possible.
    """

    def make_log(clock: Any) -> IMailLog:
        from mailsrv.logs.log import MailLog
        from mailsrv.service.environment import log_settings

        return MailLog(log_settings(configuration), clock)

    return Workers(spool_directory(configuration), make_log, offline_maker(configuration))


def offline_maker(configuration: Configuration) -> MakeOffline:
    """Return what opens spools with all that delivers; root is dropped by the first of them."""
    prepared: list[Any] = []

    def make(reactor: Any, number: int) -> IOffline:
        from mailsrv.errors import ConfigError, ConfigErrors
        from mailsrv.service.offline import Offline, ready

        try:
            if not prepared:
                prepared.append(ready(configuration))
            return Offline(configuration, prepared[0], reactor, number)
        except (ConfigError, ConfigErrors) as error:
            raise ControlError(str(error)) from error

    return make

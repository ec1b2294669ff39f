"""The spools that a command works on: each by its server, or opened here when no server runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Protocol

from mailsrv.commands.control import Control, ControlError, NotRunning, socket_path
from mailsrv.commands.terminal import say
from mailsrv.config.model import Configuration
from mailsrv.interfaces import IMailLog
from mailsrv.service.requests import Answer, Requests

MakeLog = Callable[[Any], IMailLog]  # from a clock
READS = ("list", "count", "headers", "body", "log", "remove")  # need no more than the spool


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
    """A spool that this command has opened, because no server runs.

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

    def ask(self, do: str, **values: Any) -> Iterator[Answer]:
        """Answer one request; the spool is open for its length."""
        request = {"do": do, **values}
        answers: list[Answer] = []
        if do in READS or self._make_offline is None:
            self._read(request, answers)
        else:
            self._change(self._make_offline, request, answers)
        for piece in answers:
            if "error" in piece:
                raise ControlError(str(piece["error"]))
            if not piece.get("done"):
                yield piece

    def _change(self, make: MakeOffline, request: Answer, answers: list[Answer]) -> None:
        async def work(reactor: Any) -> None:
            from mailsrv.spool.files import SpoolError

            try:
                offline = make(reactor, int(os.path.basename(self._folder)))
            except (SpoolError, OSError) as error:
                raise ControlError(str(error)) from error
            try:
                async for piece in offline.answer(request):
                    answers.append(piece)  # noqa: PERF401  (a reactor has to run between them)
            finally:
                await offline.close()

        run_reactor(work)

    def _read(self, request: Answer, answers: list[Answer]) -> None:
        async def work(reactor: Any) -> None:
            from mailsrv.spool.files import SpoolError
            from mailsrv.spool.sqlite import SqliteSpool

            try:
                spool = SqliteSpool(reactor, self._folder, lambda text: say(text, error=True))
            except SpoolError as error:
                raise ControlError(str(error)) from error
            try:
                log = None if self._make_log is None else self._make_log(reactor)
                async for piece in Requests(spool, None, log).answer(request):
                    answers.append(piece)  # noqa: PERF401  (a reactor has to run between them)
            finally:
                await spool.close()

        run_reactor(work)

    def close(self) -> None:
        """Nothing is held between requests."""


def run_reactor(work: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine on an event loop of its own, which ends with it.

    :raises Exception: what the coroutine raises.
    """
    from twisted.internet.defer import Deferred
    from twisted.internet.epollreactor import EPollReactor
    from twisted.python.failure import Failure

    reactor: Any = EPollReactor()
    failures: list[BaseException] = []

    def failed(failure: Failure) -> None:
        failures.append(failure.value or RuntimeError("failed without an exception"))

    def begin() -> None:
        done = Deferred.fromCoroutine(work(reactor))
        done.addErrback(failed)
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run(installSignalHandlers=False)
    if failures:
        raise failures[0]


def open_worker(
    folder: str, make_log: MakeLog | None = None, make_offline: MakeOffline | None = None
) -> Asked:
    """Return the worker's server if it runs, else its spool."""
    try:
        return Control(socket_path(folder))
    except NotRunning:
        return OpenedSpool(folder, make_log, make_offline)


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

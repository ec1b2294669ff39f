"""The queue's commands: ``-bp`` and its kin, ``-M`` and its kin, ``-q`` (chapter 5.2).

A running server is asked through its control socket, every worker of it;
listings are merged, the oldest message first.  A spool that no server has open
is opened here.  Output is as Exim's.
"""

from __future__ import annotations

import heapq
import re
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO, Protocol

from mailsrv.commands.control import (
    Control,
    ControlError,
    NotRunning,
    socket_path,
    worker_folders,
)
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError
from mailsrv.interfaces import IMailLog, QueueEntry
from mailsrv.mail.msgid import is_message_id
from mailsrv.service.environment import spool_directory
from mailsrv.service.requests import (
    Answer,
    BadRequest,
    Requests,
    unpack_entry,
)

MakeLog = Callable[[Any], IMailLog]  # from a clock

_HOSTILE = re.compile(r"[^\x20-\x7e]")
_HOSTILE_TEXT = re.compile(r"[^\x20-\x7e\n\t]")
_LISTINGS = ("-bp", "-bpa", "-bpu", "-bpr", "-bpra", "-bpru")
_VIEWS = {"-Mvh": "headers", "-Mvb": "body", "-Mvl": "log"}
_RUNS = {
    "-q": {"force": True},  # what is due is tried without being asked for
    "-qf": {"force": True},
    "-qff": {"force": True, "frozen": True},
    "-M": {"force": True, "frozen": True},
}
_CHANGES = {  # what is asked, and what is printed if it was done, and if it was so already
    "-Mf": ("freeze", "is now frozen", "is already frozen"),
    "-Mt": ("thaw", "is no longer frozen", "is not frozen"),
    "-Mg": ("give_up", "has been given up", ""),
}
_MISSING = {
    "-Mvh": "Failed to open input file for {}-H: No such file or directory",
    "-Mvb": "Failed to open input file for {}-D: No such file or directory",
    "-Mvl": "Failed to open msglog file for {}: No such file or directory",
}


class Asked(Protocol):
    """Something that answers requests about one spool."""

    def ask(self, do: str, **values: Any) -> Iterator[Answer]:
        """Give the pieces of the answer; see :meth:`mailsrv.commands.control.Control.ask`."""

    def close(self) -> None:
        """Release it."""


class OpenedSpool:
    """A spool that this command has opened, because no server runs.

    ``make_log`` opens the log that is told of removals.

    :raises ControlError: it is locked or cannot be read.
    """

    def __init__(self, folder: str, make_log: MakeLog | None = None) -> None:
        self._folder = folder
        self._make_log = make_log

    def ask(self, do: str, **values: Any) -> Iterator[Answer]:
        """Answer one request; the spool is open for its length."""
        answers: list[Answer] = []

        async def work(reactor: Any) -> None:
            from mailsrv.spool.files import SpoolError
            from mailsrv.spool.sqlite import SqliteSpool

            try:
                spool = SqliteSpool(reactor, self._folder, lambda text: _complain(text))
            except SpoolError as error:
                raise ControlError(str(error)) from error
            try:
                log = None if self._make_log is None else self._make_log(reactor)
                async for piece in Requests(spool, None, log).answer({"do": do, **values}):
                    answers.append(piece)  # noqa: PERF401  (a reactor has to run between them)
            finally:
                await spool.close()

        run_reactor(work)
        for piece in answers:
            if "error" in piece:
                raise ControlError(str(piece["error"]))
            if not piece.get("done"):
                yield piece

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


def main(configuration: Configuration, action: str, arguments: list[str]) -> int:
    """Carry out a command and return its exit status; see :func:`carry_out`."""
    try:
        folder = spool_directory(configuration)
    except ConfigError as error:
        _complain(f"mailsrv: {error}")
        return 1

    def make_log(clock: Any) -> IMailLog:
        from mailsrv.logs.log import MailLog
        from mailsrv.service.environment import log_settings

        return MailLog(log_settings(configuration), clock)

    return carry_out(folder, action, arguments, make_log=make_log)


def carry_out(
    folder: str,
    action: str,
    arguments: list[str],
    *,
    out: BinaryIO | None = None,
    now: Callable[[], float] = time.time,
    make_log: MakeLog | None = None,
) -> int:
    """Carry out a command on the spools of the workers in ``folder``; return its exit status.

    ``action`` is the option as given, such as ``-bp`` or ``-Mrm``; ``arguments``
    are message ids.
    """
    command = _Command(action, out or sys.stdout.buffer, now, make_log)
    try:
        return command.run(folder, arguments)
    except (ControlError, BadRequest) as error:
        _complain(f"mailsrv: {error}")
        return 1
    except BrokenPipeError:
        return 1


def _complain(text: str) -> None:
    print(_safe(text), file=sys.stderr)


def _safe(text: str) -> str:
    """Return a line that is harmless to a terminal: other octets in octal, as in the logs."""
    return _HOSTILE.sub(lambda match: f"\\{ord(match[0]):03o}", text)


class _Command:
    """One command: what it asks, and what it prints."""

    def __init__(
        self,
        action: str,
        out: BinaryIO,
        now: Callable[[], float],
        make_log: MakeLog | None,
    ) -> None:
        self._make_log = make_log
        self._action = action
        self._out = out
        self._now = now

    def run(self, spool_directory: str, arguments: list[str]) -> int:
        """Ask every worker and print the answer."""
        for id in arguments:
            if not is_message_id(id):
                option = f"after {self._action} option"
                raise ControlError(f"malformed message id {id} {option}")
        with ExitStack() as stack:
            folders = worker_folders(spool_directory)
            workers = [open_worker(folder, self._make_log) for folder in folders]
            for worker in workers:
                stack.callback(worker.close)
            try:
                return self._do(workers, arguments)
            finally:
                self._out.flush()

    def _do(self, workers: list[Asked], ids: list[str]) -> int:
        if self._action in _LISTINGS:
            return self._list(workers, frozenset(ids))
        if self._action == "-bpc":
            self._print(str(sum(_value(worker.ask("count"), "count") for worker in workers)))
            return 0
        if self._action in _RUNS:
            return self._run(workers, ids)
        if not ids:
            raise ControlError(f"no message ids given after {self._action} option")
        if self._action in _VIEWS:
            return self._view(workers, ids[0])
        if self._action == "-Mrm":
            return max(self._remove(workers, id) for id in ids)
        if self._action in _CHANGES:
            return max(self._change(workers, id) for id in ids)
        raise ControlError(f"unknown queue command {self._action}")

    def _print(self, line: str) -> None:
        self._out.write(_safe(line).encode("latin-1") + b"\n")

    def _write(self, text: str, terminal: bool) -> None:
        if terminal:
            text = _HOSTILE_TEXT.sub(lambda match: f"\\{ord(match[0]):03o}", text)
        self._out.write(text.encode("latin-1"))

    # --- listings --------------------------------------------------------------

    def _list(self, workers: list[Asked], ids: frozenset[str]) -> int:
        streams = [_entries(worker) for worker in workers]
        now = self._now()
        for entry in heapq.merge(*streams, key=lambda entry: entry.received_at):
            if not ids or entry.id in ids:
                for line in entry_lines(entry, now, delivered="u" not in self._action):
                    self._print(line)
                self._print("")
        return 0

    # --- single messages ---------------------------------------------------------

    def _view(self, workers: list[Asked], id: str) -> int:
        found = False
        terminal = self._out.isatty()
        held = ""  # a CR whose LF may come with the next piece
        for worker in workers:
            for piece in worker.ask(_VIEWS[self._action], message=id):
                found = True
                text = (held + str(piece["text"])).replace("\r\n", "\n")
                held = "\r" if text.endswith("\r") else ""
                self._write(text.removesuffix("\r"), terminal)
            if found:
                self._write(held, terminal)
                return 0
        _complain(_MISSING[self._action].format(id))
        return 1

    def _remove(self, workers: list[Asked], id: str) -> int:
        removed = False
        for worker in workers:
            removed = removed or bool(_value(worker.ask("remove", message=id), "removed"))
        what = "has been removed" if removed else "has been removed or did not exist"
        self._print(f"Message {id} {what}")
        return 0 if removed else 1

    def _change(self, workers: list[Asked], id: str) -> int:
        do, done, already = _CHANGES[self._action]
        for worker in workers:
            for piece in worker.ask(do, message=id):
                if piece["changed"] is not None:
                    self._print(f"Message {id} {done if piece['changed'] else already}")
                    return 0 if piece["changed"] else 1
        self._print(f"Spool data file for {id} does not exist")
        return 1

    def _run(self, workers: list[Asked], ids: list[str]) -> int:
        if not workers:
            raise ControlError("no server is running: deliveries begin when it is started")
        options = _RUNS[self._action]
        count = sum(_value(w.ask("run", messages=ids, **options), "count") for w in workers)
        self._print(f"{count} message{'' if count == 1 else 's'} to be attempted now")
        return 0


def open_worker(folder: str, make_log: MakeLog | None = None) -> Asked:
    """Return the worker's server if it runs, else its spool."""
    try:
        return Control(socket_path(folder))
    except NotRunning:
        return OpenedSpool(folder, make_log)


def _entries(worker: Asked) -> Iterator[QueueEntry]:
    for piece in worker.ask("list"):
        for packed in piece["entries"]:
            yield unpack_entry(packed)


def _value(answer: Iterator[Answer], name: str) -> int:
    """Return a number of an answer that has one piece."""
    return sum(int(piece[name]) for piece in answer)


def age(seconds: float) -> str:
    """Return how long a message waits, in Exim's three columns: 25m, 3h, 4d."""
    minutes = max(0, int(seconds)) // 60
    if minutes <= 90:
        return f"{minutes:2d}m"
    hours = (minutes + 30) // 60
    return f"{hours:2d}h" if hours <= 72 else f"{(hours + 12) // 24:2d}d"


def size(octets: int) -> str:
    """Return a size in Exim's five columns: ``  720``, `` 2.9K``, ``  12M``."""
    if octets <= 0:
        return "     "
    if octets < 1024:
        return f"{octets:5d}"
    for unit, letter in ((1024, "K"), (1024 * 1024, "M")):
        if octets < 10 * unit:
            return f"{octets / unit:4.1f}{letter}"
        if octets < 1024 * unit or letter == "M":
            return f"{(octets + unit // 2) // unit:4d}{letter}"
    raise AssertionError("every size has a unit")


def entry_lines(entry: QueueEntry, now: float, *, delivered: bool) -> list[str]:
    """Return the lines of one message in a listing, without the empty one after it."""
    frozen = " *** frozen ***" if entry.frozen else ""
    if entry.quarantined:
        frozen = " *** quarantined ***"
    waiting = age(now - entry.received_at)
    lines = [f"{waiting} {size(entry.size)} {entry.id} <{entry.sender}>{frozen}"]
    if delivered:
        lines += [f"        D {address}" for address in entry.delivered]
    return lines + [f"          {address}" for address in entry.recipients]

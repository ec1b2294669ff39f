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
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO

from mailsrv.commands.control import ControlError, worker_folders
from mailsrv.commands.invocation import Invocation
from mailsrv.commands.spools import Asked, MakeLog, MakeOffline, offline_maker, open_worker
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError
from mailsrv.interfaces import IMailLog, QueueEntry
from mailsrv.mail.msgid import is_message_id
from mailsrv.service.environment import spool_directory
from mailsrv.service.requests import Answer, BadRequest, unpack_entry

_HOSTILE = re.compile(r"[^\x20-\x7e]")
_HOSTILE_TEXT = re.compile(r"[^\x20-\x7e\n\t]")
_LISTINGS = ("-bp", "-bpa", "-bpu", "-bpr", "-bpra", "-bpru")
_VIEWS = {"-Mvh": "headers", "-Mvb": "body", "-Mvl": "log"}
_QUEUE_RUN = re.compile(r"-qq?(f{0,2})")  # what is due is tried without being asked for
_SELECTED = re.compile(r"-([RS])(r?)(f{0,2})")
_AT_ONCE = 500  # ids of one request
_CHANGES = {  # what is asked, and what is printed if it was done, and if it was so already
    "-Mf": ("freeze", "is now frozen", "is already frozen"),
    "-Mt": ("thaw", "is no longer frozen", "is not frozen"),
    "-Mg": ("give_up", "has been given up", ""),
}
_EDITS = ("-Mar", "-Mes", "-Mmd", "-Mmad")
_MISSING = {
    "-Mvh": "Failed to open input file for {}-H: No such file or directory",
    "-Mvb": "Failed to open input file for {}-D: No such file or directory",
    "-Mvl": "Failed to open msglog file for {}: No such file or directory",
}


def run(invocation: Invocation, configuration: Configuration) -> int:
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

    return carry_out(
        folder,
        f"-{invocation.action}",
        invocation.arguments,
        make_log=make_log,
        make_offline=offline_maker(configuration),
    )


def carry_out(
    folder: str,
    action: str,
    arguments: list[str],
    *,
    out: BinaryIO | None = None,
    now: Callable[[], float] = time.time,
    make_log: MakeLog | None = None,
    make_offline: MakeOffline | None = None,
) -> int:
    """Carry out a command on the spools of the workers in ``folder``; return its exit status.

    ``action`` is the option as given, such as ``-bp`` or ``-Mrm``; ``arguments``
    are message ids, and what the option takes besides.
    """
    command = _Command(action, out or sys.stdout.buffer, now, make_log, make_offline)
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
        make_offline: MakeOffline | None,
    ) -> None:
        self._make_log = make_log
        self._make_offline = make_offline
        self._action = action
        self._out = out
        self._now = now

    def run(self, spool_directory: str, arguments: list[str]) -> int:
        """Ask every worker and print the answer."""
        for id in self._ids(arguments):
            if not is_message_id(id):
                option = f"after {self._action} option"
                raise ControlError(f"malformed message id {id} {option}")
        with ExitStack() as stack:
            folders = worker_folders(spool_directory)
            workers = [open_worker(f, self._make_log, self._make_offline) for f in folders]
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
        if found := _QUEUE_RUN.fullmatch(self._action):
            return self._run_queue(workers, ids, frozen=found[1] == "ff")
        if found := _SELECTED.fullmatch(self._action):
            if len(ids) != 1:
                raise ControlError(f"{self._action} needs one string")
            return self._run_selected(workers, ids[0], *found.groups())
        if not ids:
            raise ControlError(f"no message ids given after {self._action} option")
        if self._action in ("-M", "-Mc"):
            self._run(workers, ids, force=self._action == "-M", frozen=self._action == "-M")
            return 0
        if self._action in _EDITS:
            return self._edit(workers, ids[0], ids[1:])
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

    def _ids(self, arguments: list[str]) -> list[str]:
        """Return those arguments that are to be message ids."""
        if _SELECTED.fullmatch(self._action):
            return []
        return arguments[:1] if self._action in _EDITS else arguments

    def _edit(self, workers: list[Asked], id: str, values: list[str]) -> int:
        """Change the envelope: ``-Mar``, ``-Mes``, ``-Mmd``, ``-Mmad``."""
        request: dict[str, Any] = {"message": id}
        if self._action == "-Mes":
            if len(values) != 1:
                raise ControlError("-Mes needs one address; <> is the null sender")
            request |= {"do": "edit", "sender": values[0] if values[0] != "<>" else ""}
        elif self._action == "-Mmad":
            request |= {"do": "mark"}
        elif not values:
            raise ControlError(f"{self._action} needs an address")
        elif self._action == "-Mar":
            request |= {"do": "edit", "added": values}
        else:
            request |= {"do": "mark", "addresses": values}
        for worker in workers:
            for piece in worker.ask(**request):
                if piece["changed"]:
                    for address in piece.get("unknown", ()):
                        self._print(f"Message {id} has no recipient {address} left")
                    self._print(f"Message {id} has been modified")
                    return 1 if piece.get("unknown") else 0
        self._print(f"Spool data file for {id} does not exist")
        return 1

    # --- deliveries ----------------------------------------------------------------

    def _run(self, workers: list[Asked], ids: list[str], **options: bool) -> int:
        """Attempt messages, and wait for the end of the attempts; return how many there were."""
        count = 0
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            for worker in workers:
                count += _value(worker.ask("run", messages=some, wait=True, **options), "count")
        return count

    def _run_queue(self, workers: list[Asked], ids: list[str], *, frozen: bool) -> int:
        """Attempt all messages, or those from an id on, or from one to another (``-q``)."""
        if len(ids) > 2:
            raise ControlError(f"{self._action} takes two message ids at most")
        if not ids:
            asked = (w.ask("run", messages=[], force=True, frozen=frozen) for w in workers)
            count = sum(_value(answer, "count") for answer in asked)
        else:
            first, last = ids[0], ids[-1] if len(ids) > 1 else "~"
            listed = sorted(e.id for w in workers for e in _entries(w) if first <= e.id <= last)
            count = self._run(workers, listed, force=True, frozen=frozen)
        self._print(f"{count} message{'' if count == 1 else 's'} to be attempted now")
        return 0

    def _run_selected(
        self, workers: list[Asked], text: str, which: str, regex: str, flags: str
    ) -> int:
        """Attempt messages whose recipients (``-R``) or sender (``-S``) have ``text`` in them.

        The first is tried whatever its retry times say; if that mends the hints,
        the others follow (specification 5.2).
        """
        try:
            found = re.compile(text if regex else re.escape(text), re.IGNORECASE)
        except re.error as error:
            raise ControlError(f"{text}: {error}") from None
        ids = []
        for worker in workers:
            for entry in _entries(worker):
                if entry.quarantined or (entry.frozen and flags != "ff"):
                    continue
                if any(found.search(one) for one in _subjects(entry, which)):
                    ids.append((entry.received_at, entry.id))
        chosen = [id for _, id in sorted(ids)]
        if chosen:
            frozen = flags == "ff"
            self._run(workers, chosen[:1], force=True, frozen=frozen)
            self._run(workers, chosen[1:], force=bool(flags), frozen=frozen)
        self._print(f"{len(chosen)} message{'' if len(chosen) == 1 else 's'} attempted")
        return 0


def _subjects(entry: QueueEntry, which: str) -> tuple[str, ...]:
    return entry.recipients if which == "R" else (entry.sender,)


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

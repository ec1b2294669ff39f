"""Exim's commands of the queue: ``-bp`` and its kin, ``-M`` and its kin, ``-q`` (chapter 5.2).

A running server is asked through its control socket, every worker of it;
listings are merged, the oldest message first.  A spool that no server has open
is opened here.  Output and exit statuses are as Exim's.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any, BinaryIO

from mailsrv.commands.control import ControlError
from mailsrv.commands.invocation import Invocation
from mailsrv.commands.listing import entry_lines, safe, safe_text
from mailsrv.commands.spools import Workers, entries, opened
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError
from mailsrv.interfaces import QueueEntry
from mailsrv.mail.msgid import is_message_id
from mailsrv.service.requests import BadRequest

_LISTING = re.compile(r"-bp(?:r?[au]?)")
_RUN = re.compile(r"-qq?(?P<first>i?)(?P<flags>f{0,2})")
_SELECTED = re.compile(r"-q?(?P<what>[RS])(?:(?P<regex>r?)(?P<flags>f{0,2})|(?P<text>.+))")
_AT_ONCE = 500  # ids of one request
_CHANGES = {  # what is asked, and what is printed if it was done, and if it was so already
    "-Mf": ("freeze", "is now frozen", "is already frozen"),
    "-Mt": ("thaw", "is no longer frozen", "is not frozen"),
    "-Mg": ("give_up", "", ""),
    "-Mrm": ("remove", "has been removed", ""),
}
_EDITS = {  # the option, and what Exim says that it was doing
    "-Mar": "adding recipient",
    "-Mes": "editing sender",
    "-Mmd": "marking as delivered",
}
_VIEWS = {"-Mvh": "headers", "-Mvb": "body", "-Mvc": "whole", "-Mvl": "log"}
_MISSING = {
    "-Mvh": "Failed to open input file for {}-H: No such file or directory",
    "-Mvb": "Failed to open input file for {}-D: No such file or directory",
    "-Mvl": "Failed to open msglog file for {}: No such file or directory",
}
_NO_FILE = "Spool data file for {} does not exist"


def run(invocation: Invocation, configuration: Configuration) -> int:
    """Carry out a command and return its exit status; see :func:`carry_out`."""
    return carry_out(
        lambda: opened(configuration),
        f"-{invocation.action}",
        invocation.arguments,
        verbose=invocation.verbose,
    )


def carry_out(
    open_workers: Callable[[], Workers],
    action: str,
    arguments: list[str],
    *,
    out: BinaryIO | None = None,
    now: Callable[[], float] = time.time,
    verbose: bool = False,
) -> int:
    """Carry out a command on the spools of the workers; return its exit status.

    ``action`` is the option as given, such as ``-bp`` or ``-Mrm``; ``arguments``
    are message ids, and what the option takes besides.
    """
    stream = out or sys.stdout.buffer
    try:
        check(action, arguments)
        with closing(open_workers()) as workers:
            try:
                return _Command(action, stream, now, workers, verbose).run(arguments)
            finally:
                stream.flush()
    except (ConfigError, ControlError, BadRequest) as error:
        _complain(f"mailsrv: {error}")
        return 1
    except BrokenPipeError:
        return 1


def check(action: str, arguments: list[str]) -> None:
    """See that the arguments are what the option takes.

    :raises ControlError: they are not.
    """
    if found := _SELECTED.fullmatch(action):
        if len(arguments) != (0 if found["text"] else 1):
            raise ControlError(f"one string expected after {action}")
        return
    for id in arguments[:1] if action in _EDITS else arguments:
        if not is_message_id(id):
            raise ControlError(f"malformed message id {id} after {action} option")
    if action.startswith("-M") and not arguments:
        raise ControlError(f"no message ids given after {action} option")
    if _RUN.fullmatch(action) and len(arguments) > 2:
        raise ControlError(f"{action} takes two message ids at most")


def _complain(text: str) -> None:
    print(safe(text), file=sys.stderr)


class _Command:
    """One command: what it asks, and what it prints."""

    def __init__(
        self,
        action: str,
        out: BinaryIO,
        now: Callable[[], float],
        workers: Workers,
        verbose: bool,
    ) -> None:
        self._action = action
        self._out = out
        self._now = now
        self._workers = workers
        self._verbose = verbose

    def run(self, arguments: list[str]) -> int:
        """Ask every worker and print the answer."""
        action = self._action
        if _LISTING.fullmatch(action):
            return self._list(arguments)
        if action == "-bpc":
            self._print(str(self._workers.total("count", "count")))
            return 0
        if found := _RUN.fullmatch(action):
            return self._run_queue(arguments, found["flags"], first=bool(found["first"]))
        if found := _SELECTED.fullmatch(action):
            text = found["text"] or arguments[0]
            return self._run_selected(
                text, found["what"], found["regex"] or "", found["flags"] or ""
            )
        if action in ("-M", "-Mc"):
            self._run(arguments, force=action == "-M", frozen=action == "-M")
            return 0
        if action in _EDITS:
            return self._edit(arguments[0], arguments[1:])
        if action == "-Mmad":
            return max(self._mark_all(id) for id in arguments)
        if action in _VIEWS:
            return self._view(arguments)
        if action in _CHANGES:
            return max(self._change(id) for id in arguments)
        raise ControlError(f"option {action} is known to Exim, not to mailsrv")

    def _print(self, line: str) -> None:
        self._out.write(safe(line).encode("latin-1") + b"\n")

    def _write(self, text: str, terminal: bool) -> None:
        self._out.write((safe_text(text) if terminal else text).encode("latin-1"))

    # --- listings --------------------------------------------------------------

    def _list(self, ids: list[str]) -> int:
        for id in ids:
            entry = self._workers.entry(id)
            if entry is None:
                self._print(f"      {id}")
                self._print("    *** spool read error: No such file or directory ***")
                self._print("")
            else:
                self._list_one(entry)
        if not ids:
            for each in self._workers.entries():
                self._list_one(each)
        return 0

    def _list_one(self, entry: QueueEntry) -> None:
        left_alone, all_made = "u" in self._action, self._action.endswith("a")
        for line in entry_lines(entry, self._now(), delivered=not left_alone, made=all_made):
            self._print(line)
        self._print("")

    # --- single messages ---------------------------------------------------------

    def _view(self, ids: list[str]) -> int:
        if len(ids) > 1:
            self._print("*** Only one message can be listed at once")
            return 1
        found = False
        terminal = self._out.isatty()
        held = ""  # a CR whose LF may come with the next piece
        for piece in self._workers.text(_VIEWS[self._action], ids[0]):
            found = True
            text = (held + piece).replace("\r\n", "\n")
            held = "\r" if text.endswith("\r") else ""
            self._write(text.removesuffix("\r"), terminal)
        self._write(held, terminal)
        if found:
            return 0
        if self._action in _MISSING:
            _complain(_MISSING[self._action].format(ids[0]))
        else:
            self._print(_NO_FILE.format(ids[0]))
        return 1

    def _change(self, id: str) -> int:
        what, done, already = _CHANGES[self._action]
        (result,) = self._workers.change(what, [id])
        if isinstance(result, str):
            self._print(result)
        elif result is None and what == "remove":
            self._print(f"Message {id} has been removed or did not exist")
        elif result is None:
            self._print(_NO_FILE.format(id))
        elif words := done if result else already:
            self._print(f"Message {id} {words}")
        return 0 if result is True else 1

    def _mark_all(self, id: str) -> int:
        try:
            return self._asked(id, do="mark")
        except ControlError as error:  # it is locked: the others are not
            self._print(str(error))
            return 1

    def _edit(self, id: str, values: list[str]) -> int:
        """Change the envelope: ``-Mar``, ``-Mes``, ``-Mmd``."""
        doing = f"Message {id} - error while {_EDITS[self._action]}:"
        if not values:
            self._print(f"{doing} no address given")
            return 1
        if self._action == "-Mes" and len(values) > 1:
            self._print(f"Message {id} - only one sender address can be specified")
            return 1
        try:
            if self._action == "-Mmd":
                return self._asked(id, do="mark", addresses=values)
            if self._action == "-Mar":
                return self._asked(id, do="edit", added=values)
            return self._asked(id, do="edit", sender=values[0])
        except ControlError as error:
            text = str(error)
            if "address" in text:
                self._print(doing)
                text = f"  {text}"
            self._print(text)
            return 1

    def _asked(self, id: str, do: str, **values: Any) -> int:
        """Ask for a change of the envelope, and tell how it went."""
        for worker in self._workers.each:
            for piece in worker.ask(do, message=id, **values):
                if unknown := piece.get("unknown"):
                    self._print(f"Message {id} - error while {_EDITS['-Mmd']}:")
                    for address in unknown:
                        self._print(f"  {address} is not a recipient: message not updated")
                    return 1
                if piece["changed"]:
                    self._print(f"Message {id} has been modified")
                    return 0
        self._print(_NO_FILE.format(id))
        return 1

    # --- deliveries ----------------------------------------------------------------

    def _run(self, ids: list[str], *, wait: bool = True, **options: bool) -> int:
        """Attempt messages, wait for the end of the attempts; return how many there were."""
        count = 0
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            count += self._workers.total("count", "run", messages=some, wait=wait, **options)
        return count

    def _run_queue(self, part: list[str], flags: str, *, first: bool) -> int:
        """Attempt all messages, or those from an id on, or from one to another (``-q``)."""
        options = {"force": bool(flags), "frozen": flags == "ff"}
        if not part and not first:
            count = self._workers.total("count", "run", messages=[], **options)
        else:
            where = {"start": part[0], "stop": part[1] if part[1:] else ""} if part else {}
            listed = self._of_all(**where)
            ids = [each.id for each in listed if not (first and (each.reason or each.delivered))]
            count = self._run(ids, wait=bool(part), **options)
        self._tell(count, "to be attempted")
        return 0

    def _run_selected(self, text: str, what: str, regex: str, flags: str) -> int:
        """Attempt messages whose recipients (``-R``) or sender (``-S``) have ``text`` in them.

        The first is tried whatever its retry times say; if that mends the hints,
        the others follow (specification 5.2).
        """
        try:
            found = re.compile(text if regex else re.escape(text), re.IGNORECASE)
        except re.error as error:
            raise ControlError(f"{text}: {error}") from None
        frozen = flags == "ff"
        chosen = [
            (entry.received_at, entry.id)
            for entry in self._of_all()
            if not entry.quarantined
            and (frozen or not entry.frozen)
            and any(found.search(one) for one in _subjects(entry, what))
        ]
        ids = [id for _, id in sorted(chosen)]
        self._run(ids[:1], force=True, frozen=frozen)
        self._run(ids[1:], force=bool(flags), frozen=frozen)
        self._tell(len(ids), "attempted")
        return 0

    def _of_all(self, **part: str) -> Iterable[QueueEntry]:
        for worker in self._workers.each:
            yield from entries(worker, **part)

    def _tell(self, count: int, what: str) -> None:
        """Exim says nothing of a queue run, unless it is to be verbose."""
        if self._verbose:
            self._print(f"{count} message{'' if count == 1 else 's'} {what}")


def _subjects(entry: QueueEntry, which: str) -> tuple[str, ...]:
    return entry.recipients if which == "R" else (entry.sender,)

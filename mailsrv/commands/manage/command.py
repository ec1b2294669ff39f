"""``mailsrv queue …``: reads its command line, and prints for people or for programs.

Without a verb it lists.  ``--json`` prints one JSON object a line.  Messages are
read in short pages and printed as they come, whether a server runs or not.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NoReturn, TextIO

from mailsrv.commands.control import ControlError
from mailsrv.commands.invocation import Invocation
from mailsrv.commands.listing import safe
from mailsrv.commands.manage import actions, listed, summary
from mailsrv.commands.manage.progress import Progress
from mailsrv.commands.manage.selection import Selection, age_of
from mailsrv.commands.spools import Workers, opened
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError
from mailsrv.interfaces import QueueEntry
from mailsrv.mail.msgid import is_message_id
from mailsrv.service.requests import BadRequest

VERBS = ("list", "summary", "show", *actions.ACTIONS)


class _Usage(Exception):
    """The command line cannot be obeyed."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Usage(message)


def _parser() -> _Parser:
    parser = _Parser(
        prog="mailsrv queue",
        usage="mailsrv queue [VERB] [ID...] [OPTIONS]",
        description="VERB is list (without one), summary, show, retry, freeze, thaw, bounce"
        " (give up, and tell the sender) or remove (tell nobody).",
        allow_abbrev=False,
    )
    parser.add_argument("ids", nargs="*", metavar="ID", help="message ids")
    parser.add_argument("--sender", metavar="ADDRESS", help="that address; * is any text, <> none")
    parser.add_argument("--recipient", metavar="ADDRESS", help="a recipient that is left")
    parser.add_argument("--domain", metavar="NAME", help="the domain of such a recipient")
    parser.add_argument("--frozen", action="store_true", help="frozen messages alone")
    parser.add_argument("--older-than", metavar="TIME", help="such as 30m, 2h, 1d12h")
    parser.add_argument("--reason", metavar="TEXT", help="text in the last attempt's error")
    parser.add_argument("--all", action="store_true", help="act on all messages")
    parser.add_argument("--yes", action="store_true", help="act without asking")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where it is printed, and who is asked."""

    out: TextIO = field(default_factory=lambda: sys.stdout)
    errors: TextIO = field(default_factory=lambda: sys.stderr)
    input: TextIO = field(default_factory=lambda: sys.stdin)
    now: Callable[[], float] = time.time

    def say(self, text: str) -> None:
        """Print a line; one that somebody sent is harmless."""
        print(text, file=self.out)

    def complain(self, text: str) -> None:
        """Print to the standard error."""
        print(safe(text), file=self.errors)

    @property
    def width(self) -> int:
        """Columns of the terminal; 0: it is none."""
        return shutil.get_terminal_size().columns if self.out.isatty() else 0

    def confirmed(self, question: str) -> bool:
        """Ask; anything but yes is no."""
        self.errors.write(f"{question} [y/N] ")
        self.errors.flush()
        return self.input.readline().strip().lower() in ("y", "yes")


def run(invocation: Invocation, configuration: Configuration) -> int:
    """Carry out a command and return its exit status."""
    return carry_out(lambda: opened(configuration), invocation.arguments, Terminal())


def carry_out(open_workers: Callable[[], Workers], words: Sequence[str], terminal: Terminal) -> int:
    """Carry out a command; 1: it was refused, or not all could be done."""
    try:
        verb = words[0] if words and words[0] in VERBS else "list"
        rest = list(words[1:] if words and words[0] in VERBS else words)
        try:
            given = _parser().parse_intermixed_args(rest)
        except SystemExit as done:  # of --help
            return int(done.code or 0)
        selection = _selection(given)
        if verb == "show" and len(selection.ids) != 1:
            raise _Usage("show takes one message id")
        if verb in actions.ACTIONS and not (selection != Selection() or given.all):
            raise _Usage(f"{verb} what? give message ids, a filter such as --domain, or --all")
        with closing(open_workers()) as workers:
            return _Queue(workers, selection, given, terminal).obey(verb)
    except (_Usage, ValueError) as error:
        terminal.complain(f"mailsrv queue: {error} (mailsrv queue --help)")
        return 1
    except (ConfigError, ControlError, BadRequest) as error:
        terminal.complain(f"mailsrv queue: {error}")
        return 1


def _selection(given: argparse.Namespace) -> Selection:
    for id in given.ids:
        if not is_message_id(id):
            raise _Usage(f"{id!r} is neither a message id nor one of {', '.join(VERBS)}")
    return Selection(
        tuple(dict.fromkeys(given.ids)),
        given.sender,
        given.recipient,
        given.domain,
        given.frozen,
        age_of(given.older_than) if given.older_than else 0.0,
        given.reason or "",
    )


class _Queue:
    """One command."""

    def __init__(
        self,
        workers: Workers,
        selection: Selection,
        given: argparse.Namespace,
        terminal: Terminal,
    ) -> None:
        self._workers = workers
        self._selection = selection
        self._given = given
        self._terminal = terminal
        self._now = terminal.now()

    def obey(self, verb: str) -> int:
        if verb == "list":
            return self._list()
        if verb == "summary":
            return self._summary()
        if verb == "show":
            return self._show(self._selection.ids[0])
        return self._act(verb)

    def _chosen(self, quiet: bool = False) -> Iterator[QueueEntry]:
        """Give the messages that are meant; ``quiet``: what is printed shows how far it is."""
        found: Iterable[QueueEntry]
        if self._selection.ids:
            each = (self._workers.entry(id) for id in self._selection.ids)
            found = (entry for entry in each if entry is not None)
        else:
            found = self._workers.entries()
        if not quiet:
            found = Progress("messages read", 0, self._terminal.errors).over(found)
        return (entry for entry in found if self._selection.takes(entry, self._now))

    # --- what is printed ---

    def _list(self) -> int:
        terminal = self._terminal
        chosen = self._chosen(quiet=terminal.out.isatty())
        if self._given.json:
            for entry in chosen:
                terminal.say(listed.as_json(listed.facts(entry)))
            return 0
        count = -1  # the line of titles
        for line in listed.lines(chosen, self._now, terminal.width):
            terminal.say(safe(line))
            count += 1
        if terminal.out.isatty():
            terminal.say(_messages(max(0, count)))
        return 0

    def _summary(self) -> int:
        groups, total = summary.grouped(self._chosen())
        if self._given.json:
            for group in groups:
                self._terminal.say(listed.as_json(group.facts(self._now)))
            return 0
        for line in summary.lines(groups, total, self._now, self._terminal.width):
            self._terminal.say(safe(line))
        return 0

    def _show(self, id: str) -> int:
        entry = self._workers.entry(id)
        if entry is None:
            self._terminal.complain(f"mailsrv queue: there is no message {id}")
            return 1
        if self._given.json:
            self._terminal.say(listed.as_json(listed.facts(entry)))
            return 0
        header = ""
        for piece in self._workers.text("whole", id):
            header, end, _ = (header + piece.replace("\r\n", "\n")).partition("\n\n")
            if end:
                break
        history = "".join(self._workers.text("log", id))
        for line in listed.shown(entry, header, history, self._now):
            self._terminal.say("\n".join(map(safe, line.split("\n"))))
        return 0

    # --- what is done ---

    def _act(self, verb: str) -> int:
        action, terminal = actions.ACTIONS[verb], self._terminal
        ids = list(self._selection.ids)
        if self._selection.filters or not ids:
            ids = [entry.id for entry in self._chosen()]
            if not ids:
                terminal.say("no such message")
                return 1
        if (action.final or len(ids) > 1) and not self._given.yes:
            if not terminal.input.isatty():
                raise _Usage(f"{verb} {_messages(len(ids))}: say --yes, as nobody can be asked")
            if not terminal.confirmed(f"{action.doing} {_messages(len(ids))}?"):
                terminal.complain("nothing was done")
                return 1
        progress = Progress(action.doing, len(ids), terminal.errors)
        thaw = self._selection.frozen or bool(self._selection.ids)
        say = terminal.say
        done = actions.carry_out(
            action, self._workers, ids, progress, lambda text: say(safe(text)), frozen=thaw
        )
        return 0 if done else 1


def _messages(count: int) -> str:
    return f"{count} message{'' if count == 1 else 's'}"

"""The commands of the program ``mailsrv``: how each is called, where it is, what it does.

A command is a module with a function ``run(invocation, configuration)`` that
returns the exit status; it is imported when it is asked for.  To add one, add
its line here, below the heading that it belongs to.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailsrv.commands.invocation import DEFAULT_FILE, Invocation

if TYPE_CHECKING:
    from mailsrv.config.model import Configuration

Run = Callable[[Invocation, "Configuration | None"], int]


@dataclass(frozen=True, slots=True)
class Command:
    """A command: the options that name it, its module, its lines of help.

    ``options`` is an expression for the option without its hyphen.  ``words``
    are commands without a hyphen: what comes after one is its own.  Options
    ``with_value`` take the next word.  A command that ``needs_configuration``
    not is given None.
    """

    module: str
    help: tuple[tuple[str, str], ...]
    options: str = ""
    words: tuple[str, ...] = ()
    with_value: tuple[str, ...] = ()
    needs_configuration: bool = True

    def named(self, action: str) -> bool:
        """Tell whether an option (without hyphen) or a word is this command."""
        return action in self.words or re.fullmatch(self.options, action) is not None

    def load(self) -> Run:
        """Import the module and return its function."""
        run: Run = importlib.import_module(f"mailsrv.commands.{self.module}").run
        return run


COMMANDS: dict[str, tuple[Command, ...]] = {
    "The configuration": (
        Command("version", (("-bV", "check it; print the version"),), "bV"),
        Command(
            "check",
            (("check", "look for mistakes that -bV accepts; exit status 1 if there are any"),),
            words=("check",),
        ),
        Command(
            "show",
            (
                ("-bP [NAME]...", "print options; NAME is an option, or one of"),
                ("", "routers, router NAME, router_list (the same with transport and"),
                ("", "authenticator), macros, macro NAME, +LIST, config, config_file,"),
                ("", "environment"),
                ("-n -bP NAME...", "print values alone"),
            ),
            "bP",
        ),
        Command(
            "expand",
            (
                ("-be [STRING]...", "expand strings, or the lines of the standard input"),
                ("-bem FILE [STRING]...", "the same for a message; with -t and its recipients"),
            ),
            "bem?",
            with_value=("bem",),
        ),
        Command(
            "information",
            (("-bI:help, :dscp, :sieve", "lists for other programs"),),
            "bI:.*",
            needs_configuration=False,
        ),
        Command(
            "retry",
            (("-brt ADDRESS [DOMAIN] [ERROR]", "print the retry rule that would be used"),),
            "brt",
        ),
        Command(
            "route",
            (
                ("-bt [ADDRESS]...", "print where addresses are routed to; without any: lines of"),
                ("", "the standard input; with -f SENDER"),
                ("-bv, -bvs [ADDRESS]...", "verify recipients, or senders"),
            ),
            "bt|bvs?",
        ),
        Command(
            "session",
            (
                ("-bh HOST", "an SMTP session as if from an IP address, on the terminal; nothing"),
                ("", "is stored or delivered; -bhc: with callouts"),
            ),
            "bhc?",
            with_value=("bh", "bhc"),
        ),
        Command(
            "rewrite",
            (("-brw ADDRESS", "print what the rewriting rules make of an address"),),
            "brw",
        ),
    ),
    "The server": (
        Command(
            "daemon",
            (
                ("-bd", "serve, in the background"),
                ("-bdf", "serve, in the foreground (the same as: twistd -n mailsrv)"),
            ),
            "bdf?",
        ),
    ),
    "The queue": (
        Command(
            "queue",
            (
                ("-bp", "list it"),
                ("-bpa, -bpu, -bpr", "with generated addresses, only undelivered ones, unsorted"),
                ("-bpc", "count its messages"),
                (
                    "-q [ID [ID]]",
                    "try what is due (from ID, to ID); -qi: what is new; -qf: all that",
                ),
                ("", "is not frozen, whatever the retry times say; -qff: all"),
                ("-M, -Mc ID...", "deliver these messages now; -Mc: if their time has come"),
                (
                    "-R[r][f[f]], -S... TEXT",
                    "deliver messages with TEXT in a recipient or the sender (r: a regex)",
                ),
                ("-Mvh, -Mvb, -Mvl ID", "print a message's header, body, log; -Mvc: the message"),
                (
                    "-Mrm ID...",
                    "remove messages; -Mf freezes, -Mt thaws them, -Mg gives them up",
                ),
                ("-Mar ID ADDRESS...", "add recipients; -Mes ID ADDRESS changes the sender"),
                ("-Mmd ID ADDRESS...", "deliver no more to these; -Mmad ID: to nobody"),
            ),
            r"bp(?:c|r?[au]?)|M(?:|[cfgt]|ar|es|mad|md|rm|v[bchl])|qq?i?f{0,2}|q?[RS].*",
        ),
        Command(
            "manage.command",
            (
                ("queue [FILTER]...", "list it as a table; mailsrv queue --help tells of filters,"),
                ("", "summary, show, retry, freeze, thaw, bounce, remove"),
            ),
            words=("queue",),
        ),
    ),
}

_KNOWN_TO_EXIM = re.compile(
    r"b[a-zA-Z]+(?::.*)?|d.*|E.*|e.*|F.*|G|h.*|i|L.*|M.*|m|N|O.*|o.*|p.*|r.*|t.*|U|X.*|x|q.+"
)


def find(action: str) -> Command | None:
    """Return the command that an option (without its hyphen) or a word names."""
    for commands in COMMANDS.values():
        for command in commands:
            if command.named(action):
                return command
    return None


def is_word(text: str) -> bool:
    """Tell whether a word without a hyphen is a command."""
    return any(text in each.words for commands in COMMANDS.values() for each in commands)


def known_to_exim(option: str) -> bool:
    """Tell whether Exim has this option (without its hyphen)."""
    return _KNOWN_TO_EXIM.fullmatch(option) is not None


def help_text() -> str:
    """What ``--help`` prints."""
    rows = [
        ("-C FILE, --config FILE", f"the configuration; without it {DEFAULT_FILE}"),
        ("-DNAME=VALUE", "define a macro, whatever the configuration says of it"),
    ]
    lines = ["usage: mailsrv [-C FILE] [-DNAME=VALUE]... COMMAND", "", *map(_row, rows)]
    for heading, commands in COMMANDS.items():
        lines += ["", heading, *(_row(row) for each in commands for row in each.help)]
    return "\n".join([*lines, "", "  --version, --help"])


def _row(row: tuple[str, str]) -> str:
    call, meaning = row
    return f"  {call:<24} {meaning}"

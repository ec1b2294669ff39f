"""The program ``mailsrv``: Exim's command line (chapter 5), and which command it means.

Each command is a function in a module of its own that takes the configuration
and returns the exit status.  Messages on faults go to the standard error.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from mailsrv import __version__
from mailsrv.commands.terminal import octets, say
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigErrors

DEFAULT_FILE = "/etc/mailsrv/exim.conf"

HELP = f"""\
usage: mailsrv [-C FILE] [-DNAME=VALUE]... COMMAND

  -C FILE, --config FILE   the configuration; without it {DEFAULT_FILE}
  -DNAME=VALUE             define a macro, whatever the configuration says of it

The configuration
  -bV                      check it; print the version
  -bP [NAME]...            print options; NAME is an option, or one of
                           routers, router NAME, router_list (the same with transport and
                           authenticator), macros, macro NAME, +LIST, config, config_file
  -n -bP NAME...           print values alone
  -be [STRING]...          expand strings, or the lines of the standard input

The server
  -bd                      serve, in the background
  -bdf                     serve, in the foreground (the same as: twistd -n mailsrv)

The queue
  -bp                      list it
  -bpa, -bpu, -bpr         list it with generated addresses, only undelivered ones, unsorted
  -bpc                     count its messages
  -q, -qf [ID [ID]]        try all messages now (from ID, to ID) that are not frozen; -qff: all
  -M, -Mc ID...            deliver these messages now; -Mc: if their time has come
  -R[r][f[f]], -S... TEXT  deliver messages with TEXT in a recipient or the sender (r: a regex)
  -Mvh, -Mvb, -Mvl ID      print a message's header, body, log
  -Mrm ID...               remove messages; -Mf freezes, -Mt thaws them, -Mg gives them up
  -Mar ID ADDRESS...       add recipients; -Mes ID ADDRESS changes the sender
  -Mmd ID ADDRESS...       deliver no more to these; -Mmad ID: to nobody

  --version, --help"""

_QUEUE_COMMAND = re.compile(r"-(bp[acriu]*|M[a-zA-Z]*|q[qi]?(?:f{0,2})l?|R.*|S.*)")
_KNOWN_TO_EXIM = re.compile(
    r"-(b[a-zA-Z]+|d.*|E.*|e.*|F.*|f.*|G|h.*|i|L.*|MC.*|m|N|O.*|o.*|p.*|r.*|t.*|U|v|X.*|x|q.+)"
)


class UsageError(Exception):
    """The command line cannot be obeyed; the text says why."""


@dataclass(slots=True)
class Invocation:
    """A command line: what to do with which configuration.

    ``action`` is the option without its hyphen: ``bV``, ``bP``, ``Mvh``, ``help`` ...
    """

    action: str = ""
    arguments: list[str] = field(default_factory=list)
    file: str = DEFAULT_FILE
    macros: dict[str, str] = field(default_factory=dict)
    names: bool = True  # False for -n


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (without the program's name); returns the exit status."""
    try:
        invocation = parse(list(sys.argv[1:] if argv is None else argv))
    except UsageError as problem:
        print(f"mailsrv: {problem}", file=sys.stderr)
        return 1
    if invocation.action == "help":
        print(HELP)
        return 0
    if invocation.action == "version":
        print(f"mailsrv {__version__}")
        return 0
    from mailsrv.config.read import read

    try:
        configuration = read(invocation.file, invocation.macros)
    except ConfigErrors as problems:
        for error in problems.errors:
            say(f"mailsrv: {error}", error=True)
        return 1
    try:
        return _run(invocation, configuration)
    except BrokenPipeError:  # the reader of our output has gone: nothing more to say to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def parse(words: list[str]) -> Invocation:
    """Return what a command line asks for.

    :raises UsageError: an option that is not known, or two commands.
    """
    found = Invocation()
    while words:
        word = words.pop(0)
        if word in ("-C", "--config"):
            found.file = os.path.abspath(_argument(word, words))
        elif word.startswith("--config="):
            found.file = os.path.abspath(word.partition("=")[2])
        elif word.startswith("-C"):
            found.file = os.path.abspath(word[2:])
        elif word.startswith("-D"):
            name, value = _macro(word[2:] or _argument(word, words))
            found.macros[name] = value
        elif word == "-n":
            found.names = False
        elif word in ("--help", "-help", "-h"):
            found.action = "help"
        elif word in ("--version", "-version"):
            found.action = "version"
        elif word == "--":
            found.arguments += map(octets, words)
            words.clear()
        elif word.startswith("-") and len(word) > 1:
            _command(found, word)
        else:
            found.arguments.append(octets(word))
    if not found.action:
        raise UsageError("no command given: try mailsrv --help")
    return found


def _argument(option: str, words: list[str]) -> str:
    if not words:
        raise UsageError(f"{option} needs an argument")
    return words.pop(0)


def _macro(text: str) -> tuple[str, str]:
    """Return name and value of a macro definition on the command line."""
    name, _, value = text.partition("=")
    name = name.strip(" ")
    if not re.match("[A-Z]", name):
        raise UsageError("macro name set by -D must start with an upper case letter")
    if not re.fullmatch(r"\w+", name, re.ASCII):
        raise UsageError(f'"{name}" is no name of a macro')
    return name, octets(value.strip(" "))


def _command(found: Invocation, word: str) -> None:
    """Take the option that names the command."""
    commands = ("-bV", "-bP", "-be", "-bd", "-bdf")
    if word not in commands and not _QUEUE_COMMAND.fullmatch(word):
        if _KNOWN_TO_EXIM.fullmatch(word):
            raise UsageError(f"option {word} is known to Exim, not to mailsrv")
        raise UsageError(f"unknown option {word}: try mailsrv --help")
    if found.action:
        raise UsageError(f"-{found.action} and {word} cannot be used together")
    found.action = word[1:]


def _run(invocation: Invocation, configuration: Configuration) -> int:
    """Hand over to the command's own module."""
    action, arguments = invocation.action, invocation.arguments
    if action == "bV":
        from mailsrv.commands import check

        return check.main(configuration)
    if action == "bP":
        from mailsrv.commands import show

        return show.main(configuration, arguments, names=invocation.names)
    if action == "be":
        from mailsrv.commands import expand

        return expand.main(configuration, arguments)
    if action in ("bd", "bdf"):
        from mailsrv.commands import daemon

        template = configuration.main.pid_file_path
        return daemon.run(
            invocation.file,
            invocation.macros,
            foreground=action == "bdf",
            pid_file=template.constant or "",
        )
    from mailsrv.commands import queue

    return queue.main(configuration, f"-{action}", arguments)

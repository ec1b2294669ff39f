"""The program ``mailsrv``: Exim's command line (chapter 5), and which command it means.

The commands are in :mod:`mailsrv.commands.table`.  Messages on faults go to
the standard error.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mailsrv import __version__
from mailsrv.commands.invocation import Invocation, UsageError
from mailsrv.commands.table import find, help_text, is_word, known_to_exim
from mailsrv.commands.terminal import octets, say
from mailsrv.errors import ConfigError, ConfigErrors

if TYPE_CHECKING:
    from mailsrv.config.model import Configuration


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (without the program's name); returns the exit status."""
    try:
        invocation = parse(list(sys.argv[1:] if argv is None else argv))
    except UsageError as problem:
        print(f"mailsrv: {problem}", file=sys.stderr)
        return 1
    if invocation.action == "help":
        print(help_text())
        return 0
    if invocation.action == "version":
        print(f"mailsrv {__version__}")
        return 0
    command = find(invocation.action)
    assert command is not None, "parse() takes commands only"
    if not command.needs_configuration:
        return command.load()(invocation, None)
    from mailsrv.config.read import read

    if invocation.action == "bV":
        from mailsrv.commands.version import tell

        tell()  # it is wanted above all where the configuration is refused
    try:
        configuration = read(invocation.file, invocation.macros, more=_faults)
    except ConfigErrors as problems:
        for error in problems.errors:
            say(f"mailsrv: {error}", error=True)
        return 1
    try:
        return command.load()(invocation, configuration)
    except ConfigError as problem:  # what only its use finds, such as a faulty python_startup
        say(f"mailsrv: {problem}", error=True)
        return 1
    except BrokenPipeError:  # the reader of our output has gone: nothing more to say to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _faults(configuration: Configuration) -> list[ConfigError]:
    from mailsrv.service.environment import faults  # only where a file is refused

    return faults(configuration)


def parse(words: list[str]) -> Invocation:
    """Return what a command line asks for.

    :raises UsageError: an option that is not known, or two commands.
    """
    found = Invocation()
    while words:
        word = words.pop(0)
        if word in ("-C", "--config"):
            found.file = _first_file(_argument(word, words))
        elif word.startswith("--config="):
            found.file = _first_file(word.partition("=")[2])
        elif word.startswith("-C"):
            found.file = _first_file(word[2:])
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
        elif word == "-t":
            found.extract = True
        elif word == "-v":
            found.verbose = True
        elif re.fullmatch(r"-q[0-9]+[smhdw][0-9smhdw]*", word):
            found.period = word
        elif word.startswith("-f") and not found.action.startswith("q"):
            found.sender = octets(word[2:] or _argument(word, words))
        elif word.startswith("-") and len(word) > 1:
            _command(found, word, words)
        elif not found.action and is_word(word):
            found.action = word
            found.arguments += map(octets, words)
            words.clear()
        else:
            found.arguments.append(octets(word))
    if found.period and not found.action.startswith("bd"):
        raise UsageError(f"{found.period} without -bd: the server retries without queue runs")
    if not found.action:
        raise UsageError("no command given: try mailsrv --help")
    return found


def _first_file(names: str) -> str:
    """Return the first file of a list that exists, as Exim takes it; the last if none does."""
    paths = [os.path.abspath(name.strip()) for name in names.split(":") if name.strip()]
    return next((path for path in paths if os.path.exists(path)), (paths or [""])[-1])


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


def _command(found: Invocation, word: str, words: list[str]) -> None:
    """Take the option or the word that names the command."""
    action = word.removeprefix("-")
    command = find(action)
    if command is None:
        if known_to_exim(action):
            raise UsageError(f"option {word} is known to Exim, not to mailsrv")
        raise UsageError(f"unknown option {word}: try mailsrv --help")
    if found.action:
        raise UsageError(f"-{found.action} and {word} cannot be used together")
    found.action = action
    if action in command.with_value:
        found.value = octets(_argument(word, words))

"""``mailsrv -be``: expand strings, or the lines of the standard input (specification 5.2, 11.3)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TextIO

from mailsrv.commands.terminal import say
from mailsrv.config.model import Configuration
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import compile_string
from mailsrv.expansion.tree import drive
from mailsrv.lookup import registry
from mailsrv.service.environment import WallClock, make_services


def expand_line(text: str, scope: Scope) -> tuple[str, bool]:
    """Expand one string; returns what to print, and whether it is a result."""
    try:
        return drive(compile_string(text).expand(scope)), True
    except TemporaryFailure as error:
        return f"Failed: {error.reason}", False
    except TypeError as error:
        return f"Failed: {error}", False


def _lines(stream: TextIO) -> Iterator[str]:
    """Lines as octets; a backslash at the end of one joins the next, without its white space."""
    held = ""
    interactive = stream.isatty()
    while True:
        if interactive:
            print("> ", end="", flush=True)
        line = stream.buffer.readline().decode("latin-1")
        if not line:
            if held:
                yield held
            return
        line = (line.lstrip(" \t") if held else line).rstrip("\n")
        if line.endswith("\\"):
            held += line[:-1]
            continue
        yield held + line
        held = ""


def main(configuration: Configuration, arguments: Iterable[str]) -> int:
    """Print the expansion of each string, or how it fails; returns 0."""
    scope = Scope(make_services(configuration, WallClock(), registry()))
    given = list(arguments)
    for text in given or _lines(sys.stdin):
        result, _ = expand_line(text, scope)
        say(result)
    return 0

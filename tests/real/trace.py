"""A system-call trace of ``strace -f -y``, as events in the order in which calls ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CALLS = "read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,pwritev,fsync,fdatasync"

_WHOLE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
_BEGUN = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_ENDED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+)")
_FILE = re.compile(r"^(\d+)<(.*?)>(?:, |$)")


@dataclass(frozen=True, slots=True)
class Call:
    """A call: its name, the path or socket of its first argument, all arguments, its result.

    ``begun`` and ``ended`` are line numbers of the trace: the order of events in all threads.
    """

    name: str
    file: str
    arguments: str
    result: int
    begun: int
    ended: int


def command(output: Path) -> tuple[str, ...]:
    """Return the words to put before a command, so that its calls are written to ``output``.

    Data is shown whole up to a page of a database.
    """
    return ("strace", "-f", "-y", "-s", "4200", "-e", f"trace={CALLS}", "-o", str(output))


def calls(output: Path) -> Iterator[Call]:
    """Read a trace."""
    begun: dict[str, tuple[int, str, str]] = {}
    for number, line in enumerate(output.read_text("latin-1").split("\n")):
        if match := _BEGUN.match(line):
            thread, name, arguments = match.groups()
            begun[thread] = (number, name, arguments)
        elif match := _ENDED.match(line):
            thread, name, rest, result = match.groups()
            start, name, arguments = begun.pop(thread, (number, name, ""))
            yield _call(name, arguments + rest, result, start, number)
        elif match := _WHOLE.match(line):
            _, name, arguments, result = match.groups()
            yield _call(name, arguments, result, number, number)


def _call(name: str, arguments: str, result: str, begun: int, ended: int) -> Call:
    match = _FILE.match(arguments)
    return Call(name, match[2] if match else "", arguments, int(result), begun, ended)

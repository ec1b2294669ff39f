"""Command lines of the pipe transport: cut into arguments, each expanded (specification 29.3)."""

from __future__ import annotations

from collections.abc import Sequence

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import compile_string
from mailsrv.mail.taint import is_tainted, like

ADDRESSES = "$pipe_addresses"
PIPE = ("$address_pipe", "${address_pipe}")


def split(line: str) -> list[str]:
    """Return the arguments of a command line.

    White space separates them.  An argument that begins with a quote goes to the next one:
    backslashes are escapes in double quotes, and nothing is in single ones.
    """
    arguments: list[str] = []
    position = 0
    while True:
        while position < len(line) and line[position].isspace():
            position += 1
        if position >= len(line):
            return arguments
        if line[position] == "'":
            end = line.find("'", position + 1)
            end = len(line) if end < 0 else end
            arguments.append(like(line[position + 1 : end], line))
            position = end + 1
        elif line[position] == '"':
            text, position = _quoted(line, position + 1)
            arguments.append(like(text, line))
        else:
            start = position
            while position < len(line) and not line[position].isspace():
                position += 1
            arguments.append(like(line[start:position], line))


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v"}


def _quoted(line: str, position: int) -> tuple[str, int]:
    """Return the text up to the closing quote, or the end, and where it goes on."""
    text = []
    while position < len(line) and line[position] != '"':
        if line[position] == "\\" and position + 1 < len(line):
            position += 1
            text.append(_ESCAPES.get(line[position], line[position]))
        else:
            text.append(line[position])
        position += 1
    return "".join(text), position + 1


async def arguments_of(
    line: str, scope: Scope, addresses: Sequence[str], pipe: str = ""
) -> list[str]:
    """Return the expanded arguments of a ``command`` option.

    An argument that is just ``$pipe_addresses`` becomes all ``addresses``, and
    ``$address_pipe`` the arguments of ``pipe``, for force_command ("": it is not special).

    :raises TemporaryFailure: an expansion fails.
    """
    found: list[str] = []
    for argument in split(line):
        if argument == ADDRESSES:
            found += [str(address) for address in addresses]  # Exim's one exception, too
        elif pipe and argument in PIPE:
            found += split(like(pipe[1:], pipe))
        else:
            found.append(await _expanded(argument, scope))
    return found


async def _expanded(argument: str, scope: Scope) -> str:
    try:
        return await compile_string(argument).expand(scope)
    except TemporaryFailure as failure:
        reason = f'Expansion of "{argument}" from command failed: {failure.reason}'
        raise TemporaryFailure(reason=reason) from failure


def untainted(arguments: Sequence[str], name: str) -> tuple[str, ...]:
    """Return arguments that are none of the network's.

    :raises TemporaryFailure: one is.
    """
    for number, argument in enumerate(arguments):
        if is_tainted(argument):
            what = f"arg {number} for" if number else "command of"
            raise TemporaryFailure(
                reason=f"Tainted {what} {name} transport: {str(argument)!r}; use $local_part_data "
                "or $domain_data, or give it in the environment or on the standard input"
            )
        if "\0" in argument:
            raise TemporaryFailure(reason=f"NUL in an argument for {name} transport")
    return tuple(str(argument) for argument in arguments)

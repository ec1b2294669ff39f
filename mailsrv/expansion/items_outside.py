"""Items that reach outside the string: ``run``; and ``imapfolder`` (specification 11.5)."""

from __future__ import annotations

import re

from mailsrv.expansion.branches import parse_branches
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.items import item
from mailsrv.expansion.parse import Parser, parse
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.tree import Apart, Lazy, Node, Text, any_waits, evaluate
from mailsrv.mail.taint import is_tainted, like

RUN_LIMIT = 60.0  # seconds, as in Exim
MOST_OUTPUT = 1 << 20  # octets of a command's output that are kept
NOT_RUN = 127  # $runrc of a command that cannot be executed
_WORD = re.compile(r"'([^']*)'?|\"((?:[^\"\\]|\\.)*)\"?|([^ \t\n\r\v\f]+)", re.DOTALL)


def words_of(text: str) -> list[str]:
    """Divide a command: at white space, but not within quotes (specification 29.3)."""
    found = []
    for match in _WORD.finditer(text):
        single, double, plain = match.groups()
        if double is not None:
            found.append(re.sub(r"\\(.)", r"\1", double))
        else:
            found.append(single if single is not None else plain)
    return found


@item("run")
def _run(parser: Parser) -> Node:
    """A command, divided into words before they are expanded (or after, with ``preexpand``)."""
    preexpand = False
    while parser.take(","):
        option = parser.name()
        if option != "preexpand":
            raise ExpansionError(f"bad option '{option}' for run")
        preexpand = True
    parser.skip_space()
    if parser.peek() != "{":
        raise ExpansionError("missing '{' for command arg of run")
    start = parser.position + 1
    whole, raw = parser.verbatim()
    nodes = [whole] if preexpand else [_word(word, raw, start) for word in words_of(raw)]
    branches = parse_branches(parser, "run")

    async def run(scope: Scope) -> str:
        words = [await evaluate(node, scope) for node in nodes]
        if preexpand:
            words = [like(word, words[0]) for word in words_of(words[0])]
        for number, word in enumerate(words):
            if is_tainted(word):
                raise ExpansionError(
                    f"tainted arg {number} for ${{run}} command: '{word}' "
                    "(use $local_part_data, $domain_data or a lookup)"
                )
        status, output = await scope.services.in_thread(_execute, [str(word) for word in words])
        inner = scope.within({"runrc": str(status), "value": output})
        if status == 0:
            return await branches.accept(inner, output)
        return await branches.decline(inner)

    return Lazy(run, waits=True)


def _word(word: str, command: str, start: int) -> Node:
    """Read a word of a command that begins at ``start``.  :raises ExpansionError: says in which."""
    try:
        node = parse(word)
        return node if isinstance(node, Text) else Apart(node)
    except ExpansionError as error:
        where = f'Expansion of "{word}" from command "{command}" in ${{run}}'
        raise ExpansionError(f"{where} expansion failed: {error.reason}", start) from None


def _execute(words: list[str]) -> tuple[int, str]:
    """Run a command without a shell; return its status and output.  Blocks.

    :raises ExpansionError: it takes too long.
    """
    import subprocess

    if not words or "/" not in words[0]:  # no PATH is searched
        return NOT_RUN, ""
    try:
        done = subprocess.run(
            [word.encode("latin-1") for word in words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=RUN_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ExpansionError("command timed out") from None
    except (OSError, ValueError):
        return NOT_RUN, ""
    code = done.returncode
    return (code if code >= 0 else 256 - code), done.stdout[:MOST_OUTPUT].decode("latin-1")


@item("imapfolder")
def _imapfolder(parser: Parser) -> Node:
    nodes = parser.arguments(1, 3, "imapfolder")

    async def run(scope: Scope) -> str:
        values = [await evaluate(node, scope) for node in nodes]
        separator = values[1] if len(values) > 1 else "/"
        if len(separator) != 1:
            raise ExpansionError(
                f'IMAP folder separator must be one character, found "{separator}"'
            )
        special = values[2] if len(values) > 2 else ""
        return like(_imap(values[0], separator, special), *values)

    return Lazy(run, waits=any_waits(*nodes))


def _imap(text: str, separator: str, special: str) -> str:
    """Return a folder's name in the modified UTF-7 of IMAP (RFC 3501 5.1.3)."""
    from base64 import b64encode

    name = text.encode("latin-1").decode("utf-8", "replace").lstrip("/" if separator == "/" else "")
    found: list[str] = []
    shifted: list[str] = []

    def flush() -> None:
        if shifted:
            coded = b64encode("".join(shifted).encode("utf-16-be")).decode("ascii").rstrip("=")
            found.append(f"&{coded.replace('/', ',')}-")
            shifted.clear()

    for character in name:
        if character == separator:
            flush()
            found.append(".")
        elif character == "&":
            flush()
            found.append("&-")
        elif not " " <= character <= "~" or character in special:
            shifted.append(character)
        elif character in "./":
            raise ExpansionError(f"imapfolder: illegal character '{character}'")
        else:
            flush()
            found.append(character)
    flush()
    return "".join(found)

"""The form of the files of linear searches (specification 9.3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from mailsrv.expansion.structured import unescape
from mailsrv.lookup._files import FileCache, Threads

T = TypeVar("T")

WHAT = "linear search"

_SPACE = " \t\r\v\f"
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"?', re.DOTALL)
_KEY = re.compile(r"[^: \t\r\v\f]*")
_COLON = re.compile(r"^[ \t\r\v\f]*:?[ \t\r\v\f]*")


def entries(text: str, *, full: bool = False) -> Iterator[tuple[str, str]]:
    """Keys and data of a file: ``key: data``, continued on lines that begin with white space.

    Lines that are empty or begin with ``#`` are comments, also between
    continuation lines.  A key may be quoted.  With ``full`` the data is the
    whole line, its key without the quotes (``ret=full``).
    """
    key: str | None = None
    data: list[str] = []
    for line in text.split("\n"):
        line = line.rstrip(_SPACE)
        if not line or line[0] == "#":
            continue
        if line[0] in _SPACE:
            if key is not None:
                data.append(" " + line.strip(_SPACE))
            continue
        if key is not None:
            yield key, "".join(data)
        key, rest = _split_line(line)
        data = [key + rest if full else _COLON.sub("", rest, count=1)]
    if key is not None:
        yield key, "".join(data)


def _split_line(line: str) -> tuple[str, str]:
    if line[0] == '"':
        match = _QUOTED.match(line)
        assert match is not None
        key, end = unescape(match[1]), match.end()
    else:
        plain = _KEY.match(line)
        assert plain is not None
        key, end = plain[0], plain.end()
    return key, line[end:]


class Files(Generic[T]):
    """Parsed files; those that are looked up with ``ret=full`` (9.3) are kept as such, too."""

    def __init__(
        self, parse: Callable[[Iterable[tuple[str, str]]], T], threads: Threads | None
    ) -> None:
        def parser(full: bool) -> Callable[[bytes], T]:
            return lambda content: parse(entries(content.decode("latin-1"), full=full))

        self._files = [FileCache(parser(full), WHAT, threads) for full in (False, True)]

    async def get(self, path: str, options: str) -> T:
        """The parsed file."""
        return await self._files["ret=full" in options.split(",")].get(path)

"""The form of the files of linear searches (specification 9.3)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailsrv.expansion.structured import unescape

WHAT = "linear search"

_SPACE = " \t\r\v\f"
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"?', re.DOTALL)
_KEY = re.compile(r"[^: \t\r\v\f]*")
_COLON = re.compile(r"[ \t\r\v\f]*:?[ \t\r\v\f]*")


def entries(text: str) -> Iterator[tuple[str, str]]:
    """Keys and data of a file: ``key: data``, continued on lines that begin with white space.

    Lines that are empty or begin with ``#`` are comments, also between
    continuation lines.  A key may be quoted.
    """
    key: str | None = None
    data: list[str] = []
    for line in text.split("\n"):
        line = line.rstrip(_SPACE)
        if not line or line[0] == "#":
            continue
        if line[0] in _SPACE:
            if key is not None:
                data.append(line.strip(_SPACE))
            continue
        if key is not None:
            yield key, " ".join(piece for piece in data if piece)
        key, first = _split_line(line)
        data = [first]
    if key is not None:
        yield key, " ".join(piece for piece in data if piece)


def _split_line(line: str) -> tuple[str, str]:
    if line[0] == '"':
        match = _QUOTED.match(line)
        assert match is not None
        key, end = unescape(match[1]), match.end()
    else:
        plain = _KEY.match(line)
        assert plain is not None
        key, end = plain[0], plain.end()
    colon = _COLON.match(line, end)
    assert colon is not None
    return key, line[colon.end() :]


def returned(key: str, data: str, options: str) -> str:
    """Obey ``ret=key`` and ``ret=full`` (9.3)."""
    if "ret=full" in options.split(","):
        return f"{key}: {data}"
    return key if "ret=key" in options.split(",") else data

"""The table of items ``${name…}``: how each is read (specification 11.5).

An eager item is a pure function of its evaluated arguments::

    @eager("tr", 3)
    def _tr(subject, characters, replacements): ...

A lazy one reads itself, and gives a node::

    @item("if")
    def _if(parser): ...

``items_…`` modules hold the larger groups.
"""

from __future__ import annotations

import hashlib
import hmac as hmac_module
import re
from collections.abc import Callable

from mailsrv.expansion import textual
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.parse import NOT_BUILT, Parser
from mailsrv.expansion.tree import Eager, Node

Reader = Callable[[Parser], Node]

ITEMS: dict[str, Reader] = {}

# What runs code of one's own in Exim, with the least and the most number of its arguments.
_FOREIGN = {"dlfunc": (2, 10), "perl": (1, 9)}


def item(name: str) -> Callable[[Reader], Reader]:
    """Register an item that reads itself."""

    def register(reader: Reader) -> Reader:
        ITEMS[name] = reader
        return reader

    return register


def eager(
    name: str, least: int, most: int | None = None, *, clean: bool = False
) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Register a pure function of ``least`` to ``most`` strings."""

    def register(function: Callable[..., str]) -> Callable[..., str]:
        def read(parser: Parser) -> Node:
            arguments = parser.arguments(least, most or least, name)
            return Eager(function, arguments, clean=clean)

        ITEMS[name] = read
        return function

    return register


def _numbered(name: str, values: tuple[str, ...]) -> tuple[int, int | None, str]:
    """The numbers and the subject of ``substr`` and its kin."""
    numbers: list[int] = []
    for index, value in enumerate(values[:-1]):
        match = re.fullmatch(r"[ \t\n\r\v\f]*([+-]?[0-9]{1,18})", value or "0", re.ASCII)
        positive = index > 0 or name == "length"
        if not match or (positive and int(match[1]) < 0):
            kind = " positive" if positive else ""
            raise ExpansionError(f'"{value}" is not a{kind} number (in "{name}" expansion)')
        numbers.append(int(match[1]))
    return numbers[0], numbers[1] if len(numbers) > 1 else None, values[-1]


@eager("substr", 2, 3)
def _substr(*values: str) -> str:
    return textual.substr(*_numbered("substr", values))


@eager("length", 2)
def _length(*values: str) -> str:
    length, _, subject = _numbered("length", values)
    return subject[:length]


@eager("hash", 2, 3)
def _hash(*values: str) -> str:
    return textual.hashed(*_numbered("hash", values))


@eager("nhash", 2, 3, clean=True)
def _nhash(*values: str) -> str:
    return textual.nhash(*_numbered("nhash", values))


@eager("tr", 3)
def _tr(subject: str, characters: str, replacements: str) -> str:
    return textual.translate(subject, characters, replacements)


@eager("hmac", 3, clean=True)
def _hmac(name: str, secret: str, text: str) -> str:
    if name not in ("md5", "sha1"):
        raise ExpansionError(f'hmac algorithm "{name}" is not recognised')
    digest = {"md5": hashlib.md5, "sha1": hashlib.sha1}[name]
    return hmac_module.new(secret.encode("latin-1"), text.encode("latin-1"), digest).hexdigest()


@eager("listquote", 2)
def _listquote(separator: str, text: str) -> str:
    if not separator:
        return text or " "
    return text.replace(separator[0], separator[0] * 2) or " "


def _foreign(name: str, least: int, most: int) -> Reader:
    def read(parser: Parser) -> Node:
        parser.arguments(least, most, name)
        raise ExpansionError(f"${{{name}}}: {NOT_BUILT}; functions in Python: ${{python{{…}}}}")

    return read


for _name, (_least, _most) in _FOREIGN.items():
    ITEMS[_name] = _foreign(_name, _least, _most)


def _load() -> None:
    from mailsrv.expansion import (  # noqa: F401
        items_branching,
        items_certificates,
        items_lists,
        items_outside,
        items_prvs,
        items_python,
        items_results,
        items_socket,
        items_srs,
    )


_load()

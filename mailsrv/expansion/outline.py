"""What a string consists of: a tree to look at and to print, made as the parser reads.

The nodes that are evaluated are made of functions; here is what they were
made from.  ``str(outline(text))`` is the string in one fixed form: escapes
where they are needed, braces around each name, no idle white space.  It reads
as the same tree again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailsrv.expansion.tree import Condition, Node

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\xff\\$}]")
_WHOLE_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\xff\\$]")  # not in braces


@dataclass(frozen=True, slots=True)
class Text:
    """Text, without its escapes."""

    text: str

    def __str__(self) -> str:
        return _UNSAFE.sub(_escaped, self.text)


@dataclass(frozen=True, slots=True)
class Syntax:
    """What an item reads itself: its name, braces, options; ``verbatim`` white space counts."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Piece:
    """A string, or what stands in one: ``start`` and ``end`` are offsets in the whole."""

    parts: tuple[Piece | Text | Syntax, ...]
    start: int = field(compare=False)
    end: int = field(compare=False)

    def __str__(self) -> str:
        return "".join(map(str, self.parts))

    def pieces(self) -> Iterator[Piece]:
        """Yield the pieces in this one, in order."""
        return (part for part in self.parts if isinstance(part, Piece))


class String(Piece):
    """A string: text and items, one after the other."""


class Item(Piece):
    """What stands behind a dollar."""


class Test(Piece):
    """A condition."""


def whole(string: Piece) -> str:
    """Print a string that is not in braces."""
    return "".join(
        _WHOLE_UNSAFE.sub(_escaped, part.text) if isinstance(part, Text) else str(part)
        for part in string.parts
    )


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if character in _ESCAPES:
        return _ESCAPES[character]
    return f"\\{character}" if character in "\\$}" else f"\\x{ord(character):02x}"


@dataclass(slots=True)
class _Open:
    """What is being read."""

    start: int
    reached: int  # up to where its parts are taken
    parts: list[Piece | Text | Syntax] = field(default_factory=list)


class Recorder:
    """What a parser tells while it reads; ``last`` is the piece that ended last."""

    def __init__(self, text: str) -> None:
        self.last: Piece = String((), 0, 0)
        self._text = text
        self._open: list[_Open] = [_Open(0, 0)]

    def begin_string(self, at: int) -> None:
        """A string begins within an item or condition."""
        if len(self._open) > 1:
            self._syntax(at)
        self._open.append(_Open(at, at))

    def begin_item(self, at: int) -> None:
        """An item begins within a string."""
        self._open.append(_Open(at, at))

    def begin_test(self, at: int) -> None:
        """A condition begins within an item or condition."""
        self._syntax(at)
        self._open.append(_Open(at, at))

    def text(self, text: str) -> None:
        """Some text was read."""
        if text:
            self._open[-1].parts.append(Text(text))

    def header(self, start: int, end: int) -> None:
        """The name of a header field was read: it ends with a colon, or as if with one."""
        self._syntax(start)
        name = self._text[start:end].removesuffix(":")
        self._open[-1].parts.append(Syntax(f"{name}:"))
        self._open[-1].reached = end

    def end_string(self, at: int) -> None:
        """A string ends; after a NUL there is nothing."""
        parts: list[Piece | Text | Syntax] = []
        for part in self._open[-1].parts:
            if isinstance(part, Text) and "\0" in part.text:
                before = part.text.partition("\0")[0]
                parts += [Text(before)] if before else []
                break
            parts.append(part)
        self._close(String(tuple(parts), self._open[-1].start, at))

    def verbatim(self) -> None:
        """The string that was read last is not only expanded: each character of it counts."""
        last = self._open[-1].parts.pop()
        assert isinstance(last, String)
        exact = (Syntax(self._text[last.start : last.end]),)
        self._open[-1].parts.append(String(exact, last.start, last.end))

    def end_item(self, node: Node, at: int) -> Node:
        """An item ends, of which ``node`` was made; returns what is evaluated."""
        self._syntax(at)
        parts = self._open[-1].parts
        if len(parts) == 1 and isinstance(parts[0], Syntax):  # a name, or a number
            parts[0] = Syntax(f"${{{parts[0].text.strip('${}')}}}")
        self._close(Item(tuple(parts), self._open[-1].start, at))
        return node

    def end_test(self, condition: Condition, at: int) -> Condition:
        """A condition ends, of which ``condition`` was made; returns what is evaluated."""
        self._syntax(at)
        self._close(Test(tuple(self._open[-1].parts), self._open[-1].start, at))
        return condition

    def _syntax(self, at: int) -> None:
        """Take what the open piece has read itself, up to ``at``."""
        piece = self._open[-1]
        text = re.sub(r"[ \t\n\r\v\f]+", " ", self._text[piece.reached : at])
        text = re.sub(r" ?([{}]) ?", r"\1", text)
        if text:
            piece.parts.append(Syntax(text))
        piece.reached = at

    def _close(self, piece: Piece) -> None:
        self.last = piece
        self._open.pop()
        self._open[-1].parts.append(piece)
        self._open[-1].reached = piece.end


def outline(text: str) -> Piece:
    """Return what a string consists of.

    :raises ExpansionError: it is not well formed.
    """
    from mailsrv.expansion.parse import parse

    recorder = Recorder(text)
    parse(text, recorder)
    return recorder.last

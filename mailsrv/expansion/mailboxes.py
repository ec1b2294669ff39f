"""Addresses as header lines hold them: ``${address:}``, ``${addresses:}``, ``-t``, rewriting.

The grammar is Exim's: that of RFC 5322 3.4, where words may stand with dots around
them, quoted pairs outside quotes, source routes outside angle brackets, and a
comment without an end is the rest.  One pass from left to right, linear in the
length; nested comments are counted.  :func:`mailboxes` tells where each address
stands, for those who change it there, and what is wrong with what is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mailsrv.mail.taint import like

_SPACE = re.compile(r"[ \t\r\n\f\v]*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_WORD = re.compile(r"""(?:[^\x00-\x20()<>@,;:\\".\[\]\x7f]|\\(?:.|\Z))*""", re.DOTALL)
_DOTS = re.compile(r"\.+")
_LABEL = re.compile(r"[A-Za-z0-9\x80-\xff][A-Za-z0-9\x80-\xff-]*")
_LITERAL = re.compile(r"\[[^\[\]\\\x00-\x20\x7f]*\]")
_IN_COMMENT = re.compile(r"[()\\]")
_IN_LIST = re.compile(r'[\\"(<>:,]')
# Most addresses are no more than this, up to the comma.
_ATOMS = r"[^\x00-\x20()<>@,;:\\\"\[\]\x7f]+"
_PLAIN = re.compile(
    rf"[ \t\r\n]*(?P<address>{_ATOMS}(?P<domain>@{_LABEL.pattern}(?:\.{_LABEL.pattern})*)?)"
    r"[ \t\r\n]*(?:,|\Z)"
)


class Malformed(ValueError):
    """What is no address; the text says why, in Exim's words."""


@dataclass(frozen=True, slots=True)
class Place:
    """One mailbox of a list: ``text[start:end]`` with phrase and comments, and its address.

    ``text[first:last]`` is the address alone, or what stands between the angle
    brackets; ``address`` is that without comments and white space; it has a
    domain if it is ``qualified``.
    """

    address: str
    qualified: bool
    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Bad:
    """What stands in a list and is no address, and why."""

    text: str
    why: str


class _Reader:
    """Reads one mailbox of ``text``, from ``at`` up to ``end``."""

    def __init__(self, text: str, at: int, end: int, *, groups: bool = False) -> None:
        self.text, self.at, self.end = text, at, end
        self.begin = at
        self.groups = groups  # whether the name of a group may come
        self.in_group = False
        self.before = at  # the place before the comments and blanks that were passed last

    def mailbox(self) -> tuple[str, bool, int, int]:
        """Return an address, whether it has a domain, and the place where it stands.

        :raises Malformed: it is none.
        """
        first, local_part, next = self._begin()
        if next == "<":
            self.at += 1
            first = self.at
            address, qualified = self._angle()
            last = self.at
            if self._next() != ">":
                raise Malformed(
                    self._misplaced() if self._next() else "'>' missing at end of address"
                )
            self.at += 1
            self._skip()
        elif next == "@" and not local_part:
            address, qualified = self._route_and_address("")
            last = self.before
        elif next == "@":
            address, qualified = f"{local_part}@{self._domain()}", True
            last = self.before
        else:
            address, qualified, last = local_part, False, self.before
        if next := self._next():
            if next != ";" or not self.in_group:
                raise Malformed(self._misplaced())
            self.in_group, self.groups = False, True
        while last > first and self.text[last - 1] in " \t\r\n\f\v":
            last -= 1
        return address, qualified, first, last

    def _begin(self) -> tuple[int, str, str]:
        """Read what comes before "<" or "@": its place, the local part, and what stands behind."""
        while True:
            self._skip()
            first = self.at
            local_part = self._local_part(may_be_empty=True)
            next = self._next()
            if next in ("@", "<"):
                return first, local_part, next
            if next in ("", ";"):
                if not local_part:
                    raise Malformed("empty address")
                return first, local_part, next
            while (next := self._next()) != "<" and not (next == ":" and self.groups):
                try:
                    self._local_part()
                except Malformed as problem:
                    raise Malformed(f'{problem} (expected word or "<")') from None
            if next == "<":
                return first, "", "<"
            self.at += 1
            self.in_group, self.groups = True, False

    def _angle(self) -> tuple[str, bool]:
        """Read what stands in angle brackets."""
        self._skip()
        if self._next() == "@":
            return self._route_and_address(">")
        return self._address(">")

    def _route_and_address(self, end: str) -> tuple[str, bool]:
        """Read a source route, which means nothing (RFC 5321 C), and the address behind it."""
        commas = False
        while self._next() == "@":
            self._domain()
            if self._next() != ",":
                break
            commas = True
            self.at += 1
            self._skip()
        if self._next() != ":":
            raise Malformed("colon expected after route" if commas else "no local part")
        self.at += 1
        self._skip()
        address, qualified = self._address(end)
        if not qualified:
            raise Malformed("domain missing in source-routed address")
        return address, qualified

    def _address(self, end: str) -> tuple[str, bool]:
        local_part = self._local_part()
        if self._next() == end:
            return local_part, False
        if self._next() != "@":
            raise Malformed(f'"@" or "." expected after "{local_part}"')
        return f"{local_part}@{self._domain()}", True

    def _local_part(self, *, may_be_empty: bool = False) -> str:
        """Read words with dots between and around them, of which any may be quoted."""
        pieces: list[str] = []
        while True:
            self._skip()
            word = self._word()
            self._skip()
            dots = _DOTS.match(self.text, self.at, self.end)
            if not word and dots is None:
                if may_be_empty and not pieces:
                    return ""
                if pieces and pieces[-1].startswith("."):  # one may stand at the end
                    return "".join(pieces)
                raise Malformed("missing or malformed local part")
            pieces.append(word)
            if dots is None:
                return "".join(pieces)
            pieces.append(dots[0])
            self.at = dots.end()

    def _word(self) -> str:
        if self._next() == '"':
            found = _QUOTED.match(self.text, self.at, self.end)
            if found is None:
                self.at = self.end
                raise Malformed("unmatched doublequote in local part")
        else:
            found = _WORD.match(self.text, self.at, self.end)
            assert found is not None, "it may be empty"
        self.at = found.end()
        return found[0]

    def _domain(self) -> str:
        """Read "@" and a domain: a literal, or labels with one dot between them."""
        self.at += 1
        self._skip()
        if self._next() == "[":
            found = _LITERAL.match(self.text, self.at, self.end)
            if found is None:
                raise Malformed("malformed domain literal")
            self.at = found.end()
            self._skip()
            return found[0]
        labels = []
        while found := _LABEL.match(self.text, self.at, self.end):
            labels.append(found[0])
            self.at = found.end()
            self._skip()
            if self._next() != ".":
                return ".".join(labels)
            self.at += 1
            self._skip()
        raise Malformed("domain missing or malformed")

    def _skip(self) -> None:
        """Pass comments and white space."""
        self.before = self.at
        while True:
            space = _SPACE.match(self.text, self.at, self.end)
            assert space is not None, "it may be empty"
            self.at = space.end()
            if self._next() != "(":
                return
            self.at = _comment_end(self.text, self.at, self.end)

    def _next(self) -> str:
        return self.text[self.at] if self.at < self.end else ""

    def _misplaced(self) -> str:
        rest = self.text[self.at : min(self.at + 32, self.end)]
        return f"malformed address: {rest} may not follow {self.text[self.begin : self.at]}"


def _comment_end(text: str, at: int, end: int) -> int:
    """Return where a comment that begins at a place has its end, or the text has."""
    depth = 0
    while found := _IN_COMMENT.search(text, at, end):
        at = found.end() + (found[0] == "\\")
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if not depth:
            return min(at, end)
    return end


def without_comments(phrase: str) -> str:
    """Return a phrase, in which there is no quoted string, without its comments."""
    pieces, at = [], 0
    while (open := phrase.find("(", at)) >= 0:
        pieces.append(phrase[at:open])
        at = _comment_end(phrase, open, len(phrase))
    return "".join([*pieces, phrase[at:]])


def _mailbox_end(text: str, at: int) -> int:
    """Return where the comma is that ends a mailbox, or the end of the text."""
    route = text.startswith("@", at)
    open = int(route)
    while found := _IN_LIST.search(text, at):
        here, special = found.start(), found[0]
        at = found.end()
        if special == "\\":
            at += 1
        elif special == '"':
            quoted = _QUOTED.match(text, here)
            if quoted is None:
                return len(text)
            at = quoted.end()
        elif special == "(":
            at = _comment_end(text, here, len(text))
        elif special == "<":
            route = text.startswith("@", at)
            open = 1 + route
        elif special == ">" or (special == ":" and route):
            open -= 1
        elif special == "," and open <= 0:
            return here
    return len(text)


def mailboxes(text: str) -> Iterator[Place | Bad]:
    """Read a header line's list, of which groups are no more than their members."""
    start = 0
    while start < len(text) and (plain := _PLAIN.match(text, start)):
        first, last = plain.span("address")
        named = like(plain["address"], text)
        yield Place(named, bool(plain["domain"]), first, last, first, last)
        start = plain.end()
    groups, in_group = True, False
    while start < len(text):
        end = _mailbox_end(text, start)
        whole = text[start:end]
        if whole.strip():
            reader = _Reader(text, start, end, groups=groups)
            reader.in_group = in_group
            begin = start + len(whole) - len(whole.lstrip())
            try:
                address, qualified, first, last = reader.mailbox()
                named = like(address, text)
                yield Place(named, qualified, begin, begin + len(whole.strip()), first, last)
            except Malformed as problem:
                yield Bad(whole.strip(), str(problem))
            groups, in_group = reader.groups, reader.in_group
        start = end + 1


def places_of(text: str) -> list[Place]:
    """All addresses of a header line's list; what is not well formed is left out."""
    return [each for each in mailboxes(text) if isinstance(each, Place)]


def replaced(text: str, changes: Iterable[tuple[int, int, str]]) -> str:
    """Put other text between places, which are in order: each is ``(from, to, text)``."""
    done: list[str] = []
    position = 0
    for first, last, new in changes:
        done += (text[position:first], new)
        position = last
    return like("".join([*done, text[position:]]), text)


def addresses_of(text: str) -> list[str]:
    """The addresses of a header line's list alone."""
    return [place.address for place in places_of(text)]


def read_one(text: str) -> Place:
    """Read a text that is one mailbox.

    :raises Malformed: it is none.
    """
    address, qualified, first, last = _Reader(text, 0, len(text)).mailbox()
    return Place(like(address, text), qualified, 0, len(text), first, last)


def address_of(text: str) -> str | None:
    """The one address of ``text``, None if it is not well formed."""
    try:
        return read_one(text).address
    except Malformed:
        return None

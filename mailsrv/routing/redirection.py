"""Redirection lists: what alias and forward files say of an address (specification 22.3 to 22.6).

Pure: a text becomes items, in order.  What an item may do, and what
``:include:`` names, is the redirect router's; filters are only recognized.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mailsrv.expansion import mailboxes
from mailsrv.mail.status import Status
from mailsrv.mail.taint import like

LONGEST = 2000  # characters of an address with its phrase and comments
FILTER = re.compile(r"#[ \t]*(Exim|Sieve)[ \t]+filter", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Name:
    """An address; ``domain`` is "" if it has none, ``escaped`` if a backslash stood before it."""

    local_part: str  # in wire form
    domain: str = ""
    escaped: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A pipe (``|command``), a file, or a directory (``/…/``)."""

    text: str

    @property
    def kind(self) -> str:
        """``pipe``, ``file`` or ``directory``."""
        if self.text.startswith("|"):
            return "pipe"
        return "directory" if self.text.endswith("/") else "file"


@dataclass(frozen=True, slots=True)
class Include:
    """Further items are in a file."""

    path: str


@dataclass(frozen=True, slots=True)
class Special:
    """``blackhole``, ``unknown``, ``defer`` or ``fail``; the last two with their text."""

    word: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Malformed:
    """An item that is none of the others."""

    text: str
    problem: str


Item = Name | Place | Include | Special | Malformed

_GAP = re.compile(r"(?:[\s,;]+|#[^\n]*)+")
_SPECIAL = re.compile(r'"?:(blackhole|unknown|defer|fail):\s*', re.ASCII)
_INCLUDE = re.compile(r":include:[ \t]*", re.ASCII)
# A whole item in quotes: what follows the closing one ends it.
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*)"[ \t]*(?=[,\n]|\Z)', re.DOTALL)
_REST = re.compile(r"[^,\n]*")
# Commas in quoted strings, comments and <…> end no item.
_UNTIL_COMMA = re.compile(
    r'(?:"(?:[^"\\\n]|\\.)*"|\((?:[^()\\]|\\.|\((?:[^()\\]|\\.)*\))*\)|<[^<>\n]*>|\\.|[^,\n])*',
    re.DOTALL,
)
_COMMENT = re.compile(r"\s*\((?:[^()\\]|\\.|\((?:[^()\\]|\\.)*\))*\)\s*", re.DOTALL)
_LABEL = r"[A-Za-z0-9\x80-\xff](?:[A-Za-z0-9\x80-\xff-]*[A-Za-z0-9\x80-\xff])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Za-z:.]+\]", re.ASCII)


def parse(text: str) -> Iterator[Item]:
    """Give the items of a list up to one that makes an end of it; they are marked as ``text`` is.

    ``:defer:`` and ``:fail:`` take the rest of their line and end the list.
    """
    position = 0
    while True:
        position = _after(_GAP, text, position)
        if position >= len(text):
            return
        special = _SPECIAL.match(text, position)
        if special is not None and special[1] in ("defer", "fail"):
            yield Special(special[1], text[special.end() :].partition("\n")[0].rstrip())
            return
        if special is not None:
            yield Special(special[1])
            position = _after(_REST, text, special.end())
            continue
        item, position = _cut(text, position)
        if item and not _COMMENT.fullmatch(item):
            yield _read(like(item, text))


def _after(pattern: re.Pattern[str], text: str, position: int) -> int:
    found = pattern.match(text, position)
    return found.end() if found is not None else position


def _cut(text: str, start: int) -> tuple[str, int]:
    """Return the item that begins there, without quotes around all of it, and where it ends."""
    quoted = _QUOTED.match(text, start)
    if quoted is not None:
        return re.sub(r"\\(.)", _unescaped, quoted[1], flags=re.DOTALL).strip(), quoted.end()
    end = _after(_UNTIL_COMMA, text, start)
    return text[start:end].strip(), end


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def _unescaped(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[1], found[1])


def _read(item: str) -> Item:
    included = _INCLUDE.match(item)
    if included is not None:
        return Include(like(item[included.end() :], item))
    name = _name(item)
    if item[0] in "|/" and not (isinstance(name, Name) and name.domain):
        return Place(item)
    return name


def _name(item: str) -> Name | Malformed:
    """Read an address: it may have a phrase and comments, and a backslash before it."""
    if len(item) > LONGEST:
        return Malformed(item[:80], f'malformed address (too long) in "{item[:80]}"')
    escaped = item.startswith("\\")
    text = item[1:].lstrip() if escaped else item
    try:
        found = mailboxes.read_one(text).address
    except mailboxes.Malformed as problem:
        return Malformed(item, f'{problem} in "{item}"')
    local_part, at, domain = (
        found.rpartition("@") if "@" in _outside_quotes(found) else (found, "", "")
    )
    if at and not _DOMAIN.fullmatch(domain):
        return Malformed(item, f'domain missing or malformed in "{item}"')
    return Name(like(local_part, item), like(domain, item), escaped)


def _outside_quotes(address: str) -> str:
    return re.sub(r'"(?:[^"\\]|\\.)*"', "", address)


# --- :fail: and :defer: ----------------------------------------------------------

_CODE = re.compile(
    r"([0-9]{3})[ ](?:([0-9])\.([0-9]{1,3})\.([0-9]{1,3})(?:[ ]|\Z))?(.*)", re.ASCII | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a text of ``:fail:`` or ``:defer:`` tells a client (22.6).

    ``status`` has the code at the text's start, if it is of the right class;
    ``default`` is without it.
    """

    status: Status
    default: Status
    without_code: str
    wrong_class: bool = False


def read_said(item: Special) -> Said:
    """Return what the text of ``:fail:`` or ``:defer:`` stands for."""
    usual = Status(550, 1, 1, item.text) if item.word == "fail" else Status(451, 3, 0, item.text)
    found = _CODE.fullmatch(item.text)
    if found is None:
        return Said(usual, usual, item.text)
    code, digit, subject, detail, rest = found.groups()
    default, right = usual.saying(rest), str(usual.code)[0]
    if code[0] != right or (digit or right) != right:
        return Said(default, default, rest, wrong_class=True)
    if digit is None:
        subject, detail = usual.subject, usual.detail
    return Said(Status(int(code), int(subject), int(detail), rest), default, rest)

"""Addresses as header lines hold them (RFC 5322 3.4): ``${address:}`` and ``${addresses:}``.

One pass from left to right, linear in the length; nested comments are counted.
:func:`places_of` tells where each address stands, for those who change it there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mailsrv.mail.taint import like

_TOKEN = re.compile(
    r'(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<literal>\[[^][]*\])|(?P<special>[<>,;:@()\\])'
    r"|(?P<space>[ \t\r\n]+)|(?P<atom>[^<>,;:@()\\\[\]\" \t\r\n]+)|(?P<other>.)",
    re.DOTALL,
)
# Dots may stand anywhere, as in addresses that some systems give out (and as Exim takes them).
_ATOMS = re.compile(r"[^\x00-\x20()<>@,;:\\\"\[\]\x7f]+")
_DOMAIN = re.compile(r"[A-Za-z0-9_\x80-\xff-]+(?:\.[A-Za-z0-9_\x80-\xff-]+)*")
_LITERAL = re.compile(r"\[[0-9A-Za-z:.]+\]")
# Most addresses are no more than this, up to the comma.
_PLAIN = re.compile(
    rf"[ \t\r\n]*(?P<address>{_ATOMS.pattern}(?P<domain>@{_DOMAIN.pattern})?)[ \t\r\n]*(?:,|\Z)"
)

Token = tuple[str, str]  # kind and text
Placed = tuple[Token, int]  # and where it begins


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


def _tokens(text: str, position: int = 0) -> list[Placed]:
    """Tokens from a position on, without comments and white space.

    ("error", …) stands where a comment does not end.
    """
    found: list[Placed] = []
    depth = 0
    unclosed = False  # one quote that has no end is enough: no later one has
    while position < len(text):
        character = text[position]
        if depth:
            depth += (character == "(") - (character == ")")
            position += 2 if character == "\\" else 1
            continue
        if unclosed and character == '"':
            found.append((("other", character), position))
            position += 1
            continue
        match = _TOKEN.match(text, position)
        assert match is not None
        kind = match.lastgroup or "other"
        unclosed = unclosed or match[0] == '"'
        if match[0] == "(":
            depth = 1
        elif kind != "space":
            found.append(((kind, match[0]), position))
        position = match.end()
    if depth:
        found.append((("error", "("), len(text)))
    return found


def _address(tokens: list[Token]) -> str | None:
    """The address that tokens without any phrase form; None if they form none."""
    if not tokens or any(map(_run_together, tokens, tokens[1:])):
        return None
    text = "".join(token for _, token in tokens)
    if ("special", "@") not in tokens:
        return text if _is_local_part(tokens) else None
    at = len(tokens) - 1 - tokens[::-1].index(("special", "@"))
    domain = "".join(token for _, token in tokens[at + 1 :])
    if not (_DOMAIN.fullmatch(domain) or _LITERAL.fullmatch(domain)):
        return None
    return text if _is_local_part(tokens[:at]) else None


def _run_together(one: Token, next: Token) -> bool:
    """Whether two words stand side by side without a dot: then they form no address."""
    words = one[0] in ("atom", "quoted") and next[0] in ("atom", "quoted")
    return words and not one[1].endswith(".") and not next[1].startswith(".")


def _is_local_part(tokens: list[Token]) -> bool:
    """Dot-separated words, of which any may be quoted (RFC 5322 4.4, obsolete but in use)."""
    if any(kind not in ("atom", "quoted") for kind, _ in tokens) or not tokens:
        return False
    if len(tokens) == 1 and tokens[0][0] == "quoted":
        return True
    text = "".join("q" if kind == "quoted" else token for kind, token in tokens)
    return _ATOMS.fullmatch(text) is not None


def _mailbox(tokens: list[Token]) -> tuple[str | None, int, int]:
    """The address of one mailbox: ``phrase <address>`` or a bare address.

    Beside it stand the numbers of the tokens between which it is.
    """
    if ("special", "<") not in tokens:
        return _address(tokens), 0, len(tokens)
    start, end = tokens.index(("special", "<")), len(tokens) - 1
    nothing = (None, start + 1, end)
    if tokens[-1] != ("special", ">"):
        return nothing
    if any(one[0] == "special" and one[1] != "@" for one in tokens[:start]):
        return nothing
    inner = tokens[start + 1 : end]
    if inner and inner[0] == ("special", "@") and ("special", ":") in inner:
        inner = inner[inner.index(("special", ":")) + 1 :]  # a source route (RFC 5321 C)
    return _address(inner), start + 1, end


def _split(tokens: list[Placed], begin: int, end: int) -> list[tuple[list[Placed], int, int]]:
    """Divide at commas and the ends of groups; group names are dropped.

    Beside the tokens of a part stands where it begins and ends.
    """
    parts: list[tuple[list[Placed], int, int]] = []
    part: list[Placed] = []
    angle = at = group = False
    for token, position in tokens:
        if token == ("special", "<"):
            angle = True
        elif token == ("special", ">"):
            angle = False
        if not angle and token in (("special", ","), ("special", ";")):
            parts.append((part, begin, position))
            part, begin, at = [], position + 1, False
            group = group and token == ("special", ",")
        elif not angle and not at and not group and token == ("special", ":"):
            part, begin, group = [], position + 1, True
        else:
            part.append((token, position))
            at = at or token == ("special", "@")
    parts.append((part, begin, end))
    return [each for each in parts if each[0]]


def _has_at(part: list[Placed]) -> bool:
    return any(token == ("special", "@") for token, _ in part)


def places_of(text: str) -> list[Place]:
    """All addresses of a header line's list; what is not well formed is left out."""
    found = []
    start = 0
    while start < len(text) and (plain := _PLAIN.match(text, start)):
        first, last = plain.span("address")
        named = like(plain["address"], text)
        found.append(Place(named, bool(plain["domain"]), first, last, first, last))
        start = plain.end()
    for part, begin, end in _split(_tokens(text, start), start, len(text)):
        address, first, last = _mailbox([token for token, _ in part])
        if not address:
            continue
        (_, final), at = part[last - 1]
        qualified = _has_at(part[first:last])
        begin += len(text[begin:end]) - len(text[begin:end].lstrip(" \t\r\n"))
        end = begin + len(text[begin:end].rstrip(" \t\r\n"))
        place = (begin, end, part[first][1], at + len(final))
        found.append(Place(like(address, text), qualified, *place))
    return found


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


def address_of(text: str) -> str | None:
    """The one address of ``text``, None if it is not well formed."""
    return _mailbox([token for token, _ in _tokens(text)])[0]

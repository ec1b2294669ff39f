"""Addresses as header lines hold them (RFC 5322 3.4): ``${address:}`` and ``${addresses:}``.

One pass from left to right, linear in the length; nested comments are counted.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r'(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<literal>\[[^][]*\])|(?P<special>[<>,;:@()\\])'
    r"|(?P<space>[ \t\r\n]+)|(?P<atom>[^<>,;:@()\\\[\]\" \t\r\n]+)|(?P<other>.)",
    re.DOTALL,
)
# Dots may stand anywhere, as in addresses that some systems give out (and as Exim takes them).
_ATOMS = re.compile(r"[^\x00-\x20()<>@,;:\\\"\[\]\x7f]+")
_DOMAIN = re.compile(r"[A-Za-z0-9_\x80-\xff-]+(?:\.[A-Za-z0-9_\x80-\xff-]+)*")
_LITERAL = re.compile(r"\[[0-9A-Za-z:.]+\]")

Token = tuple[str, str]


def _tokens(text: str) -> list[Token]:
    """Tokens without comments and white space; ("error", …) where a comment does not end."""
    found: list[Token] = []
    depth = 0
    position = 0
    while position < len(text):
        if depth:
            character = text[position]
            depth += (character == "(") - (character == ")")
            position += 2 if character == "\\" else 1
            continue
        match = _TOKEN.match(text, position)
        assert match is not None
        position = match.end()
        kind = match.lastgroup or "other"
        if match[0] == "(":
            depth = 1
        elif kind != "space":
            found.append((kind, match[0]))
    if depth:
        found.append(("error", "("))
    return found


def _address(tokens: list[Token]) -> str | None:
    """The address that tokens without any phrase form; None if they form none."""
    if not tokens:
        return None
    text = "".join(token for _, token in tokens)
    if ("special", "@") not in tokens:
        return text if _is_local_part(tokens) else None
    at = len(tokens) - 1 - tokens[::-1].index(("special", "@"))
    domain = "".join(token for _, token in tokens[at + 1 :])
    if not (_DOMAIN.fullmatch(domain) or _LITERAL.fullmatch(domain)):
        return None
    return text if _is_local_part(tokens[:at]) else None


def _is_local_part(tokens: list[Token]) -> bool:
    """Dot-separated words, of which any may be quoted (RFC 5322 4.4, obsolete but in use)."""
    if any(kind not in ("atom", "quoted") for kind, _ in tokens) or not tokens:
        return False
    if len(tokens) == 1 and tokens[0][0] == "quoted":
        return True
    text = "".join("q" if kind == "quoted" else token for kind, token in tokens)
    return _ATOMS.fullmatch(text) is not None


def _mailbox(tokens: list[Token]) -> str | None:
    """The address of one mailbox: ``phrase <address>`` or a bare address."""
    if ("special", "<") not in tokens:
        return _address(tokens)
    start = tokens.index(("special", "<"))
    if tokens[-1] != ("special", ">"):
        return None
    if any(one[0] == "special" and one[1] != "@" for one in tokens[:start]):
        return None
    inner = tokens[start + 1 : -1]
    if inner and inner[0] == ("special", "@") and ("special", ":") in inner:
        inner = inner[inner.index(("special", ":")) + 1 :]  # a source route (RFC 5321 C)
    return _address(inner)


def _split(tokens: list[Token]) -> list[list[Token]]:
    """Divide at commas and the ends of groups; group names are dropped."""
    parts: list[list[Token]] = [[]]
    angle = False
    for token in tokens:
        if token == ("special", "<"):
            angle = True
        elif token == ("special", ">"):
            angle = False
        if not angle and token in (("special", ","), ("special", ";")):
            parts.append([])
        elif not angle and token == ("special", ":") and ("special", "@") not in parts[-1]:
            parts[-1] = []
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


def addresses_of(text: str) -> list[str]:
    """All addresses of a header line's list; what is not well formed is left out."""
    found = (_mailbox(part) for part in _split(_tokens(text)))
    return [address for address in found if address]


def address_of(text: str) -> str | None:
    """The one address of ``text``, None if it is not well formed."""
    return _mailbox(_tokens(text))

"""Address lists of header fields, read for verification (RFC 5322 3.4).

A scanner that goes through the octets once: comments, quoted strings, groups
and routes are understood, and the first fault is told in Exim's words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailsrv.mail.taint import like

# A header field may hold this many addresses; more are a fault.
MOST = 10_000

_PIECE = re.compile(
    r'[ \t\r\n]+|"(?:[^"\\]|\\.)*"|\[(?:[^][\\]|\\.)*\]|\\.|[^ \t\r\n"\\\[(<>,:;@]+|.', re.DOTALL
)
_WORD = r"""(?:[^\x00-\x20()<>@,;:\\"\[\].\x7f]+|"(?:[^"\\]|\\.)*")"""
_WORDS = re.compile(rf"{_WORD}(?:\.{_WORD})*", re.DOTALL)
_DOMAIN = re.compile(
    r"\[[^\x00-\x20\[\]\\\x7f]*\]|[A-Za-z0-9_\x80-\xff-]+(?:\.[A-Za-z0-9_\x80-\xff-]+)*\.?"
)


@dataclass(frozen=True, slots=True)
class Mailboxes:
    """The addresses of a field; ``problem`` is "" or tells what is wrong with ``failing``."""

    addresses: tuple[str, ...]
    problem: str = ""
    failing: str = ""


def _pieces(text: str) -> list[str] | None:
    """Cut a field's value into pieces without comments; None if a comment or quote is open."""
    pieces: list[str] = []
    position, depth = 0, 0
    while position < len(text):
        character = text[position]
        if depth or character == "(":
            depth += {"(": 1, ")": -1}.get(character, 0)
            position += 2 if character == "\\" else 1
            continue
        match = _PIECE.match(text, position)
        assert match is not None, "the expression takes any octet"
        if match[0] == '"':
            return None
        pieces.append(match[0])
        position = match.end()
    return None if depth else pieces


def _address(pieces: list[str]) -> tuple[str, str]:
    """Return the address that the pieces between two commas give, and what is wrong."""
    if "<" in pieces:
        start = pieces.index("<")
        if ">" not in pieces[start:]:
            return "", "'>' missing at end of address"
        end = pieces.index(">", start)
        if any(piece.strip(" \t\r\n") for piece in pieces[end + 1 :]):
            return "", "extraneous characters follow address"
        pieces = pieces[start + 1 : end]
        if ":" in pieces and "@" in pieces[: pieces.index(":")]:  # a source route
            pieces = pieces[pieces.index(":") + 1 :]
    text = "".join(piece for piece in pieces if piece.strip(" \t\r\n"))
    if not text:
        return "", ""
    local_part, at, domain = text.rpartition("@")
    if not at:
        return text, "unqualified address not permitted"
    if not domain:
        return "", "domain missing or malformed"
    if not _DOMAIN.fullmatch(domain):
        return "", "domain missing or malformed"
    if not _WORDS.fullmatch(local_part):
        return "", "missing or malformed local part"
    spaced = "".join(pieces).strip(" \t\r\n")
    if re.search(r"[^\s.@][ \t\r\n]+[^\s.@]", re.sub(r'"(?:[^"\\]|\\.)*"', "q", spaced)):
        return "", "malformed address"
    return text, ""


def mailboxes(text: str) -> Mailboxes:
    """Read an address list; the addresses before the first fault are given."""
    pieces = _pieces(text)
    found: list[str] = []
    if pieces is None:
        return Mailboxes((), "unterminated comment or quoted string", text.strip(" \t\r\n"))
    item: list[str] = []
    group = angle = False
    for piece in [*pieces, ","]:
        if piece == "<":
            angle = True
        elif piece == ">":
            angle = False
        if piece == ":" and not angle and not group:
            item, group = [], True
        elif (piece in (",", ";") and not angle) or (piece == ";" and group):
            address, problem = _address(item)
            if problem:
                return Mailboxes(tuple(found), problem, "".join(item).strip(" \t\r\n"))
            if address:
                found.append(like(address, text))
            if len(found) > MOST:
                return Mailboxes(tuple(found), "too many addresses", address)
            item, group = [], group and piece == ","
        else:
            item.append(piece)
    if angle:
        return Mailboxes(
            tuple(found), "'>' missing at end of address", "".join(item[:-1]).strip(" \t\r\n")
        )
    return Mailboxes(tuple(found))

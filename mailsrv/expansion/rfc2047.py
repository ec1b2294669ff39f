"""Encoded words of header lines (RFC 2047), with Exim's limits (``rfc2047d``, ``$h_``).

Text is an octet string; ``utf-8`` as a target gives the octets of UTF-8.
Decoding is linear in the length of the text.
"""

from __future__ import annotations

import binascii
import re

_WORD = re.compile(r"=\?([^?\s]{1,40})\?([bBqQ])\?([^?\s]*)\?=", re.ASCII)
_BETWEEN = re.compile(r"[ \t\r\n]+\Z")
_LONGEST_WORD = 75
_PLAIN = re.compile(r"[ -~]*\Z")
# What Python calls encodings too; they are no character sets, and slow.
_NO_CHARSET = re.compile(r"idna|punycode|.*escape", re.IGNORECASE)
_SPECIAL = frozenset('?=()<>@,;:\\".[]_')


def _quoted_printable(text: str) -> bytes | None:
    """Decode the Q encoding; None if it is not well formed."""
    result = bytearray()
    position = 0
    while position < len(text):
        character = text[position]
        if character == "=":
            pair = text[position + 1 : position + 3]
            if len(pair) != 2 or not re.fullmatch(r"[0-9A-Fa-f]{2}", pair):
                return None
            result.append(int(pair, 16))
            position += 3
            continue
        result.append(0x20 if character == "_" else ord(character))
        position += 1
    return bytes(result)


def _base64(text: str) -> bytes | None:
    try:
        return binascii.a2b_base64(text.encode("latin-1"), strict_mode=True)
    except (binascii.Error, ValueError):
        return None


def _word(match: re.Match[str], translate: str, long_words: bool) -> str | None:
    if len(match[0]) > _LONGEST_WORD and not long_words:
        return None
    raw = _base64(match[3]) if match[2] in "bB" else _quoted_printable(match[3])
    if raw is None:
        return None
    raw = raw.replace(b"\0", b"?")
    charset = match[1].partition("*")[0]
    if translate and not _NO_CHARSET.fullmatch(charset):
        try:
            raw = raw.decode(charset).encode(translate)
        except (LookupError, ValueError):
            pass  # no such character set, or not of it: the octets as they are
    return raw.decode("latin-1")


def decode(text: str, *, translate: str = "utf-8", long_words: bool = False) -> str:
    """Replace the encoded words in ``text``, and the white space between two of them.

    ``translate`` is the target character set, "" for none; words longer than
    75 octets are left as they are unless ``long_words``.
    """
    if "=?" not in text:
        return text
    result: list[str] = []
    end = 0
    after_word = False
    for match in _WORD.finditer(text):
        word = _word(match, translate, long_words)
        if word is None:
            continue
        between = text[end : match.start()]
        if not (after_word and _BETWEEN.fullmatch(between)):
            result.append(between)
        result.append(word)
        end = match.end()
        after_word = True
    result.append(text[end:])
    return "".join(result)


def encode(text: str, charset: str = "UTF-8") -> str:
    """Encode ``text`` as encoded words if it is more than plain characters."""
    if _PLAIN.match(text) and not _SPECIAL.intersection(text):
        return text
    head = f"=?{charset}?Q?"
    words: list[str] = []
    word = head
    characters = _utf8_characters(text) if charset.lower() == "utf-8" else list(text)
    for character in characters:
        piece = "".join(_encode_octet(octet) for octet in character)
        if len(word) + len(piece) > 73:
            words.append(word + "?=")
            word = head
        word += piece
    words.append(word + "?=")
    return " ".join(words)


def _encode_octet(character: str) -> str:
    if character == " ":
        return "_"
    if "!" <= character <= "~" and character not in _SPECIAL:
        return character
    return f"={ord(character):02X}"


def _utf8_characters(text: str) -> list[str]:
    """Split octets so that no character of UTF-8 is divided between two words (RFC 2047 5)."""
    pieces: list[str] = []
    for character in text:
        if pieces and "\x80" <= character <= "\xbf" and pieces[-1][0] >= "\xc0":
            pieces[-1] += character
        else:
            pieces.append(character)
    return pieces

"""Parts and hashes of strings: ``substr``, ``length``, ``hash``, ``nhash`` (specification 11.5)."""

from __future__ import annotations

from mailsrv.expansion.errors import ExpansionError

_CODES = "abcdefghijklmnopqrtsuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_PRIMES = (
    2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113,
)  # fmt: skip


def substr(start: int, length: int | None, subject: str) -> str:
    """A part of ``subject``; a negative start counts from the right (see the specification)."""
    if start < 0:
        start += len(subject)
        if start < 0:
            # before the beginning: what sticks out is taken from the length
            length = max(0, (-1 if length is None else length) + start)
            start = 0
        elif length is None:
            length, start = start, 0
    elif start > len(subject):
        return ""
    return subject[start:] if length is None else subject[start : start + length]


def hashed(length: int, codes: int | None, subject: str) -> str:
    """The textual hash of ``length`` characters out of the first ``codes`` of Exim's alphabet."""
    modulus = 26 if codes is None else codes
    if modulus > len(_CODES):
        raise ExpansionError(f'hash count "{modulus}" too big')
    if length >= len(subject):
        return subject
    if length < 1 or modulus < 1:
        return ""
    octets = bytearray(subject.encode("latin-1"))
    place = 0
    for index in range(length, len(octets)):
        octet = octets[index]
        shift = (octet + index) & 7
        octets[place] ^= ((octet << shift) | (octet >> (8 - shift))) & 0xFF
        place = (place + 1) % length
    return "".join(_CODES[octet % modulus] for octet in octets[:length])


def nhash(first: int, second: int | None, subject: str) -> str:
    """The numeric hash: one number, or two with a slash between them."""
    total = 0
    index = 0
    for character in subject:
        if index == 0:
            index = len(_PRIMES) - 1
        total += _PRIMES[index] * ord(character)
        index -= 1
    if first < 1 or (second is not None and second < 1):
        raise ExpansionError("hash by zero")
    if second is None:
        return str(total % first)
    total %= first * second
    return f"{total // second}/{total % second}"


def translate(subject: str, characters: str, replacements: str) -> str:
    """``${tr…}``: replace single characters."""
    if not replacements:
        return subject
    table = {
        ord(character): replacements[min(index, len(replacements) - 1)]
        for index, character in enumerate(characters)
    }
    return subject.translate(table)

"""Ends of line in pieces of a message, counted quickly where all lines are equally long.

A large message is base64 most often.  To know that a hundred thousand lines end as they
should, each octet of them has to be looked at some way; single octets are searched for a
hundred times faster than ends of line are counted.
"""

from __future__ import annotations

LARGE = 16384  # octets from which a look for even lines is worth it


def even_lines(piece: bytes) -> int | None:
    """Return how many ends of line a piece has, if all are CRLF and equally far from each other.

    Then no CR, LF or NUL stands alone in it.  None: it is not so, or there are too few.
    """
    first = piece.find(b"\r\n")
    step = piece.find(b"\r\n", first + 2) - first
    if first < 0 or step < 0:
        return None
    rest = bytearray(piece)
    count = len(range(first, len(rest), step))
    if rest[first::step] != b"\r" * count or rest[first + 1 :: step] != b"\n" * count:
        return None
    del rest[first::step]
    del rest[first :: step - 1]  # each LF stands where its CR stood, one place less for each before
    if b"\r" in rest or b"\n" in rest or b"\0" in rest:
        return None
    return count


def count_lines(piece: bytes) -> int:
    """Return how many LF a piece has."""
    even = even_lines(piece) if len(piece) > LARGE else None
    return piece.count(b"\n") if even is None else even

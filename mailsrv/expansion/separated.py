"""Lists in strings: separators, doubled separators, empty items (specification 6.21)."""

from __future__ import annotations

from collections.abc import Iterable

from mailsrv.expansion.errors import ExpansionError

MOST_ITEMS = 1_000_000
SPACE = " \t\n\r\v\f"
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


def _is_separator(character: str) -> bool:
    return character in _PUNCTUATION or "\0" < character < " " or character == "\x7f"


def separator_of(text: str, default: str = ":") -> tuple[str, str]:
    """The separator of a list and the text after its declaration ``<x``."""
    start = text.lstrip(SPACE)
    if len(start) > 1 and start[0] == "<" and _is_separator(start[1]):
        return start[1], start[2:]
    return default, start


def split_list(text: str, separator: str = ":") -> list[str]:
    """The items of a list, without white space around them.

    A doubled separator stands for itself; a separator at the end begins no item.

    :raises ExpansionError: there are more than :data:`MOST_ITEMS`.
    """
    separator, rest = separator_of(text, separator)
    if separator not in rest:
        item = rest.strip(SPACE)
        return [item] if item else []
    if rest.count(separator) > MOST_ITEMS:
        raise ExpansionError(f"a list has more than {MOST_ITEMS} items")
    doubles = not ("\0" < separator < " ")
    space = SPACE.replace(separator, "")
    items: list[str] = []
    position, end = 0, len(rest)
    while True:
        while position < end and rest[position] in space:
            position += 1
        if position >= end:
            return items
        pieces: list[str] = []
        if rest[position] == separator and not (
            doubles and rest.startswith(separator, position + 1)
        ):
            items.append("")
            position += 1
            continue
        while True:
            found = rest.find(separator, position)
            stop = end if found < 0 else found
            pieces.append(rest[position:stop])
            position = stop + 1
            if found < 0 or not (doubles and rest.startswith(separator, position)):
                break
            pieces.append(separator)
            position += 1
        items.append("".join(pieces).rstrip(SPACE))


def join_list(items: Iterable[str], separator: str) -> str:
    """The list of ``items``: separators doubled; an empty item is a space where it must be seen."""
    result = ""
    for index, item in enumerate(items):
        if index:
            result += separator
            if not item or item[0] == separator:
                result += " "
        result += item.replace(separator, separator * 2)
    return result

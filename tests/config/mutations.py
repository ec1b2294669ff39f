"""Configurations as an absent mind leaves them: one line of a good one is damaged."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

VALUES = (
    *("true", "5", "5m", "nosuch", "${if", '"x', "/x", "*", "10K", "a : b", "", "0644"),
    *("+nolist", "smtp", "$local_part", "-1", "3.5"),
)
_WORD = re.compile(r"[a-z_]{4,}")


def _misspelt(line: str, chance: random.Random) -> str:
    word = _WORD.search(line)
    if word is None:
        return line
    at = chance.randrange(word.start(), word.end() - 1)
    return f"{line[:at]}{line[at + 1]}{line[at]}{line[at + 2 :]}"


def _another_value(line: str, chance: random.Random) -> str:
    name, equals, _ = line.partition("=")
    return f"{name}= {chance.choice(VALUES)}" if equals else line


def _one_character_less(line: str, chance: random.Random) -> str:
    at = chance.randrange(len(line))
    return line[:at] + line[at + 1 :]


def _one_character_more(line: str, chance: random.Random) -> str:
    at = chance.randrange(len(line))
    return line[:at] + chance.choice('{}$":=\\ #,;x!') + line[at:]


_DAMAGES: tuple[Callable[[str, random.Random], str], ...] = (
    lambda line, chance: "",
    lambda line, chance: f"{line}\n{line}",
    lambda line, chance: f"{line} x",
    lambda line, chance: line.upper(),
    lambda line, chance: line.replace("=", "", 1),
    _misspelt,
    _another_value,
    _one_character_less,
    _one_character_more,
)


def mutations(name: str, text: str, count: int) -> Iterator[tuple[str, str]]:
    """Yield names and texts, always the same of one text."""
    chance = random.Random(name)
    lines = text.split("\n")
    places = [n for n, line in enumerate(lines) if line.strip() and line.strip()[0] != "#"]
    for number in range(count):
        at = chance.choice(places)
        damaged = chance.choice(_DAMAGES)(lines[at], chance)
        yield f"{name} {number}: {damaged}", "\n".join([*lines[:at], damaged, *lines[at + 1 :]])

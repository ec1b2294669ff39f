"""Message ids in Exim's sixteen characters ``xxxxxx-yyyyyy-zz`` (specification 3.4).

The first field is the second at which the id was drawn, the last the fraction
of that second in units of 1/2000, both in base 62.  Exim's middle field is a
process id, and Exim waits for the clock to tick before it draws the next id.
Here the middle field is a number that one worker never draws twice: each
worker has a range of its own and counts through it from a random start, so
that nothing waits and ids stay unique across workers and restarts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import SystemRandom

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
WORKERS = 1024  # ranges that the middle field is divided into
RANGE = 62**6 // WORKERS  # about 55 million ids
FRACTIONS = 2000  # units of a second

_VALUES = {digit: value for value, digit in enumerate(DIGITS)}
_random = SystemRandom().randrange
_FORM = re.compile(r"[0-9A-Za-z]{6}-[0-9A-Za-z]{6}-[0-9A-Za-z]{2}", re.ASCII)


class MessageIds:
    """Draws message ids for one worker.

    ``seconds`` gives the time since the epoch; ``worker`` is the worker's
    number; ``random(n)`` gives a number below ``n``.  A clock that is set back
    is not followed: the seconds of ids never decrease in one process.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        worker: int = 0,
        random: Callable[[int], int] = _random,
    ) -> None:
        self._seconds = seconds
        self._base = worker % WORKERS * RANGE
        self._next = random(RANGE)
        self._latest = 0.0

    def __call__(self) -> str:
        """Return an id that no other call has returned."""
        self._latest = max(self._latest, self._seconds())
        second = int(self._latest)
        fraction = int((self._latest - second) * FRACTIONS)
        number, self._next = self._base + self._next, (self._next + 1) % RANGE
        return f"{encode(second, 6)}-{encode(number, 6)}-{encode(fraction, 2)}"


def encode(number: int, width: int) -> str:
    """Return ``number`` in base 62, in ``width`` digits (the low ones, if there are more)."""
    digits = ""
    for _ in range(width):
        digits = DIGITS[number % 62] + digits
        number //= 62
    return digits


def decode(digits: str) -> int:
    """Return the number that base 62 ``digits`` stand for.

    :raises KeyError: another character.
    """
    number = 0
    for digit in digits:
        number = number * 62 + _VALUES[digit]
    return number


def is_message_id(text: str) -> bool:
    """Tell whether ``text`` has the form of a message id, for example on the command line."""
    return _FORM.fullmatch(text) is not None

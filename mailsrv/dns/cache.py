"""Answers of the DNS for as long as they hold; the oldest used go first when it is full."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from mailsrv.interfaces import Answer, IClock

Key = tuple[str, str]
"""Name in lower case without final dot, and record type."""


class Cache:
    """Keeps at most ``size`` answers, "no data" and "no such name" among them."""

    def __init__(self, clock: IClock, size: int = 10_000) -> None:
        self._clock = clock
        self._size = size
        self._answers: OrderedDict[Key, tuple[float, Answer]] = OrderedDict()

    def get(self, key: Key) -> Answer | None:
        """Return an answer with the seconds it has left as its ``ttl``; None if there is none."""
        found = self._answers.get(key)
        if found is None:
            return None
        expires, answer = found
        left = expires - self._clock.seconds()
        if left <= 0:
            del self._answers[key]
            return None
        self._answers.move_to_end(key)
        return replace(answer, ttl=int(left))

    def put(self, key: Key, answer: Answer) -> None:
        """Keep an answer for its ``ttl``; not at all if that is 0."""
        if answer.ttl <= 0:
            return
        self._answers[key] = self._clock.seconds() + answer.ttl, answer
        self._answers.move_to_end(key)
        while len(self._answers) > self._size:
            self._answers.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._answers.clear()

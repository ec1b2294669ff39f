"""Work that has begun and must come to its end, whoever loses patience meanwhile."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


async def uncut(work: Coroutine[Any, Any, T]) -> tuple[T, bool]:
    """Await ``work`` to its end; return its result, and whether the caller was cancelled.

    A cancellation is not raised: only the caller knows whether the result is to be
    recorded or undone.

    :raises CancelledError: ``work`` failed, and the caller was cancelled.
    :raises Exception: what ``work`` raised, if the caller was not.
    """
    results: list[Any] = []
    turn: Deferred[None] = Deferred()
    cancelled = False

    def ended(result: Any) -> None:
        results.append(result)
        if not turn.called:
            turn.callback(None)

    Deferred.fromCoroutine(work).addBoth(ended)
    while not results:
        try:
            await turn
        except CancelledError:
            cancelled, turn = True, Deferred()
    (result,) = results
    if not isinstance(result, Failure):
        return result, cancelled
    if cancelled and isinstance(result.value, Exception):
        raise CancelledError from result.value
    result.raiseException()

"""Work that has begun and must come to its end, whoever loses patience meanwhile."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

T = TypeVar("T")


async def uncut(work: Coroutine[Any, Any, T]) -> tuple[T, bool]:
    """Await ``work`` to its end; return its result, and whether the caller was cancelled.

    A cancellation is not raised: only the caller knows whether the result is to be
    recorded or undone.

    :raises CancelledError: ``work`` failed, and the caller was cancelled.
    :raises Exception: what ``work`` raised, if the caller was not.
    """
    run: Deferred[T] = Deferred.fromCoroutine(work)
    cancelled = False
    while not run.called:
        turn: Deferred[None] = Deferred()
        run.addBoth(_wake, turn)
        try:
            await turn
        except CancelledError:
            cancelled = True
    try:
        return await run, cancelled
    except Exception as error:
        if cancelled:
            raise CancelledError from error
        raise


def _wake(result: Any, turn: Deferred[None]) -> Any:
    if not turn.called:
        turn.callback(None)
    return result

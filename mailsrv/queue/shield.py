"""Work that ends though whoever waits for it goes away."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

T = TypeVar("T")


def shielded(
    work: Coroutine[Any, Any, T], lost: Callable[[BaseException], None]
) -> tuple[Deferred[None], Deferred[T]]:
    """Begin ``work``; return what fires when it ends, and what gives its result.

    To cancel the second ends the waiting, not the work; ``lost`` is told if the
    work fails after that.
    """
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    running: Deferred[Any] = Deferred.fromCoroutine(work)
    waiting: Deferred[T] = Deferred()

    def ended(result: Any) -> None:
        if not waiting.called:
            waiting.callback(result)
        elif isinstance(result, Failure) and result.value is not None:
            lost(result.value)

    return running.addBoth(ended), waiting

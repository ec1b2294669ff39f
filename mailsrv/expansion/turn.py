"""How a long expansion lets the reactor have its turn."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from mailsrv.interfaces import IClock


class Turn(Deferred[None]):
    """Lets others go on: fires when the reactor has had its turn.

    Awaiting it is no waiting: where there is no reactor, :meth:`skip` ends it at once.
    """

    def __init__(self, clock: IClock) -> None:
        super().__init__()
        self._call = clock.callLater(0, self.callback, None)

    def skip(self) -> None:
        """Fire now."""
        self._call.cancel()
        self.callback(None)

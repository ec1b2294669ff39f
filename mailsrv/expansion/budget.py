"""What one expansion may cost: steps of its loops, the sizes of its values, and turns for others.

A string is the administrator's, but a peer's values may be what it loops
over.  The bounds are far from what strings are used for; what comes to them
fails, and so defers.
"""

from __future__ import annotations

from mailsrv.expansion.errors import ExpansionError
from mailsrv.interfaces import IClock

MOST_STEPS = 1_000_000  # of all loops within one, together
LONGEST = 16 * 1024 * 1024  # characters of a value
SLICE = 0.01  # seconds; who takes longer lets the reactor have its turn


class Budget:
    """What is left to the loops of one expansion, those within loops included."""

    __slots__ = ("_clock", "_left", "_since")

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._left = MOST_STEPS
        self._since = clock.seconds()

    def spend(self) -> None:
        """Count a step.

        :raises ExpansionError: there have been too many.
        """
        self._left -= 1
        if self._left < 0:
            raise ExpansionError(f"expansion takes more than {MOST_STEPS} steps")

    async def step(self) -> None:
        """Count a step of a loop; let others have their turn if it is time for that.

        :raises ExpansionError: there have been too many.
        """
        self.spend()
        if self._clock.seconds() - self._since >= SLICE:
            await self._turn()
            self._since = self._clock.seconds()

    async def _turn(self) -> None:
        from mailsrv.expansion.turn import Turn  # here, so that a command starts without Twisted

        try:
            turn = Turn(self._clock)
        except TypeError:  # a clock without timers: there are no others
            return
        await turn


def bounded(length: int) -> int:
    """Return the length of a value that is to be made.

    :raises ExpansionError: it is too large.
    """
    if length > LONGEST:
        raise ExpansionError(f"expansion makes a value of more than {LONGEST} characters")
    return length

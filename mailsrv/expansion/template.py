"""A string of the configuration, compiled once (design, decision 2)."""

from __future__ import annotations

from mailsrv.errors import Position
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.scope import Scope


class Template:
    """A compiled string.

    ``source`` is the text as configured; ``where`` its place.  ``error`` is
    set if the text cannot be parsed: expanding it raises that error.
    ``waits`` tells whether expanding may wait for IO; ``constant`` is the
    value of a text without any expansion, else None.
    """

    source: str
    where: Position | None
    error: ExpansionError | None
    waits: bool
    constant: str | None

    def value(self, scope: Scope) -> str:
        """Expand a string that does not wait.

        :raises ExpansionError: ForcedFailure for ``fail``; TypeError if it ``waits``.
        """
        raise TypeError

    async def expand(self, scope: Scope) -> str:
        """Expand any string.

        :raises ExpansionError: ForcedFailure for ``fail``.
        """
        raise TypeError


def compile_string(source: str, where: Position | None = None) -> Template:
    """Compile a string; never raises: a bad one keeps its error in ``error``."""
    raise TypeError

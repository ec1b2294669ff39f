"""A string of the configuration, compiled once (design, decision 2)."""

from __future__ import annotations

from functools import lru_cache

from mailsrv.errors import Position
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.outline import Recorder
from mailsrv.expansion.parse import parse
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.tree import Node, Text

_TOO_DEEP = "expansion is nested too deeply"


class Template:
    """A compiled string.

    ``source`` is the text as configured; ``where`` its place.  ``error`` is
    set if the text cannot be parsed: expanding it raises that error.
    ``waits`` tells whether expanding may wait for IO, or take so long that
    others should have their turn; ``constant`` is the value of a text without
    any expansion, else None.
    """

    __slots__ = ("constant", "error", "node", "source", "waits", "where")

    def __init__(
        self,
        source: str,
        where: Position | None,
        node: Node | None,
        error: ExpansionError | None = None,
    ) -> None:
        self.source = source
        self.where = where
        self.node = node
        self.error = error
        self.waits = node is not None and node.waits
        self.constant = node.text if isinstance(node, Text) else None

    def __repr__(self) -> str:
        return f"Template({self.source!r})"

    def value(self, scope: Scope) -> str:
        """Expand a string that does not wait.

        :raises ExpansionError: ForcedFailure for ``fail``.
        :raises TypeError: it has to wait for something.
        """
        if self.constant is not None:
            return self.constant
        if self.node is None:
            raise self._error()
        try:
            return self.node.value(scope)
        except ExpansionError as error:
            error.found_in(self.source, self.where)
            raise
        except RecursionError:
            raise self._placed(ExpansionError(_TOO_DEEP)) from None

    async def expand(self, scope: Scope) -> str:
        """Expand any string.

        :raises ExpansionError: ForcedFailure for ``fail``.
        """
        if not self.waits:
            return self.value(scope)
        assert self.node is not None
        try:
            return await self.node.expand(scope)
        except ExpansionError as error:
            error.found_in(self.source, self.where)
            raise
        except RecursionError:
            raise self._placed(ExpansionError(_TOO_DEEP)) from None

    def _error(self) -> ExpansionError:
        # A new object each time: an exception that is raised twice gathers tracebacks.
        assert self.error is not None
        return self._placed(ExpansionError(self.error.reason, self.error.at))

    def _placed(self, error: ExpansionError) -> ExpansionError:
        error.found_in(self.source, self.where)
        return error


def compile_string(
    source: str, where: Position | None = None, recorder: Recorder | None = None
) -> Template:
    """Compile a string; never raises: a bad one keeps its error in ``error``.

    ``recorder`` is told of what is read.
    """
    try:
        return Template(source, where, parse(source, recorder))
    except ExpansionError as error:
        error.found_in(source, where)
        return Template(source, where, None, error)


@lru_cache(maxsize=500)
def compile_again(source: str) -> Template:
    """Compile a string that came from an expansion (``${expand:…}``), with a cache."""
    return compile_string(source)

"""How a string comes to its result: each item and condition that is evaluated, with its value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.outline import Piece, Recorder
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.tree import Condition, Node, Verdict, evaluate
from mailsrv.mail.taint import Tainted

MOST_STEPS = 500  # that are kept of one string: a loop has many
_WIDEST = 70  # characters of a string or a value that are shown


@dataclass(slots=True)
class Step:
    """The evaluation of one item or condition; ``within`` are those of its parts."""

    source: str
    result: str = ""
    within: list[Step] = field(default_factory=list)

    def lines(self, depth: int = 0) -> Iterator[str]:
        """Yield it as indented lines."""
        yield f"{'  ' * depth}{_cut(self.source)}  ->  {self.result}"
        for step in self.within:
            yield from step.lines(depth + 1)


class Trace(Recorder):
    """Puts a witness before each node of the string that is compiled with it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._source = text
        self._root = Step("")
        self._under_way = [self._root]
        self._count = 0
        self._notes: list[str] = []

    def end_item(self, node: Node, at: int) -> Node:
        """See ``Recorder``."""
        node = super().end_item(node, at)
        return _Watched(node, self.last, self)

    def end_test(self, condition: Condition, at: int) -> Condition:
        """See ``Recorder``."""
        condition, piece = super().end_test(condition, at), self.last

        async def test(scope: Scope) -> Verdict:
            with self.watching(piece) as step:
                true, after = await condition.test(scope)
                step.result = "true" if true else "false"
                return true, after

        return Condition(test, waits=condition.waits)

    @contextmanager
    def watching(self, piece: Piece) -> Iterator[Step]:
        """Take the evaluation of a piece down; the result is set by who evaluates it."""
        step = Step(self._source[piece.start : piece.end].strip())
        self._count += 1
        if self._count <= MOST_STEPS:
            self._under_way[-1].within.append(step)
        self._under_way.append(step)
        try:
            yield step
        except TemporaryFailure as error:
            step.result = f"failed: {error.reason}"
            raise
        finally:
            self._under_way.pop()

    def note(self, line: str) -> None:
        """Add a line at the end."""
        self._notes += [line] if line else []

    def lines(self) -> list[str]:
        """What was evaluated, in order."""
        lines = [line for step in self._root.within for line in step.lines()]
        if self._count > MOST_STEPS:
            lines.append(f"... and {self._count - MOST_STEPS} more")
        return lines + self._notes


class _Watched:
    """A node whose evaluation is taken down."""

    def __init__(self, node: Node, piece: Piece, trace: Trace) -> None:
        self._node = node
        self._piece = piece
        self._trace = trace
        self.waits = node.waits

    def value(self, scope: Scope) -> str:
        """Evaluate without waiting."""
        with self._trace.watching(self._piece) as step:
            result = self._node.value(scope)
            step.result = _shown(result)
            return result

    async def expand(self, scope: Scope) -> str:
        """Evaluate."""
        with self._trace.watching(self._piece) as step:
            result = await evaluate(self._node, scope)
            step.result = _shown(result)
            return result


def _shown(value: str) -> str:
    mark = " (tainted)" if isinstance(value, Tainted) else ""
    return f'"{_cut(value)}"{mark}'


def _cut(text: str) -> str:
    shown = "".join(
        c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in text[:_WIDEST]
    )
    return shown if len(text) <= _WIDEST else f"{shown}..."

"""The ``{yes}{no}`` that follow a condition, a lookup or an extraction (specification 11.5)."""

from __future__ import annotations

from mailsrv.expansion.errors import ExpansionError, ForcedFailure
from mailsrv.expansion.parse import Parser
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.tree import Node, Text, any_waits, evaluate


class Branches:
    """Both branches of an item; ``fail`` stands for the second in some."""

    __slots__ = ("fail", "kind", "no", "waits", "yes")

    def __init__(self, kind: str, yes: Node | None, no: Node | None, *, fail: bool) -> None:
        self.kind = kind
        self.yes = yes
        self.no = no
        self.fail = fail
        self.waits = any_waits(yes, no)

    async def accept(self, scope: Scope, found: str) -> str:
        """The result when the test succeeded; ``found`` where there are no branches."""
        return found if self.yes is None else await evaluate(self.yes, scope)

    async def decline(self, scope: Scope) -> str:
        """The result when it failed.

        :raises ForcedFailure: the second branch is ``fail``.
        """
        return await evaluate(self.nodes("")[1], scope)

    def nodes(self, found: str) -> tuple[Node, Node]:
        """Both as nodes; ``found`` as in :meth:`accept`."""
        yes = Text(found) if self.yes is None else self.yes
        no = Text("") if self.no is None else self.no
        return yes, Failing(self.kind) if self.fail else no


class Failing:
    """The branch ``fail``."""

    __slots__ = ("kind",)
    waits = False

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def value(self, scope: Scope) -> str:
        """:raises ForcedFailure: always."""
        raise ForcedFailure(f'"{self.kind}" failed and "fail" requested')

    async def expand(self, scope: Scope) -> str:
        """:raises ForcedFailure: always."""
        return self.value(scope)


def _curly(parser: Parser, where: str) -> ExpansionError:
    return ExpansionError(
        f"curly-bracket problem in conditional yes/no parsing: {where}\n"
        f" remaining string is '{parser.rest()}'"
    )


def parse_branches(parser: Parser, kind: str) -> Branches:
    """Read the branches with the brace that ends the item."""
    parser.skip_space()
    if parser.take("}"):
        return Branches(kind, None, None, fail=False)
    if parser.peek() != "{":
        raise _curly(parser, "'yes' part did not start with '{'")
    yes = parser.braced()
    parser.skip_space()
    no, fail = None, False
    if parser.peek() == "{":
        no = parser.braced()
    elif parser.peek() != "}":
        fail = parser.name() == "fail"
        if not fail:
            raise ExpansionError(f'syntax error in "{kind}" item - "fail" expected')
    parser.skip_space()
    if not parser.take("}"):
        raise _curly(parser, "did not close with '}'")
    return Branches(kind, yes, no, fail=fail)

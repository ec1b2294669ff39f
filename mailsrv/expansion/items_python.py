"""``${python{function}{argument}…}``: a function of the administrator's own file (chapter 12)."""

from __future__ import annotations

from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.items import item
from mailsrv.expansion.parse import Parser
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.tree import Lazy, Node, evaluate
from mailsrv.mail.taint import like

_MOST_ARGUMENTS = 9


@item("python")
def _python(parser: Parser) -> Node:
    nodes = parser.arguments(1, _MOST_ARGUMENTS, "python")

    async def run(scope: Scope) -> str:
        name, *arguments = [await evaluate(node, scope) for node in nodes]
        functions = scope.services.functions
        if functions is None:
            raise ExpansionError("${python: python_startup is not set")
        return like(await functions.call(name, tuple(arguments)), *arguments)

    return Lazy(run, waits=True)

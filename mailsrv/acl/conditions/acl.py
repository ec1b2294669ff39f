"""``acl``: another ACL says whether the condition is true (44.26)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mailsrv.acl.item import Item
from mailsrv.acl.model import Discarded, Undecided
from mailsrv.errors import Position
from mailsrv.expansion.template import Template, compile_string
from mailsrv.interfaces import Action

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation

_MOST_ARGUMENTS = 9


class Nested(Item):
    """The name, text or file of an ACL; a name may be followed by up to nine arguments.

    Name and arguments are expanded separately; which of both it is shows when
    the first word, expanded, is the name of an ACL.
    """

    name = "acl"

    def __init__(self, argument: str, where: Position | None) -> None:
        super().__init__(argument, where)
        words = argument.split()
        self._head = compile_string(words[0] if words else "", where)
        self._arguments = tuple(compile_string(word, where) for word in words[1:])

    def templates(self) -> Iterator[Template]:
        """The strings of the item; the words of a text that is no call are not checked twice."""
        yield self.argument

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        if self._arguments and self._head.error is None:
            name = await run.expanded(self._head)
            if run.acls.named(name) is not None:
                values = [await run.expanded(word) for word in self._arguments[:_MOST_ARGUMENTS]]
                return await self._call(run, name, tuple(values))
        return await self._call(run, await run.expanded(self.argument), ())

    async def _call(self, run: Evaluation, text: str, arguments: tuple[str, ...]) -> bool:
        before = run.connection.acl_args
        run.connection.acl_args = arguments
        run.depth += 1
        state, verb = run.state, run.decided_by
        try:
            action = await run.obey(await run.acls.find(text, run))
        finally:
            run.depth -= 1
            run.state, run.decided_by = state, verb
            run.connection.acl_args = before
        run.connection.acl_verify_message = run.text
        if action is Action.DEFER:
            raise Undecided(run.text, run.log_text)
        if action is Action.DISCARD:
            raise Discarded
        state.dropped = action is Action.DROP
        return action is Action.ACCEPT

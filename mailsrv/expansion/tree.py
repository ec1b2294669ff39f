"""The tree that a string is compiled to, and how it is evaluated.

A node that does not wait is evaluated by ``value``; any node by ``expand``.
Whether it may wait (``waits``) is known when the string is compiled.  Lazy
nodes are coroutines; where nothing in them waits, :func:`drive` runs them to
their end without an event loop.

A node that can fail knows the offset in the string at which it stands (``at``,
which the parser sets), and tells it to the error that passes through it.

Taint (design, decision 3): a result is marked if any value that it was made
from is; this is done here, for all items and operators.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mailsrv.expansion.budget import bounded
from mailsrv.expansion.errors import ExpansionError
from mailsrv.mail.taint import Quoted, Tainted, is_harmless_component, like

if TYPE_CHECKING:
    from mailsrv.expansion.scope import Scope

T = TypeVar("T")


class Composed(Tainted):
    """Text of the configuration in which every value of a peer is one harmless path component.

    It stays marked, but may be used as the name of a file (``paths.as_path``).
    """

    __slots__ = ()


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that does not wait to its end; nobody else has a turn meanwhile.

    :raises TypeError: if it waits after all.
    """
    try:
        while (skip := getattr(coroutine.send(None), "skip", None)) is not None:  # a Turn
            skip()
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise TypeError("the string would have to wait for something")


class Node(Protocol):
    """A part of a compiled string."""

    @property
    def waits(self) -> bool:
        """Whether evaluating may wait for IO."""

    def value(self, scope: Scope) -> str:
        """Evaluate a node that does not wait."""

    def expand(self, scope: Scope) -> Awaitable[str]:
        """Evaluate any node."""


async def evaluate(node: Node, scope: Scope) -> str:
    """Evaluate any node, without a coroutine of its own where it does not wait."""
    return await node.expand(scope) if node.waits else node.value(scope)


def join(parts: Sequence[str]) -> str:
    """Concatenate values; marks the result."""
    bounded(sum(map(len, parts)))
    text = "".join(parts)
    marked = [part for part in parts if type(part) is not str and isinstance(part, Tainted)]
    if not marked or not text:
        return text
    quoted = [part for part in marked if isinstance(part, Quoted)]
    if len(quoted) == len(marked) and len({part.family for part in quoted}) == 1:
        values = tuple(value for part in quoted for value in part.values)
        return Quoted.of(text, quoted[0].family, values)
    if len(marked) < len(parts) and all(
        isinstance(part, Composed) or is_harmless_component(part) for part in marked
    ):
        return Composed(text)
    return Tainted(text)


class Text:
    """Literal text."""

    __slots__ = ("text",)
    waits = False

    def __init__(self, text: str) -> None:
        self.text = text

    def value(self, scope: Scope) -> str:
        """Evaluate without waiting."""
        return self.text

    async def expand(self, scope: Scope) -> str:
        """Evaluate."""
        return self.text


class Concatenation:
    """Several nodes, one after the other."""

    __slots__ = ("_steps", "parts", "waits")

    def __init__(self, parts: Sequence[Node]) -> None:
        self.parts = tuple(parts)
        self.waits = any(part.waits for part in parts)
        # Literal text stands there as it is, and asks for no call.
        self._steps = tuple(
            (part.text, None) if isinstance(part, Text) else ("", part) for part in parts
        )

    def value(self, scope: Scope) -> str:
        """Evaluate without waiting."""
        return join([text if part is None else part.value(scope) for text, part in self._steps])

    async def expand(self, scope: Scope) -> str:
        """Evaluate."""
        return join([await evaluate(part, scope) for part in self.parts])


class Number:
    """``$0``, ``$1`` …: what the last match in force left (specification 11.9)."""

    __slots__ = ("number",)
    waits = False

    def __init__(self, number: int) -> None:
        self.number = number

    def value(self, scope: Scope) -> str:
        """Evaluate without waiting."""
        return scope.numbers[self.number] if self.number < len(scope.numbers) else ""

    async def expand(self, scope: Scope) -> str:
        """Evaluate."""
        return self.value(scope)


class Placed:
    """A node that can fail, and knows where it stands: the parser sets ``at``, an offset."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = 0


class Variable(Placed):
    """A variable whose value is known without waiting.

    ``carried``: the connection may carry another value under its name, as ACL
    conditions leave it there.
    """

    __slots__ = ("carried", "function", "name")
    waits = False

    def __init__(
        self, name: str, function: Callable[[Scope], str], *, carried: bool = False
    ) -> None:
        super().__init__()
        self.name = name
        self.function = function
        self.carried = carried

    def value(self, scope: Scope) -> str:
        """Evaluate without waiting."""
        if scope.values:
            local = scope.values.get(self.name)
            if local is not None:
                return local
        connection = scope.connection
        try:
            if self.carried and connection is not None and connection.variables:
                return connection.variables.get(self.name) or self.function(scope)
            return self.function(scope)
        except ExpansionError as error:
            error.found_at(self.at)
            raise

    async def expand(self, scope: Scope) -> str:
        """Evaluate."""
        return self.value(scope)


class WaitingVariable(Placed):
    """A variable whose value may have to be looked up, such as ``$sender_host_name``."""

    __slots__ = ("function", "name")
    waits = True

    def __init__(self, name: str, function: Callable[[Scope], Awaitable[str]]) -> None:
        super().__init__()
        self.name = name
        self.function = function

    def value(self, scope: Scope) -> str:
        """Evaluate without waiting."""
        raise TypeError(f"${self.name} waits")

    async def expand(self, scope: Scope) -> str:
        """Evaluate."""
        local = scope.values.get(self.name)
        if local is not None:
            return local
        try:
            return await self.function(scope)
        except ExpansionError as error:
            error.found_at(self.at)
            raise


class Eager(Placed):
    """A pure function of its evaluated arguments.

    ``clean`` functions give results that cannot carry a peer's text, such as
    a number or a digest, and are not marked.  What a function ``quotes`` for a
    family of lookups is marked as that.
    """

    __slots__ = ("arguments", "clean", "function", "quotes", "waits")

    def __init__(
        self,
        function: Callable[..., str],
        arguments: Sequence[Node],
        *,
        clean: bool = False,
        quotes: str = "",
    ) -> None:
        super().__init__()
        self.function = function
        self.arguments = tuple(arguments)
        self.clean = clean
        self.quotes = quotes
        self.waits = any(argument.waits for argument in arguments)

    def _apply(self, values: list[str]) -> str:
        result = self.function(*values)
        bounded(len(result))
        marked = str(result) if self.clean else like(result, *values)
        if self.quotes and isinstance(marked, Tainted):
            return Quoted.of(marked, self.quotes, (result,))
        return marked

    def value(self, scope: Scope) -> str:
        """Evaluate without waiting."""
        try:
            return self._apply([argument.value(scope) for argument in self.arguments])
        except ExpansionError as error:
            error.found_at(self.at)
            raise

    async def expand(self, scope: Scope) -> str:
        """Evaluate."""
        try:
            return self._apply([await evaluate(argument, scope) for argument in self.arguments])
        except ExpansionError as error:
            error.found_at(self.at)
            raise


class Lazy(Placed):
    """An item that decides which of its parts are evaluated, and in what scope."""

    __slots__ = ("function", "waits")

    def __init__(
        self, function: Callable[[Scope], Coroutine[Any, Any, str]], *, waits: bool
    ) -> None:
        super().__init__()
        self.function = function
        self.waits = waits

    def value(self, scope: Scope) -> str:
        """Evaluate without waiting."""
        try:
            return drive(self.function(scope))
        except ExpansionError as error:
            error.found_at(self.at)
            raise

    async def expand(self, scope: Scope) -> str:
        """Evaluate."""
        try:
            return await self.function(scope)
        except ExpansionError as error:
            error.found_at(self.at)
            raise


class Either(Placed):
    """One of two nodes; which of them, a test decides that waits for nothing."""

    __slots__ = ("no", "test", "waits", "yes")

    def __init__(self, test: Callable[[Scope], object], yes: Node, no: Node) -> None:
        super().__init__()
        self.test = test
        self.yes = yes
        self.no = no
        self.waits = yes.waits or no.waits

    def value(self, scope: Scope) -> str:
        """Evaluate without waiting."""
        try:
            return (self.yes if self.test(scope) else self.no).value(scope)
        except ExpansionError as error:
            error.found_at(self.at)
            raise

    async def expand(self, scope: Scope) -> str:
        """Evaluate."""
        try:
            return await evaluate(self.yes if self.test(scope) else self.no, scope)
        except ExpansionError as error:
            error.found_at(self.at)
            raise


class Choice(Placed):
    """As :class:`Either`, but the test may leave another scope (``$1`` …)."""

    __slots__ = ("choose", "waits")

    def __init__(self, choose: Callable[[Scope], tuple[Node, Scope]], *, waits: bool) -> None:
        super().__init__()
        self.choose = choose
        self.waits = waits

    def value(self, scope: Scope) -> str:
        """Evaluate without waiting."""
        try:
            node, scope = self.choose(scope)
            return node.value(scope)
        except ExpansionError as error:
            error.found_at(self.at)
            raise

    async def expand(self, scope: Scope) -> str:
        """Evaluate."""
        try:
            node, scope = self.choose(scope)
            return await evaluate(node, scope)
        except ExpansionError as error:
            error.found_at(self.at)
            raise


class Apart:
    """The tree of another string within an item: where it failed is no place in this one."""

    __slots__ = ("node", "waits")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.waits = node.waits

    def value(self, scope: Scope) -> str:
        """Evaluate without waiting."""
        try:
            return self.node.value(scope)
        except ExpansionError as error:
            error.at = None
            raise

    async def expand(self, scope: Scope) -> str:
        """Evaluate."""
        try:
            return await self.node.expand(scope)
        except ExpansionError as error:
            error.at = None
            raise


Verdict = tuple[bool, "Scope"]


class Condition(Placed):
    """A condition: its verdict, and the scope (``$1``, ``$value``) that it leaves.

    ``now`` gives the same as ``function`` where nothing waits, without a coroutine;
    ``bare``, whose result counts as true or false, is given where the scope stays as it is.
    """

    __slots__ = ("bare", "function", "now", "waits")

    def __init__(
        self,
        function: Callable[[Scope], Coroutine[Any, Any, Verdict]],
        *,
        waits: bool,
        now: Callable[[Scope], Verdict] | None = None,
        bare: Callable[[Scope], object] | None = None,
    ) -> None:
        super().__init__()
        self.function = function
        self.bare = bare
        self.waits = waits
        self.now = now or self._driven

    async def test(self, scope: Scope) -> Verdict:
        """Return whether it is true, and the scope after it."""
        if not self.waits:
            return self.now(scope)
        try:
            return await self.function(scope)
        except ExpansionError as error:
            error.found_at(self.at)
            raise

    def _driven(self, scope: Scope) -> Verdict:
        try:
            return drive(self.function(scope))
        except ExpansionError as error:
            error.found_at(self.at)
            raise


def any_waits(*parts: Node | Condition | None) -> bool:
    """Tell whether any part of an item may wait."""
    return any(part is not None and part.waits for part in parts)

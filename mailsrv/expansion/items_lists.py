"""Items that go through a list: map, filter, reduce, sort (specification 11.5)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import copy
from functools import cmp_to_key

from mailsrv.expansion.budget import bounded
from mailsrv.expansion.conditions import COMPARISONS
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.items import item
from mailsrv.expansion.parse import Parser
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.separated import join_list, separator_of, split_list
from mailsrv.expansion.tree import Lazy, Node, evaluate
from mailsrv.mail.taint import like


@contextmanager
def _inside(name: str) -> Iterator[None]:
    """Say of an error that it is in the last argument of an item."""
    try:
        yield
    except ExpansionError as error:
        told = copy(error)
        told.reason = f'{error.reason} inside "{name}" item'
        raise told from None


def _end(parser: Parser, name: str) -> None:
    if not parser.take("}"):
        raise ExpansionError(f'missing }} at end of "{name}"')


@item("map")
def _map(parser: Parser) -> Node:
    (source,) = parser.each("map", "first arg")
    with _inside("map") if parser.peek() == "{" else nullcontext():
        (part,) = parser.each("map", "last arg")
    _end(parser, "map")

    async def run(scope: Scope) -> str:
        text = await evaluate(source, scope)
        inner, budget = scope.counted()
        results: list[str] = []
        length = 0
        for one in split_list(text):
            await budget.step()
            with _inside("map"):
                results.append(await evaluate(part, inner.within({"item": like(one, text)})))
            length = bounded(length + len(results[-1]))
        return like(join_list(results, separator_of(text)[0]), text, *results)

    return Lazy(run, waits=True)


@item("filter")
def _filter(parser: Parser) -> Node:
    (source,) = parser.each("filter", "first arg")
    if not parser.take("{"):
        raise ExpansionError("missing '{' for last arg of filter")
    with _inside("filter"):
        condition = parser.condition()
    parser.close("filter")
    parser.close("filter")

    async def run(scope: Scope) -> str:
        text = await evaluate(source, scope)
        inner, budget = scope.counted()
        kept = []
        for one in split_list(text):
            await budget.step()
            with _inside("filter"):
                true, _ = await condition.test(inner.within({"item": like(one, text)}))
            if true:
                kept.append(one)
        return like(join_list(kept, separator_of(text)[0]), text)

    return Lazy(run, waits=True)


@item("reduce")
def _reduce(parser: Parser) -> Node:
    source, start = parser.each("reduce", "first arg", "second arg")
    with _inside("reduce") if parser.peek() == "{" else nullcontext():
        (part,) = parser.each("reduce", "last arg")
    _end(parser, "reduce")

    async def run(scope: Scope) -> str:
        text = await evaluate(source, scope)
        value = await evaluate(start, scope)
        inner, budget = scope.counted()
        for one in split_list(text):
            await budget.step()
            with _inside("reduce"):
                here = inner.within({"item": like(one, text), "value": value})
                value = await evaluate(part, here)
        return value

    return Lazy(run, waits=True)


@item("sort")
def _sort(parser: Parser) -> Node:
    source, comparator, extractor = parser.each(
        "sort", "list arg", "comparator arg", "extractor arg"
    )
    parser.close("sort")

    async def run(scope: Scope) -> str:
        text = await evaluate(source, scope)
        name = await evaluate(comparator, scope)
        before = COMPARISONS.get(name)
        if before is None or name in ("=", "==", "eq", "eqi"):
            raise ExpansionError("comparator not handled for sort")
        inner, budget = scope.counted()
        keys: list[tuple[str, str]] = []
        for one in split_list(text):
            await budget.step()
            key = await evaluate(extractor, inner.within({"item": like(one, text)}))
            keys.append((key, one))

        def order(left: tuple[str, str], right: tuple[str, str]) -> int:
            budget.spend()
            if before(left[0], right[0]):
                return -1
            return 1 if before(right[0], left[0]) else 0

        ordered = sorted(keys, key=cmp_to_key(order))
        return like(join_list([one for _, one in ordered], separator_of(text)[0]), text)

    return Lazy(run, waits=True)

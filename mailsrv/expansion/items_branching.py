"""Items with branches, of files and of ACLs: if, lookup, extract, env, readfile, acl, sg."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from mailsrv.expansion import structured
from mailsrv.expansion.arithmetic import whole
from mailsrv.expansion.branches import Branches, parse_branches
from mailsrv.expansion.budget import LONGEST, bounded
from mailsrv.expansion.errors import ExpansionError, ForcedFailure
from mailsrv.expansion.items import item
from mailsrv.expansion.lookups import LookupType, search
from mailsrv.expansion.operators import quote_passwords
from mailsrv.expansion.parse import Parser
from mailsrv.expansion.paths import as_path
from mailsrv.expansion.regex import compile_regex, groups
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.separated import split_list
from mailsrv.expansion.template import compile_again
from mailsrv.expansion.tree import (
    Apart,
    Choice,
    Either,
    Lazy,
    Node,
    Text,
    any_waits,
    evaluate,
    join,
)
from mailsrv.mail.taint import Tainted, like

_SPACE = " \t\n\r\v\f"


@item("if")
def _if(parser: Parser) -> Node:
    condition = parser.condition()
    branches = parse_branches(parser, "if")
    if not condition.waits:
        yes, no = branches.nodes("true")
        if condition.bare is not None:
            return Either(condition.bare, yes, no)
        decide = condition.now

        def choose(scope: Scope) -> tuple[Node, Scope]:
            true, after = decide(scope)
            return (yes if true else no), after

        return Choice(choose, waits=branches.waits)

    async def run(scope: Scope) -> str:
        true, after = await condition.test(scope)
        return await (branches.accept(after, "true") if true else branches.decline(after))

    return Lazy(run, waits=True)


# --- lookup ----------------------------------------------------------------------


@item("lookup")
def _lookup(parser: Parser) -> Node:
    parser.skip_space()
    key = parser.braced() if parser.peek() == "{" else None
    parser.skip_space()
    if not (parser.peek().isascii() and parser.peek().isalpha()):
        raise ExpansionError("missing lookup type")
    start = parser.position
    while parser.peek() and parser.peek() not in _SPACE + "{":
        parser.position += 1
    try:
        kind = LookupType.parse(parser.text[start : parser.position])
    except ExpansionError as error:
        error.found_at(start)
        raise
    if kind.query and key is not None:
        raise ExpansionError(
            f'a single key was given for lookup type "{kind.name}", '
            "which is not a single-key lookup type"
        )
    if not kind.query and key is None:
        raise ExpansionError(f'missing {{key}} for single-key "{kind.name}" lookup')
    parser.skip_space()
    if parser.peek() != "{":
        raise parser.curly(" - missing '{' for lookup file-or-query arg")
    file = parser.braced()
    if kind.name.startswith("ldap"):
        quote_passwords(file)
    branches = parse_branches(parser, "lookup")

    async def run(scope: Scope) -> str:
        wanted = await evaluate(key, scope) if key is not None else ""
        where = await evaluate(file, scope)
        found = await search(kind, where, wanted, scope)
        if found is None:
            return await branches.decline(scope)
        numbers = (*(scope.numbers[:1] or ("",)), *found.numbers[1:]) if found.numbers else None
        inner = scope.within({"value": found.data}, numbers)
        return await branches.accept(inner, found.data)

    return Lazy(run, waits=True)


# --- extract ---------------------------------------------------------------------


def _read_strings(parser: Parser, most: int) -> tuple[list[Node], bool]:
    """Read braced strings, then perhaps ``fail``, and the end of the item."""
    strings: list[Node] = []
    parser.skip_space()
    while len(strings) < most and parser.peek() == "{":
        strings.append(parser.braced())
        parser.skip_space()
    fail = False
    if parser.peek() not in "{}":
        fail = parser.name() == "fail"
        if not fail:
            raise ExpansionError('syntax error in "extract" item - "fail" expected')
    parser.close("extract")
    return strings, fail


@item("extract")
def _extract(parser: Parser) -> Node:
    parser.skip_space()
    variant = parser.name()
    if variant:
        parser.skip_space()
    if variant not in ("", "json", "jsons") or parser.peek() != "{":
        raise ExpansionError("missing '{' for arg 1 of extract")
    (first,) = parser.each("extract", "arg 1")
    if isinstance(first, Text):
        return _extract_constant(parser, first.text.strip(_SPACE), variant)
    strings, fail = _read_strings(parser, 4)
    strings.insert(0, first)
    if len(strings) < 2:
        raise ExpansionError("missing '{' for arg 2 of extract")

    async def run(scope: Scope) -> str:
        key = (await evaluate(strings[0], scope)).strip(_SPACE)
        count, branches = _extract_split(strings, key, variant, fail)
        return await _extracted(key, variant, strings[1:count], branches, scope)

    return Lazy(run, waits=any_waits(*strings))


def _extract_constant(parser: Parser, key: str, variant: str) -> Node:
    """Read the rest where the key, and so the number of arguments, is known now."""
    if not key:
        raise ExpansionError('first argument of "extract" must not be empty')
    names = ("arg 2", "arg 3")[: 2 if _is_number(key) and not variant else 1]
    nodes = parser.each("extract", *names)
    branches = parse_branches(parser, "extract")

    async def run(scope: Scope) -> str:
        return await _extracted(key, variant, nodes, branches, scope)

    return Lazy(run, waits=any_waits(*nodes) or branches.waits)


async def _extracted(
    key: str, variant: str, nodes: Sequence[Node], branches: Branches, scope: Scope
) -> str:
    values = [await evaluate(node, scope) for node in nodes]
    if variant:
        found = structured.json_member(key, values[0], unquote=variant == "jsons")
    elif len(values) == 2:
        found = structured.field(whole(key), values[0], values[1])
    else:
        found = structured.keyed(key, values[0])
    if found is None:
        return await branches.decline(scope)
    found = like(found, *values)
    return await branches.accept(scope.within({"value": found}), found)


def _is_number(key: str) -> bool:
    return re.fullmatch(r"-?[0-9]+", key, re.ASCII) is not None


def _extract_split(
    strings: Sequence[Node], key: str, variant: str, fail: bool
) -> tuple[int, Branches]:
    """How many strings are arguments, and the branches that the others are."""
    if not key:
        raise ExpansionError('first argument of "extract" must not be empty')
    count = 3 if _is_number(key) and not variant else 2
    rest = list(strings[count:])
    if len(strings) < count:
        raise ExpansionError(f"missing '{{' for arg {len(strings) + 1} of extract")
    if len(rest) > (1 if fail else 2) or (fail and not rest):
        raise ExpansionError("missing or misplaced { or }")
    yes = rest[0] if rest else None
    no = rest[1] if len(rest) > 1 else None
    return count, Branches("extract", yes, no, fail=fail)


def _list_number(key: str) -> int:
    """Return the number of an element."""
    if not key:
        raise ExpansionError('first argument of "listextract" must not be empty')
    if not re.fullmatch(r"-?[0-9]{1,9}", key, re.ASCII):
        raise ExpansionError('first argument of "listextract" must be numeric')
    return int(key)


@item("listextract")
def _listextract(parser: Parser) -> Node:
    (number,) = parser.each("listextract", "arg 1")
    if isinstance(number, Text):
        _list_number(number.text.strip(_SPACE))  # a syntax fault now, not at delivery
    (text,) = parser.each("listextract", "arg 2")
    branches = parse_branches(parser, "listextract")

    async def run(scope: Scope) -> str:
        index = _list_number((await evaluate(number, scope)).strip(_SPACE))
        source = await evaluate(text, scope)
        items = split_list(source)
        if index == 0 or abs(index) > len(items):
            return await branches.decline(scope)
        found = like(items[index - 1 if index > 0 else index], source)
        return await branches.accept(scope.within({"value": found}), found)

    return Lazy(run, waits=any_waits(number, text) or branches.waits)


# --- environment, files, ACLs ------------------------------------------------------


@item("env")
def _env(parser: Parser) -> Node:
    (name,) = parser.arguments(1, 1, "env", end=False)
    branches = parse_branches(parser, "env")

    async def run(scope: Scope) -> str:
        key = (await evaluate(name, scope)).strip(_SPACE)
        raw = os.environb.get(key.encode("latin-1")) if key and "\0" not in key else None
        if raw is None:
            return await branches.decline(scope)
        found = raw.decode("latin-1")
        return await branches.accept(scope.within({"value": found}), found)

    return Lazy(run, waits=name.waits or branches.waits)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(LONGEST + 1)
    except OSError as error:
        raise ExpansionError(f"failed to open {path}: {error.strerror}") from None
    bounded(len(content))
    return content.decode("latin-1")


@item("readfile")
def _readfile(parser: Parser) -> Node:
    arguments = parser.arguments(1, 2, "readfile")

    async def run(scope: Scope) -> str:
        values = [await evaluate(node, scope) for node in arguments]
        path = as_path(values[0], "readfile")
        text = await scope.services.in_thread(_read, path)
        if len(values) == 1:
            return text
        bounded(len(text) + text.count("\n") * len(values[1]))
        return text.replace("\n", values[1])

    return Lazy(run, waits=True)


@item("acl")
def _acl(parser: Parser) -> Node:
    arguments = parser.arguments(1, 10, "acl")

    async def run(scope: Scope) -> str:
        name, *values = [await evaluate(node, scope) for node in arguments]
        if scope.services.acl is None:
            raise ExpansionError(f'acl "{name}" cannot be called here')
        verdict, message = await scope.services.acl(name, tuple(values), scope)
        if verdict is None:
            raise ForcedFailure(f'DEFER from acl "{name}"')
        return str(message)

    return Lazy(run, waits=True)


# --- sg ----------------------------------------------------------------------------


def _replacement(text: str) -> Node:
    """The tree of a replacement: it is expanded for each match, for its ``$1`` (11.5)."""
    if isinstance(text, Tainted) and ("$" in text or "\\" in text):
        raise ExpansionError(f"attempt to expand tainted string '{text}'")
    template = compile_again(str(text))
    if template.node is None:
        raise ExpansionError(template.error.reason if template.error is not None else "")
    return template.node if isinstance(template.node, Text) else Apart(template.node)


@item("sg")
def _sg(parser: Parser) -> Node:
    subject, pattern, replacement = parser.arguments(3, 3, "sg")
    fixed = _replacement(replacement.text) if isinstance(replacement, Text) else None

    async def run(scope: Scope) -> str:
        text = await evaluate(subject, scope)
        regex = compile_regex(await evaluate(pattern, scope))
        source = "" if fixed is not None else await evaluate(replacement, scope)
        insert = fixed if fixed is not None else _replacement(source)
        inner, budget = scope.counted()
        pieces: list[str] = []
        end = length = 0
        for match in regex.finditer(text):
            await budget.step()
            numbers = tuple(like(group, text) for group in groups(match))
            pieces.append(like(text[end : match.start()], text))
            pieces.append(like(await evaluate(insert, inner.within({}, numbers)), source))
            length = bounded(length + len(pieces[-1]))
            end = match.end()
        pieces.append(like(text[end:], text))
        return join(pieces)

    return Lazy(run, waits=True)

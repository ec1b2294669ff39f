"""The table of conditions (specification 11.7).

An eager condition is a pure function of its evaluated strings (``@eager``);
others read themselves and give a :class:`Condition`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion import structured
from mailsrv.expansion.arithmetic import integer
from mailsrv.expansion.errors import ExpansionError, ForcedFailure, LookupDeferred
from mailsrv.expansion.headers import find, header_kind
from mailsrv.expansion.lookups import as_query
from mailsrv.expansion.operators import quote_passwords
from mailsrv.expansion.operators_ip import parse_ip
from mailsrv.expansion.parse import SPACE, Parser
from mailsrv.expansion.passwords import check_password
from mailsrv.expansion.paths import as_path
from mailsrv.expansion.regex import compile_regex, groups
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.separated import split_list
from mailsrv.expansion.tree import Condition, Node, Text, Verdict, any_waits, evaluate
from mailsrv.mail.case import lower
from mailsrv.mail.message import Message
from mailsrv.mail.taint import like

Reader = Callable[[Parser, str], Condition]
Comparison = Callable[[str, str], bool]

CONDITIONS: dict[str, Reader] = {}


def parse_condition(parser: Parser) -> Condition:
    """Read one condition, with its negations."""
    negated = False
    while parser.take("!"):
        negated = not negated
        parser.skip_space()
    start = parser.position
    name = _symbol(parser) or parser.name()
    if not name:
        rest = parser.rest()[:16]
        raise ExpansionError(f'condition name expected, but found "{rest}"')
    reader = CONDITIONS.get(name)
    if reader is None:
        raise ExpansionError(f'unknown condition "{name}"', start)
    condition = reader(parser, name)
    condition.at = start
    return _negate(condition) if negated else condition


def _symbol(parser: Parser) -> str:
    for symbol in ("==", ">=", "<=", "=", ">", "<"):
        if parser.take(symbol):
            return symbol
    return ""


def _negate(condition: Condition) -> Condition:
    async def test(scope: Scope) -> Verdict:
        true, after = await condition.test(scope)
        return not true, after

    def now(scope: Scope) -> Verdict:
        true, after = condition.now(scope)
        return not true, after

    return Condition(test, waits=condition.waits, now=now)


def reads(*names: str) -> Callable[[Reader], Reader]:
    """Register a condition that reads itself."""

    def register(reader: Reader) -> Reader:
        for name in names:
            CONDITIONS[name] = reader
        return reader

    return register


def _strings(parser: Parser, count: int, name: str) -> list[Node]:
    """Read the strings of a condition, without its end."""
    found: list[Node] = []
    while len(found) < count:
        parser.skip_space()
        if parser.peek() != "{":
            if not found:
                raise ExpansionError(f'missing {{ after "{name}"')
            raise ExpansionError(f'missing 2nd string in {{}} after "{name}"')
        found.append(parser.braced())
    parser.skip_space()
    return found


def eager(name: str, count: int, function: Callable[..., bool]) -> None:
    """Register a pure function of ``count`` strings."""

    def read(parser: Parser, name: str) -> Condition:
        nodes = _strings(parser, count, name)

        async def test(scope: Scope) -> Verdict:
            return function(*[await evaluate(node, scope) for node in nodes]), scope

        def now(scope: Scope) -> Verdict:
            try:
                return function(*[node.value(scope) for node in nodes]), scope
            except ExpansionError as error:
                error.found_at(condition.at)
                raise

        condition = Condition(test, waits=any_waits(*nodes), now=now)
        return condition

    CONDITIONS[name] = read


# --- comparisons -----------------------------------------------------------------


def _caseless(compare: Comparison) -> Comparison:
    """Compare as Exim 4.96 does: ASCII letters in any case, a prefix is the greater one."""

    def test(left: str, right: str) -> bool:
        left, right = lower(left), lower(right)
        if left != right and right.startswith(left):
            return compare("\x01", "")
        return compare(left, right)

    return test


def _numeric(compare: Callable[[int, int], bool]) -> Comparison:
    return lambda left, right: compare(integer(left), integer(right))


_TEXT: dict[str, Comparison] = {
    "eq": lambda left, right: left == right,
    "ge": lambda left, right: left >= right,
    "gt": lambda left, right: left > right,
    "le": lambda left, right: left <= right,
    "lt": lambda left, right: left < right,
}
_NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "=": lambda left, right: left == right,
    "==": lambda left, right: left == right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
}
COMPARISONS: dict[str, Comparison] = {
    **_TEXT,
    **{f"{name}i": _caseless(compare) for name, compare in _TEXT.items()},
    **{name: _numeric(compare) for name, compare in _NUMBERS.items()},
}
for _name, _compare in COMPARISONS.items():
    eager(_name, 2, _compare)


# --- truth and form ---------------------------------------------------------------


def boolean(text: str) -> bool:
    """The truth of a string, strictly (``bool``).

    :raises ExpansionError: it is neither true nor false.
    """
    word = text.strip(SPACE).lower()
    if word in ("", "false", "no"):
        return False
    if word in ("true", "yes"):
        return True
    digits = word[1:] if word[:1] == "-" else word
    if digits.isascii() and digits.isdecimal():
        return bool(digits.strip("0"))
    raise ExpansionError(f'unrecognised boolean value "{text.strip(SPACE)}"')


def boolean_lax(text: str) -> bool:
    """The truth of a string as the routers' ``condition`` takes it (``bool_lax``)."""
    return text.strip(SPACE).lower() not in ("", "0", "no", "false")


def _is_ip(version: int, text: str) -> bool:
    address = parse_ip(text)
    return address is not None and version in (0, address.version)


eager("bool", 1, boolean)
eager("bool_lax", 1, boolean_lax)
eager("isip", 1, partial(_is_ip, 0))
eager("isip4", 1, partial(_is_ip, 4))
eager("isip6", 1, partial(_is_ip, 6))


def _at_once(test: Callable[[Scope], object]) -> Condition:
    """A condition that waits for nothing, and leaves the scope as it is."""

    async def run(scope: Scope) -> Verdict:
        return bool(test(scope)), scope

    return Condition(run, waits=False, now=lambda scope: (bool(test(scope)), scope), bare=test)


def _flag(test: Callable[[Scope], bool]) -> Reader:
    def read(parser: Parser, name: str) -> Condition:
        return _at_once(test)

    return read


CONDITIONS["queue_running"] = _flag(
    lambda scope: isinstance(scope.message, Message) and scope.message.queue_running
)
CONDITIONS["first_delivery"] = _flag(
    lambda scope: isinstance(scope.message, Message) and scope.message.first_delivery
)


@reads("def")
def _def(parser: Parser, name: str) -> Condition:
    if not parser.take(":"):
        raise ExpansionError('":" expected after "def"')
    start = parser.position
    name = parser.name()
    prefix, underscore, _ = name.partition("_")
    if parser.header(name, start) is not None:
        field = parser.text[start + len(prefix) + 1 : parser.position].rstrip(":")
        assert header_kind(prefix + underscore) is not None

        return _at_once(lambda scope: find(scope, field))
    if not name:
        raise ExpansionError('variable name omitted after "def:"')
    node = parser.variable(name, f'unknown variable "{name}" after "def:"', start)

    if not node.waits:
        return _at_once(node.value)

    async def test(scope: Scope) -> Verdict:
        return bool(await evaluate(node, scope)), scope

    return Condition(test, waits=True)


# --- combinations -------------------------------------------------------------------


@reads("and", "or")
def _combined(parser: Parser, name: str) -> Condition:
    parser.skip_space()
    if not parser.take("{"):
        raise ExpansionError(f'missing {{ after "{name}"')
    parts: list[Condition] = []
    while True:
        parser.skip_space()
        if parser.peek() != "{":
            break
        parser.position += 1
        try:
            parts.append(parser.condition())
        except ExpansionError as error:
            if "missing } at end" in error.reason:
                raise
            reason = f'{error.reason} inside "{name}{{...}}" condition'
            raise ExpansionError(reason, error.at) from None
        parser.skip_space()
        if not parser.take("}"):
            raise ExpansionError(f'missing }} at end of condition inside "{name}" group')
    if not parser.take("}"):
        if parser.peek():
            raise ExpansionError(
                f'each subcondition inside an "{name}{{...}}" condition must be in its own {{}}'
            )
        raise parser.curly()

    async def test(scope: Scope) -> Verdict:
        for part in parts:
            true, scope = await part.test(scope)
            if true == (name == "or"):
                return true, scope
        return name == "and", scope

    deciding = name == "or"
    tests = [part.now for part in parts]

    def now(scope: Scope) -> Verdict:
        for test in tests:
            true, scope = test(scope)
            if true is deciding:
                return true, scope
        return not deciding, scope

    return Condition(test, waits=any_waits(*parts), now=now)


@reads("forall", "forany", "forall_json", "forany_json", "forall_jsons", "forany_jsons")
def _for(parser: Parser, name: str) -> Condition:
    (source,) = _strings(parser, 1, name)
    if not parser.take("{"):
        raise ExpansionError(f'missing {{ after "{name}"')
    try:
        condition = parser.condition()
    except ExpansionError as error:
        raise ExpansionError(f'{error.reason} inside "{name}" condition', error.at) from None
    parser.skip_space()
    if not parser.take("}"):
        raise ExpansionError(f'missing }} at end of condition inside "{name}"')

    async def test(scope: Scope) -> Verdict:
        text = await evaluate(source, scope)
        wanted, some = name.startswith("forany"), False
        scope, budget = scope.counted()
        for one in _elements(name, text):
            await budget.step()
            true, after = await condition.test(scope.within({"item": like(one, text)}))
            scope = scope.within({}, after.numbers)  # $1 … outlive the loop, $item does not
            if true == wanted:
                return wanted, scope
            some = True
        return not wanted and some, scope  # an empty list makes neither true

    return Condition(test, waits=True)


def _elements(name: str, text: str) -> list[str]:
    if "_json" not in name:
        return split_list(text)
    values = [value for _, value in structured.json_elements(text)]
    return [structured.json_unquoted(v) for v in values] if name.endswith("s") else values


# --- lists and patterns ----------------------------------------------------------------


@reads("match")
def _match(parser: Parser, name: str) -> Condition:
    subject, pattern = _strings(parser, 2, name)
    if isinstance(pattern, Text):
        compile_regex(pattern.text)  # a fault is seen now, not at delivery

    async def test(scope: Scope) -> Verdict:
        text = await evaluate(subject, scope)
        match = compile_regex(await evaluate(pattern, scope)).search(text)
        if match is None:
            return False, scope
        numbers = tuple(like(group, text) for group in groups(match))
        return True, scope.within({}, numbers)

    return Condition(test, waits=any_waits(subject, pattern))


@reads("inlist", "inlisti")
def _inlist(parser: Parser, name: str) -> Condition:
    subject, source = _strings(parser, 2, name)

    async def test(scope: Scope) -> Verdict:
        wanted = await evaluate(subject, scope)
        text = await evaluate(source, scope)
        for one in split_list(text):
            if one == wanted or (name == "inlisti" and lower(one) == lower(wanted)):
                return True, scope.within({"value": like(one, text)})
        return False, scope

    return Condition(test, waits=any_waits(subject, source))


@reads("match_address", "match_domain", "match_ip", "match_local_part")
def _match_list(parser: Parser, name: str) -> Condition:
    from mailsrv.expansion import lists

    kind = name.removeprefix("match_")
    (subject,) = _strings(parser, 1, name)
    if parser.peek() != "{":
        raise ExpansionError(f'missing 2nd string in {{}} after "{name}"')
    source = parser.braced(dollars=False)  # not expanded (11.7)
    assert isinstance(source, Text)

    async def test(scope: Scope) -> Verdict:
        wanted = await evaluate(subject, scope)
        if kind == "ip" and wanted and parse_ip(wanted) is None:
            raise ExpansionError(f'"{wanted}" is not an IP address')
        try:
            found = await lists.match_text(kind, source.text, wanted, scope)
        except LookupDeferred as error:
            reason = _without_lookup(error.reason)
            text = f'unable to complete match against "{source.text}": {reason}'
            raise LookupDeferred(text) from error
        if found is None:
            return False, scope
        return True, scope.within({"value": found.data}, found.numbers or None)

    return Condition(test, waits=True)


# --- passwords, files, ACLs ---------------------------------------------------------------


@reads("crypteq")
def _crypteq(parser: Parser, name: str) -> Condition:
    given, stored = _strings(parser, 2, name)

    async def test(scope: Scope) -> Verdict:
        password = await evaluate(given, scope)
        right = await evaluate(stored, scope)
        return await scope.services.in_thread(check_password, password, right), scope

    return Condition(test, waits=True)


@reads("ldapauth")
def _ldapauth(parser: Parser, name: str) -> Condition:
    (query,) = _strings(parser, 1, name)
    quote_passwords(query)

    async def test(scope: Scope) -> Verdict:
        text = as_query(await evaluate(query, scope), "ldap")
        lookup = scope.services.lookup("ldap")
        authenticates = getattr(lookup, "authenticates", None)
        if authenticates is None:
            raise ExpansionError(f"condition {name}: there are no LDAP lookups here")
        try:
            return bool(await authenticates(text)), scope
        except ExpansionError:
            raise
        except TemporaryFailure as error:
            raise LookupDeferred(_without_lookup(error.reason)) from error

    return Condition(test, waits=True)


def _without_lookup(reason: str) -> str:
    """What went wrong, without the words that say in which lookup."""
    return re.sub(r'\Alookup of ".*?" gave DEFER: ', "", reason, flags=re.DOTALL)


@reads("exists")
def _exists(parser: Parser, name: str) -> Condition:
    (file,) = _strings(parser, 1, name)

    async def test(scope: Scope) -> Verdict:
        path = as_path(await evaluate(file, scope), "exists")
        return await scope.services.in_thread(os.path.exists, path), scope

    return Condition(test, waits=True)


@reads("acl")
def _acl(parser: Parser, name: str) -> Condition:
    parser.skip_space()
    if not parser.take("{"):
        raise ExpansionError(f'missing {{ after "{name}"')
    try:
        nodes = parser.arguments(1, 10, name)
    except ExpansionError as error:
        if not error.reason.startswith("Not enough arguments"):
            raise
        reason = f"too few arguments or bracketing error for {name}"
        raise ExpansionError(reason, error.at) from None

    async def test(scope: Scope) -> Verdict:
        called, *values = [await evaluate(node, scope) for node in nodes]
        if scope.services.acl is None:
            raise ExpansionError(f'acl "{called}" cannot be called here')
        verdict, message = await scope.services.acl(called, tuple(values), scope)
        if verdict is None:
            raise ForcedFailure(f'DEFER from acl "{called}"')
        return bool(verdict), scope.within({"value": str(message)})

    return Condition(test, waits=True)


@reads("pwcheck", "radius")
def _not_compiled(parser: Parser, name: str) -> Condition:
    """What Debian's Exim was built without, too."""
    node = _strings(parser, 1, name)[0]

    async def test(scope: Scope) -> Verdict:
        await evaluate(node, scope)
        raise ExpansionError(f'support for "{name}" not compiled')

    return Condition(test, waits=node.waits)


def _load() -> None:
    from mailsrv.expansion import conditions_services, items_srs  # noqa: F401


_load()

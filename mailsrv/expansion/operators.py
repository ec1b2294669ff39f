"""The table of operators ``${name_arguments:string}`` (specification 11.6).

An operator is a pure function of its evaluated string::

    @op("lc")
    def _lc(text): ...

``clean`` ones give numbers and digests, which carry nothing of a peer.  With
``argument=True`` the function is also given what follows the underscore.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from mailsrv.expansion import arithmetic, mailboxes, rfc2047, textual, times
from mailsrv.expansion.errors import ExpansionError, ForcedFailure
from mailsrv.expansion.lookups import QUERY_STYLE, SINGLE_KEY
from mailsrv.expansion.lookups import UNBUILT as UNBUILT_LOOKUPS
from mailsrv.expansion.parse import Parser
from mailsrv.expansion.paths import as_path
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.separated import split_list
from mailsrv.expansion.template import compile_again
from mailsrv.expansion.tree import Concatenation, Eager, Lazy, Node, Text, evaluate
from mailsrv.mail.case import lower, upper
from mailsrv.mail.taint import Tainted


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator: its function, and whether its result is free of the peer's text."""

    function: Callable[..., str]
    clean: bool = False
    argument: bool = False
    quotes: str = ""  # the family of lookups whose queries may hold the result


OPERATORS: dict[str, Operator] = {}


def op(
    *names: str, clean: bool = False, argument: bool = False
) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Register an operator."""

    def register(function: Callable[..., str]) -> Callable[..., str]:
        for name in names:
            OPERATORS[name] = Operator(function, clean, argument)
        return function

    return register


def operator(name: str, parser: Parser, start: int) -> Node:
    """Read the string with the closing brace of the operator that stands at ``start``.

    :raises ExpansionError: there is no such operator.
    """
    sub = parser.string(nested=True)
    parser.position += 1
    if name == "expand":
        return _expand(sub)
    if name == "stat":
        return _stat(sub)
    if name == "listnamed" or name.startswith("listnamed_"):
        if name[9:] not in ("", "_a", "_d", "_h", "_l"):
            raise ExpansionError('bad suffix on "list" operator', start)
        return _listnamed(sub, name[10:])
    found = OPERATORS.get(name)
    if found is None and name.startswith("quote_"):
        raise ExpansionError(f'unknown lookup type "{name[6:]}"', start)
    argument = None
    if found is None:
        base, underscore, argument = name.partition("_")
        if base == "stat":
            return _stat(sub)
        found = OPERATORS.get(base) if underscore else None
        if not found:
            raise ExpansionError(f'unknown expansion operator "{name}"', start)
    if not found.argument:
        return Eager(found.function, [sub], clean=found.clean, quotes=found.quotes)
    return Eager(partial(_with, found.function, name, argument), [sub], clean=found.clean)


def _with(function: Callable[..., str], name: str, argument: str | None, text: str) -> str:
    return function(text, name, argument)


def _expand(sub: Node) -> Node:
    async def run(scope: Scope) -> str:
        text = await evaluate(sub, scope)
        if isinstance(text, Tainted):
            raise ExpansionError(f"attempt to expand tainted string '{text}'")
        inner, budget = scope.counted()
        await budget.step()
        try:
            return await compile_again(text).expand(inner)
        except ForcedFailure:
            raise
        except ExpansionError as error:
            raise ExpansionError(f'internal expansion of "{text}" failed: {error.reason}') from None

    return Lazy(run, waits=True)


def _stat(sub: Node) -> Node:
    """What the system says of a file, as pairs of names and values."""

    async def run(scope: Scope) -> str:
        path = as_path(await evaluate(sub, scope), "stat")
        return await scope.services.in_thread(_facts, path)

    return Lazy(run, waits=True)


def _facts(path: str) -> str:
    """Blocks.  :raises ExpansionError: there is no such file, or it cannot be seen."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise ExpansionError(f"stat({path}) failed: {error.strerror}") from None
    return (
        f"mode={found.st_mode & 0o77777:04o} "
        f"smode={stat.filemode(found.st_mode)} inode={found.st_ino} "
        f"device={found.st_dev} links={found.st_nlink} uid={found.st_uid} gid={found.st_gid} "
        f"size={found.st_size} atime={int(found.st_atime)} mtime={int(found.st_mtime)} "
        f"ctime={int(found.st_ctime)}"
    )


def _listnamed(sub: Node, kind: str) -> Node:
    async def run(scope: Scope) -> str:
        name = await evaluate(sub, scope)
        lists = scope.services.lists
        text = lists.text_of(name, kind) if lists is not None else None
        if text is None:
            given = {"a": "address", "d": "domain", "h": "host", "l": "localpart"}.get(kind, "")
            raise ExpansionError(f'"{name}" is not a {given}{" " if given else ""}named list')
        return text

    return Lazy(run, waits=sub.waits)


# --- letters, parts, hashes ----------------------------------------------------


@op("lc")
def _lc(text: str) -> str:
    return lower(text)


@op("uc")
def _uc(text: str) -> str:
    return upper(text)


@op("strlen", clean=True)
def _strlen(text: str) -> str:
    return str(len(text))


_VALUES = re.compile(r"(-?)(?:([0-9]+)(?:_([0-9]+))?)?", re.ASCII)


def _values(name: str, argument: str | None) -> tuple[int, int | None]:
    """The numbers that stand after the operator's underscore."""
    if argument is None:
        raise ExpansionError(f"missing values after {name}")
    two = name[0] != "l"
    match = _VALUES.fullmatch(argument)
    if not match or (match[1] and name[0] != "s") or (match[3] is not None and not two):
        raise ExpansionError(f'non-digit after underscore in "{name}"')
    first = arithmetic.whole(match[1] + (match[2] or "0"))
    return first, arithmetic.whole(match[3]) if match[3] is not None else None


@op("substr", "s", argument=True)
def _substr(text: str, name: str, argument: str | None) -> str:
    return textual.substr(*_values(name, argument), text)


@op("length", "l", argument=True)
def _length(text: str, name: str, argument: str | None) -> str:
    return text[: _values(name, argument)[0]]


@op("hash", "h", argument=True)
def _hash(text: str, name: str, argument: str | None) -> str:
    return textual.hashed(*_values(name, argument), text)


@op("nhash", "nh", argument=True, clean=True)
def _nhash(text: str, name: str, argument: str | None) -> str:
    return textual.nhash(*_values(name, argument), text)


# --- numbers and times ---------------------------------------------------------


@op("eval", clean=True)
def _eval(text: str) -> str:
    return arithmetic.evaluate(text)


@op("eval10", clean=True)
def _eval10(text: str) -> str:
    return arithmetic.evaluate(text, decimal=True)


@op("randint", clean=True)
def _randint(text: str) -> str:
    limit = arithmetic.integer(text) if text else -1
    if limit < 0:
        kind = "non-negative integer" if text else "integer"
        raise ExpansionError(f'{kind} expected but "{text}" found')
    return str(secrets.randbelow(limit)) if limit > 0 else "0"


@op("time_eval", clean=True)
def _time_eval(text: str) -> str:
    seconds = times.interval(text)
    if seconds is None:
        raise ExpansionError(
            f'string "{text}" is not an Exim time interval in "time_eval" operator'
        )
    return str(seconds)


@op("time_interval", clean=True)
def _time_interval(text: str) -> str:
    if not re.fullmatch(r"[0-9]{0,18}", text):
        raise ExpansionError(
            f'string "{text}" is not a positive number in "time_interval" operator'
        )
    return times.show_interval(int(text or "0"))


@op("listcount", clean=True)
def _listcount(text: str) -> str:
    return str(len(split_list(text)))


# --- addresses and quoting -------------------------------------------------------


@op("address")
def _address(text: str) -> str:
    return mailboxes.address_of(text) or ""


@op("addresses")
def _addresses(text: str) -> str:
    separator = ":"
    stripped = text.lstrip(" \t\n\r\v\f")
    if stripped.startswith(">") and len(stripped) > 1:
        separator, text = stripped[1], stripped[2:]
    found = mailboxes.addresses_of(text)
    return separator.join(one.replace(separator, separator * 2) for one in found)


@op("local_part")
def _local_part(text: str) -> str:
    address = mailboxes.address_of(text) or ""
    return address.rpartition("@")[0] if "@" in address else address


@op("domain")
def _domain(text: str) -> str:
    _, at, domain = (mailboxes.address_of(text) or "").rpartition("@")
    return domain if at else ""


@op("quote")
def _quote(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_.-]+", text):
        return text
    escaped = re.sub(r'(["\\])', r"\\\1", text)
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r") + '"'


def quote_passwords(query: Node) -> None:
    """Let ``quote`` do for the password of a query of LDAP, which is not what is asked (34.2)."""
    parts = query.parts if isinstance(query, Concatenation) else ()
    for before, node in pairwise(parts):
        follows = isinstance(before, Text) and before.text.endswith("pass=")
        if follows and isinstance(node, Eager) and node.function is _quote:
            node.quotes = "ldap"


@op("quote_local_part")
def _quote_local_part(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+", text) and text.strip(".") == text:
        return text
    body = ""
    for character in text:
        if character == "\n":
            body += "\\n"
        elif character == "\r":
            body += "\\r"
        elif (character < " " and character != "\t") or character in '\\"\x7f':
            body += "\\" + character
        else:
            body += character
    return f'"{body}"'


@op("rxquote")
def _rxquote(text: str) -> str:
    return re.sub(r"([^A-Za-z0-9])", r"\\\1", text)


def _same(text: str) -> str:
    """Single-key types need no quoting (9.9)."""
    return text


def _load_quoters() -> None:
    from mailsrv.expansion.quoters import QUOTERS

    for name, (family, function) in QUOTERS.items():
        OPERATORS[f"quote_{name}"] = Operator(function, quotes=family)


for _name in SINGLE_KEY | QUERY_STYLE | UNBUILT_LOOKUPS:
    OPERATORS[f"quote_{_name}"] = Operator(_same)
_load_quoters()


@op("rfc2047")
def _rfc2047(text: str) -> str:
    return rfc2047.encode(text)


@op("rfc2047d")
def _rfc2047d(text: str) -> str:
    return rfc2047.decode(text)


def _load() -> None:
    from mailsrv.expansion import operators_coding, operators_ip, operators_utf8  # noqa: F401


_load()

"""Domain, host, address and local part lists (specification chapter 10).

Each ``match_…`` expands the list in ``scope`` and returns a :class:`Match`, or
None if the subject is not in the list.  A list is compiled once and kept with
its text; what an item means is ``patterns.py``'s and ``hostpatterns.py``'s.

:raises ExpansionError, LookupDeferred: as TemporaryFailure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.errors import ExpansionError, ForcedFailure, LookupDeferred
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.separated import join_list, separator_of, split_list
from mailsrv.expansion.template import Template
from mailsrv.mail.case import lower
from mailsrv.mail.origin import Origin
from mailsrv.mail.taint import Quoted, Tainted, is_tainted, like, piece

__all__ = (
    "Match",
    "NamedLists",
    "match_address",
    "match_domain",
    "match_host",
    "match_local_part",
    "match_text",
    "split_list",
)

_DEEPEST = 50


@dataclass(frozen=True, slots=True)
class Match:
    """A subject was in a list.

    ``data`` is $domain_data or $local_part_data (not marked); ``numbers`` are $0, $1 …
    """

    data: str = ""
    numbers: tuple[str, ...] = ()
    refused: bool = False  # within lists: a file's line "!item" ends the list without a match


class UnknownHost(Exception):
    """A host pattern needs a name or address that does not exist (10.15)."""


@dataclass(slots=True)
class Walk:
    """One subject on its way through a list.

    ``origin`` is the host of a host list.
    """

    kind: str
    subject: str
    scope: Scope
    caseful: bool = False
    origin: Origin | None = None
    depth: int = 0
    unknown: str = ""  # "include" or "ignore", after +include_unknown, +ignore_unknown
    defer: str = ""
    wild: bool = False  # an address' pattern gives $0, $1 …, as rewriting wants them (31.5)

    @property
    def text(self) -> str:
        """The subject in the case that comparisons want."""
        if self.kind == "domain" or not self.caseful:
            return lower(self.subject)
        return self.subject

    def inside(self, kind: str | None = None, subject: str | None = None) -> Walk:
        """A walk through another list for the same decision."""
        if self.depth >= _DEEPEST:
            raise ExpansionError("lists are nested too deeply (a list that contains itself?)")
        return replace(
            self,
            kind=self.kind if kind is None else kind,
            subject=self.subject if subject is None else subject,
            depth=self.depth + 1,
        )


class Pattern(Protocol):
    """What an item of a list matches."""

    async def match(self, walk: Walk) -> Match | None:
        """Return the match, None for no match."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item; a ``setting`` such as ``+caseful`` changes the walk and matches nothing."""

    pattern: Pattern | None
    negated: bool = False
    setting: str = ""


_SETTINGS = {
    "address": ("caseful",),
    "local_part": ("caseful",),
    "host": ("include_unknown", "ignore_unknown", "include_defer", "ignore_defer"),
    "ip": ("include_unknown", "ignore_unknown", "include_defer", "ignore_defer"),
    "domain": (),
}
# Words that begin with a plus sign and are no names of lists.
SETTINGS = frozenset(word for words in _SETTINGS.values() for word in words)


@dataclass(frozen=True, slots=True)
class Broken:
    """What is not well formed."""

    reason: str

    async def match(self, walk: Walk) -> Match | None:
        """Raise the error."""
        raise ExpansionError(self.reason)


def read_item(kind: str, text: str) -> Item:
    """Read one item.

    :raises ExpansionError: it is not well formed.
    """
    from mailsrv.expansion.patterns import read_pattern

    negated = text.startswith("!")
    if negated:
        text = piece(text[1:].lstrip(" \t"), text)
    if text.startswith("+") and text[1:] in _SETTINGS[kind]:
        return Item(None, setting=text[1:])
    return Item(read_pattern(kind, text), negated)


def _read_items(
    kind: str, text: str, mark: type[str], quoted: tuple[str, tuple[str, ...]] = ("", ())
) -> tuple[Item, ...]:
    items = split_list(text)
    if mark is Quoted:
        family, values = quoted
        return tuple(_item(kind, Quoted.of(item, family, values)) for item in items)
    return tuple(_item(kind, mark(item)) for item in items)


def _item(kind: str, text: str) -> Item:
    """Read an item; one that is not well formed is an error when it is reached."""
    try:
        return read_item(kind, text)
    except ExpansionError as error:
        return Item(Broken(error.reason))


_compiled = lru_cache(maxsize=2000)(_read_items)


async def walk_items(items: tuple[Item, ...], walk: Walk) -> Match | None:
    """Go through items up to the one that decides (10.2: the last one's negation counts)."""
    negated = False
    # An address without a domain matches nothing, as in Exim; but the null sender may.
    bare = walk.kind == "address" and walk.subject and "@" not in walk.subject and not walk.wild
    for item in items:
        if item.pattern is None:
            _set(walk, item.setting)
            continue
        negated = item.negated
        if bare and not _is_named(item):
            continue
        try:
            match = await item.pattern.match(walk)
        except UnknownHost:
            if walk.unknown == "ignore":
                continue
            return Match() if walk.unknown == "include" else None  # even of an item with "!"
        except TemporaryFailure as error:
            if not walk.defer or not _is_deferral(error):
                raise
            if walk.defer == "ignore":
                continue
            return Match()
        if match is not None:
            if item.negated != match.refused:
                return None
            return replace(match, refused=False) if match.refused else match
    return Match() if negated else None


def _is_named(item: Item) -> bool:
    from mailsrv.expansion.patterns import Named

    return isinstance(item.pattern, Named)


def _is_deferral(error: TemporaryFailure) -> bool:
    """Whether names could not be looked up now; a fault of a string is none."""
    return isinstance(error, LookupDeferred) or not isinstance(error, ExpansionError)


def _set(walk: Walk, setting: str) -> None:
    if setting == "caseful":
        walk.caseful = True
        return
    word, _, what = setting.partition("_")
    if what == "unknown":
        walk.unknown = word
    else:
        walk.defer = word


async def match_list(text: str, walk: Walk) -> Match | None:
    """Go through the list that ``text`` is."""
    if walk.kind == "domain" and type(text) is str:
        names, rest = _domains(text)
        subject = lower(walk.subject)
        name = names.get(subject)
        if name is not None:
            return Match(name, (like(subject, walk.subject),))
        return await walk_items(rest, walk) if rest else None
    return await walk_items(compiled(walk.kind, text), walk)


@lru_cache(maxsize=2000)
def _domains(text: str) -> tuple[dict[str, str], tuple[Item, ...]]:
    """Return the whole names that a domain list begins with, by lowered name, and other items."""
    from mailsrv.expansion.patterns import Exact

    items = _compiled("domain", text, str)
    names: dict[str, str] = {}
    for place, item in enumerate(items):
        if item.negated or not isinstance(item.pattern, Exact):
            return names, items[place:]
        names.setdefault(item.pattern.lowered, item.pattern.text)
    return names, ()


def compiled(kind: str, text: str) -> tuple[Item, ...]:
    """Return the items of a list, marked as the list is.

    What was quoted for a lookup's query is so no more if it divides the list.
    """
    if not isinstance(text, Tainted):
        return _compiled(kind, text, str)
    if isinstance(text, Quoted):
        separator, _ = separator_of(text)
        if not any(separator in value for value in text.values):
            return _compiled(kind, text, Quoted, (text.family, text.values))
        return _compiled(kind, text, Tainted)
    return _compiled(kind, text, type(text))


async def match_one(pattern: str, address: str, scope: Scope) -> Match | None:
    """Match an address with one item, whatever colons it has: a rewriting rule's (31.5)."""
    walk = Walk("address", address, scope, caseful=True, wild=True)
    return await walk_items(_one_item(pattern, marked=is_tainted(pattern)), walk)


@lru_cache(maxsize=500)
def _one_item(text: str, *, marked: bool) -> tuple[Item, ...]:
    return (read_item("address", Tainted(text) if marked else text),)


# --- named lists -----------------------------------------------------------------------


class NamedLists:
    """The domainlist, hostlist, addresslist and localpartlist definitions."""

    def __init__(
        self,
        domains: Mapping[str, Template] | None = None,
        hosts: Mapping[str, Template] | None = None,
        addresses: Mapping[str, Template] | None = None,
        local_parts: Mapping[str, Template] | None = None,
    ) -> None:
        self._lists = {
            "domain": domains or {},
            "host": hosts or {},
            "address": addresses or {},
            "local_part": local_parts or {},
        }

    def get(self, kind: str, name: str) -> Template:
        """The definition of a list.

        :raises ExpansionError: there is none of that kind.
        """
        kind = "host" if kind == "ip" else kind
        found = self._lists[kind].get(name)
        if found is None:
            word = kind.replace("_", " ")
            raise ExpansionError(f'unknown named {word} list "+{name}"')
        return found

    def text_of(self, name: str, kind: str = "") -> str | None:
        """A list's content with the lists that it names put in (``listnamed``); None if unknown."""
        letters = {"a": "address", "d": "domain", "h": "host", "l": "local_part"}
        kinds = [letters[kind]] if kind in letters else list(letters.values())
        for one in kinds:
            if name in self._lists[one]:
                source = self._lists[one][name].source
                return join_list(self._items_of(one, name, 0), ":") if "+" in source else source
        return None

    def _items_of(self, kind: str, name: str, depth: int) -> list[str]:
        if depth > _DEEPEST:
            raise ExpansionError("lists are nested too deeply (a list that contains itself?)")
        found: list[str] = []
        for item in split_list(self.get(kind, name).source):
            if item.startswith("+") and item[1:] in self._lists[kind]:
                found.extend(self._items_of(kind, item[1:], depth + 1))
            else:
                found.append(item)
        return found


async def match_named(name: str, walk: Walk) -> Match | None:
    """Match the subject in a named list."""
    lists = walk.scope.services.lists
    if lists is None:
        raise ExpansionError(f'unknown named {walk.kind.replace("_", " ")} list "+{name}"')
    template = lists.get(walk.kind, name)
    return await match_list(await _expanded(template, walk.scope), walk.inside())


async def _expanded(template: Template, scope: Scope) -> str:
    """The list; one whose string is forced to fail has nothing in it (10.1)."""
    if template.constant is not None:
        return template.constant
    try:
        return await template.expand(scope)
    except ForcedFailure:
        return ""


# --- what the stages call -----------------------------------------------------------------


async def match_text(
    kind: str, text: str, subject: str, scope: Scope, *, caseful: bool = False
) -> Match | None:
    """Match in a list that is already expanded; ``kind``: domain, local_part, address, ip."""
    origin = Origin(host_address=subject) if kind == "ip" else None
    return await match_list(text, Walk(kind, subject, scope, caseful, origin))


async def match_domain(list: Template, domain: str, scope: Scope) -> Match | None:
    """Match a domain, in any case."""
    return await match_text("domain", await _expanded(list, scope), domain, scope)


async def match_local_part(
    list: Template, local_part: str, scope: Scope, *, caseful: bool = False
) -> Match | None:
    """Match a local part; ``caseful`` from the start, else up to ``+caseful``."""
    text = await _expanded(list, scope)
    return await match_text("local_part", text, local_part, scope, caseful=caseful)


async def match_address(
    list: Template, address: str, scope: Scope, *, caseful: bool = False
) -> Match | None:
    """Match an address; "" is the null sender."""
    text = await _expanded(list, scope)
    return await match_text("address", text, address, scope, caseful=caseful)


async def match_host(list: Template, origin: Origin, scope: Scope) -> Match | None:
    """Match a host by its address, or by its name, which is then looked up."""
    text = await _expanded(list, scope)
    return await match_list(text, Walk("host", origin.host_address, scope, origin=origin))

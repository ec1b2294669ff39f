"""Lookups as strings and lists name them: ``partial-lsearch*@`` and the search itself (chapter 9).

The types themselves are ``mailsrv.lookup``'s; they come in through
``Services.lookup``.  Data that a lookup found is trusted: it is not marked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.errors import ExpansionError, LookupDeferred
from mailsrv.expansion.parse import NOT_BUILT
from mailsrv.expansion.paths import as_path
from mailsrv.expansion.quoters import QUOTERS
from mailsrv.expansion.scope import Scope
from mailsrv.mail.taint import Quoted, Tainted

_SINGLE_KEY = "cdb dbm dbmjz dbmnz dsearch iplsearch json lmdb lsearch nwildlsearch wildlsearch"
SINGLE_KEY = set(_SINGLE_KEY.split())
_QUERY_STYLE = "dnsdb ldap ldapdn ldapm mysql passwd pgsql redis sqlite"
QUERY_STYLE = set(_QUERY_STYLE.split())
UNBUILT = frozenset({"nis", "nis0", "spf"})
_LITERAL = SINGLE_KEY - {"iplsearch", "nwildlsearch", "wildlsearch"}  # a key is found as it is
_FREE = frozenset({"dnsdb", "passwd"})  # queries in which nothing can be injected
_FAMILIES = {"ldapm": "ldap", "ldapdn": "ldap"}
_FORM = re.compile(
    r"(?:(?P<partial>partial)(?P<least>[0-9]*)(?:\((?P<affix>[!-'*-/:-@[-`{-~]*)\)|-))?"
    r"(?P<name>[A-Za-z0-9_]+)(?:(?P<star>\*@?)[^,]*)?(?:,(?P<options>.*))?\Z",
    re.ASCII | re.DOTALL,
)


def is_type(name: str) -> bool:
    """Tell whether there is a type of lookup with this name, ours or that of a plugin."""
    if name not in SINGLE_KEY and name not in QUERY_STYLE:
        from mailsrv.expansion.added import added_type  # here: most types are ours

        plugin = added_type(name)
        if plugin is None:
            return False
        (QUERY_STYLE if plugin.query else SINGLE_KEY).add(name)
    return True


@dataclass(frozen=True, slots=True)
class LookupType:
    """A type of lookup with its decorations."""

    name: str
    partial: bool = False
    least: int = 2  # components that must remain of a partial key
    affix: str = "*."
    star: str = ""  # "", "*" or "*@"
    options: str = ""

    def __str__(self) -> str:
        return ("partial-" if self.partial else "") + self.name + self.star

    @property
    def query(self) -> bool:
        """Whether it takes a query, not a file and a key."""
        return self.name in QUERY_STYLE

    def returned(self, key: str, found: str, data: str) -> str:
        """Return what a search for ``key`` gives: itself with ``ret=key``, else the data (9.3).

        A peer's key stays marked, unless it was ``found`` as it is.
        """
        if "ret=key" not in self.options.split(","):
            return data
        return str(key) if key == found and self.name in _LITERAL else key

    @classmethod
    def parse(cls, text: str) -> LookupType:
        """Read the name of a type.

        :raises ExpansionError: there is none of that name here.
        """
        match = _FORM.match(text)
        if match is None and text.startswith("partial"):
            raise ExpansionError(f'format error in lookup type "{text}"')
        name = match["name"] if match else text
        if name in UNBUILT:
            raise ExpansionError(f'lookup type "{name}": {NOT_BUILT}')
        if match is None or not is_type(name):
            raise ExpansionError(f'unknown lookup type "{name}"')
        if name in QUERY_STYLE and match["partial"]:
            raise ExpansionError(f'"partial" is not permitted for lookup type "{name}"')
        if name in QUERY_STYLE and match["star"]:
            why = 'defaults using "*" or "*@" are not permitted for lookup type'
            raise ExpansionError(f'{why} "{name}{match["star"]}"')
        return cls(
            name,
            match["partial"] is not None,
            int(match["least"][:3]) if match["least"] else 2,
            "*." if match["affix"] is None else match["affix"],
            match["star"] or "",
            match["options"] or "",
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What a lookup found; ``numbers`` are $0, $1 (wild) and $2 (fixed part) of a partial one."""

    data: str
    numbers: tuple[str, ...] = ()


def keys(kind: LookupType, key: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The keys to try, in order, with the numbers that each sets (9.6, 9.7)."""
    yield key, (key, "", key) if kind.partial else ()
    if kind.partial:
        yield from _partial_keys(kind, key)
    if kind.star == "*@" and "@" in key:
        local, _, domain = key.rpartition("@")
        yield f"*@{domain}", (key, local, "")
    if kind.star:
        yield "*", (key, key, "")


def _partial_keys(kind: LookupType, key: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    if kind.affix:
        yield kind.affix + key, (key, "", key)
    components = key.split(".")
    for start in range(1, len(components) + 1):
        left = len(components) - start
        if left < kind.least:
            return
        wild, fixed = ".".join(components[:start]), ".".join(components[start:])
        if left:
            yield kind.affix + fixed, (key, wild, fixed)
        elif kind.affix:
            yield kind.affix.rstrip("."), (key, wild, "")


def as_query(text: str, type: str) -> str:
    """Return a query without its mark, if it may be sent.

    It may if each value of a peer in it went through the quoter of the type.

    :raises LookupDeferred: names the mend.
    """
    family = _FAMILIES.get(type, type)
    if not isinstance(text, Tainted) or type in _FREE:
        return str(text)
    if isinstance(text, Quoted) and text.family == family:
        return str(text)
    if family not in QUOTERS:
        raise LookupDeferred(f"tainted query for {type} lookup is not permitted: '{text}'")
    raise LookupDeferred(
        f"tainted query for {type} lookup is not permitted: '{text}' "
        f"(quote each value that a client sent: ${{quote_{family}:...}})"
    )


async def search(kind: LookupType, file: str, key: str, scope: Scope) -> Found | None:
    """Search; None if nothing is found.  For a query-style type ``file`` is the query.

    :raises LookupDeferred: the file or server cannot be used now.
    :raises ExpansionError: the type is not built, or the file name is a peer's.
    """
    lookup = scope.services.lookup(kind.name)
    if lookup is None:
        raise ExpansionError(f'lookup type "{kind.name}": {NOT_BUILT}')
    try:
        if kind.query:
            data = await lookup.find("", as_query(file, kind.name), kind.options)
            return None if data is None else Found(kind.returned(file, file, data))
        path = as_path(file, f"{kind.name} lookup")
        for wanted, numbers in keys(kind, str(key)):
            data = await lookup.find(path, wanted, kind.options)
            if data is not None:
                return Found(kind.returned(key, wanted, data), numbers)
    except ExpansionError:
        raise
    except TemporaryFailure as error:
        raise LookupDeferred(error.reason) from error
    return None

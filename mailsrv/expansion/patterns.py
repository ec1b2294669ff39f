"""Items of domain, address and local part lists (specification 10.3, 10.9, 10.20, 10.22)."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, replace

from mailsrv.expansion.errors import ExpansionError, LookupDeferred
from mailsrv.expansion.lists import (
    Item,
    Match,
    Pattern,
    Walk,
    match_list,
    match_named,
    read_item,
    walk_items,
)
from mailsrv.expansion.lookups import UNBUILT, LookupType, is_type, search
from mailsrv.expansion.paths import as_path
from mailsrv.expansion.regex import compile_regex, groups
from mailsrv.expansion.separated import split_list
from mailsrv.mail.address import split
from mailsrv.mail.case import lower
from mailsrv.mail.taint import like, piece

_LOOKUP = re.compile(
    r"((?:partial[0-9]*(?:\([^)]*\)|-))?([A-Za-z0-9_]+)(?:\*@?[^,;]*)?(?:,[^;]*)?);[ \t]*(.*)\Z",
    re.DOTALL | re.ASCII,
)


def lookup_of(text: str) -> tuple[LookupType, str] | None:
    """Return type and file (or query) of an item ``type;file``; None if it is none.

    :raises ExpansionError: the type is not built here.
    """
    match = _LOOKUP.match(text)
    if match is None or not (match[2] in UNBUILT or is_type(match[2])):
        name, semicolon, _ = text.partition(";")
        if semicolon and "@" not in name:
            raise ExpansionError(f'unknown lookup type "{name}"')
        return None
    return LookupType.parse(match[1]), piece(match[3], text)


@dataclass(frozen=True, slots=True)
class Exact:
    """The same text, in any case unless the walk is caseful."""

    text: str
    lowered: str

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        text = walk.text
        wanted = self.text if walk.caseful and walk.kind != "domain" else self.lowered
        return Match(self.text, (like(text, walk.subject),)) if text == wanted else None


@dataclass(frozen=True, slots=True)
class Suffix:
    """``*end``: the subject ends so."""

    text: str
    lowered: str

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        subject = walk.text
        end = self.text[1:] if walk.caseful and walk.kind != "domain" else self.lowered
        if not subject.endswith(end):
            return None
        wild = subject[: len(subject) - len(end)]
        return Match(self.text, (like(subject, walk.subject), like(wild, walk.subject)))


@dataclass(frozen=True, slots=True)
class Regex:
    """``^…``: a regular expression, in any case unless the walk is caseful."""

    text: str

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        caseless = walk.kind == "domain" or not walk.caseful
        subject = walk.subject
        if walk.kind == "address":
            local_part, at, domain = subject.rpartition("@")
            subject = f"{local_part}{at}{lower(domain)}"
        found = compile_regex(self.text, caseless=caseless).search(subject)
        if found is None:
            return None
        if walk.kind == "address" and not walk.wild:
            return Match()
        # $0 is the whole subject here, whatever part of it the expression matched (as Exim does)
        numbers = (walk.subject, *groups(found)[1:])
        return Match(self.text, tuple(like(number, walk.subject) for number in numbers))


@dataclass(frozen=True, slots=True)
class Lookup:
    """``type;file``: the subject is a key of the file, or the query answers."""

    type: LookupType
    file: str

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        kind = self.type
        if walk.kind == "address":
            if not (walk.subject or kind.query or kind.star):
                return None
            if kind.partial:  # not applicable to whole addresses (10.20)
                kind = replace(kind, partial=False)
        found = await search(kind, self.file, walk.text, walk.scope)
        if found is None:
            return None
        if walk.kind == "address" and not walk.wild:
            return Match(found.data)
        return Match(found.data, found.numbers or (like(walk.text, walk.subject),))


@dataclass(frozen=True, slots=True)
class Named:
    """``+name``."""

    name: str

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        return await match_named(self.name, walk)


@dataclass(frozen=True, slots=True)
class File:
    """``/path``: each line is an item, and the match's data; ``#`` begins a comment (10.3)."""

    path: str

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        path = as_path(self.path, "list")
        text = await walk.scope.services.in_thread(_read, path)
        comment = r"(?:^|[ \t])#.*" if walk.kind in ("address", "local_part") else r"#.*"
        items = []
        for line in text.split("\n"):
            item = re.sub(comment, "", line).strip(" \t\r")
            if item:
                items.append((item.lstrip("! \t"), read_item(walk.kind, item)))
        for line, one in items:
            found = await one.pattern.match(walk) if one.pattern is not None else None
            if found is not None:
                return replace(found, data=line, refused=one.negated != found.refused)
        return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="latin-1") as file:
            return file.read()
    except OSError as error:
        raise LookupDeferred(f"failed to open {path} for list: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class Primary:
    """``@``: the primary host name."""

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        name = walk.scope.services.settings.get("primary_hostname", "")
        text = walk.text
        return Match(name, (like(text, walk.subject),)) if text == name.lower() else None


def is_local_address(text: str) -> bool:
    """Tell whether an IP address is one of this host's own.

    A datagram socket can be bound to it exactly then; nothing is sent.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if address.is_unspecified or address.is_multicast:
        return False
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class LocalLiteral:
    """``@[]``: a domain literal of one of the host's own addresses."""

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        domain = walk.text
        if domain[:1] != "[" or domain[-1:] != "]":
            return None
        address = domain[1:-1].removeprefix("ipv6:")
        own = is_local_address(address)
        return Match("@[]", (like(domain, walk.subject),)) if own else None


@dataclass(frozen=True, slots=True)
class LocalMx:
    """``@mx_any``, ``@mx_primary``, ``@mx_secondary``, perhaps with ``/ignore=list``."""

    text: str

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        which, _, option = self.text[4:].partition("/")
        ignored = option.removeprefix("ignore=") if option else ""
        resolver = walk.scope.services.resolver
        if resolver is None:
            raise LookupDeferred(f"{self.text}: no DNS resolver")
        answer = await resolver.query(walk.text, "MX")
        hosts = sorted((int(p), n) for p, _, n in (r.partition(" ") for r in answer.records))
        local = [p for p, name in hosts[:100] if await self._is_local(name, ignored, walk)]
        if not local:
            return None
        primary = hosts[0][0] in local
        wanted = {"any": True, "primary": primary, "secondary": not primary}
        return Match(self.text) if wanted.get(which, False) else None

    async def _is_local(self, name: str, ignored: str, walk: Walk) -> bool:
        settings = walk.scope.services.settings
        if name.rstrip(".").lower() == settings.get("primary_hostname", "").lower():
            return True
        resolver = walk.scope.services.resolver
        assert resolver is not None
        found = await resolver.addresses(name)
        for one in filter(is_local_address, found):
            host = walk.inside("ip", one)
            if not ignored or await match_list(ignored, host) is None:
                return True
        return False


# --- addresses -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Null:
    """An empty item: the null sender, or the host of a local submission."""

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        return None if walk.subject else Match()


@dataclass(frozen=True, slots=True)
class Mailbox:
    """``local@domain``: both halves are patterns; the domain's is a list of one item, or none."""

    local_text: str
    local: Pattern | None  # None: any
    domain: tuple[Item, ...]

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        if not walk.subject:
            return None
        local_part, domain = split(walk.subject)
        if self._elsewhere(domain):
            return None
        host = await walk_items(self.domain, walk.inside("domain", domain))
        if host is None:
            return None
        if self.local is None:
            data = f"@{host.data}" if "@" in walk.subject else host.data
            return Match(data, self._numbers(walk, (), host.numbers))
        here = await self.local.match(walk.inside("local_part", local_part))
        if here is None:
            return None
        numbers = self._numbers(walk, here.numbers, host.numbers)
        return Match(like(f"{self.local_text}@{host.data}", self.local_text), numbers)

    def _elsewhere(self, domain: str) -> bool:
        """Whether the domain is one name, and another: most of a list's addresses are."""
        item = self.domain[0] if len(self.domain) == 1 else None
        if item is None or item.negated or not isinstance(item.pattern, Exact):
            return False
        return item.pattern.lowered != lower(domain)

    def _numbers(self, walk: Walk, *halves: tuple[str, ...]) -> tuple[str, ...]:
        """What asterisks stood for, those of the local part first (31.5)."""
        if not walk.wild:
            return ()
        return (walk.subject, *(number for half in halves for number in half[1:]))


@dataclass(frozen=True, slots=True)
class LocalPartsOf:
    """``@@type;file``: the domain is looked up and gives local part patterns (10.20)."""

    type: LookupType
    file: str

    async def match(self, walk: Walk) -> Match | None:
        """Match the subject of the walk."""
        if not walk.subject:
            return None
        local_part, key = split(walk.subject)
        key = lower(key)
        for _ in range(50):
            found = await search(self.type, self.file, key, walk.scope)
            if found is None:
                return None
            items = split_list(found.data)
            chain = items[-1][1:] if items and items[-1].startswith(">") else ""
            here = ":".join(i.replace(":", "::") or " " for i in (items[:-1] if chain else items))
            match = await match_list(here, walk.inside("local_part", local_part))
            if match is not None or not chain:
                return None if match is None else replace(match, numbers=())
            key = chain.strip(" \t")
        raise ExpansionError(f"loop detected in lookup of local part of address ({self.file})")


_SPECIAL = re.compile(r"@(?:\Z|\[\]\Z|mx_any|mx_primary|mx_secondary)")


def _mailbox(text: str) -> Pattern:
    if "@" not in text:
        return Mailbox("", None, (Item(_domain(text)),))
    at = text.find("@") if ";" in text else text.rfind("@")  # the file of a lookup may have an @
    if text[at - 1 : at] == "@" and _SPECIAL.match(text[at:]):  # user@@ is user at @, this host
        at -= 1
    local, domain = text[:at], text[at + 1 :].strip(" \t")
    items = (read_item("domain", piece(domain, text)),) if domain else ()
    return Mailbox(piece(local, text), _simple(piece(local, text)), items)


def _simple(text: str) -> Pattern:
    if text.startswith("*"):
        return Suffix(text, lower(text[1:]))
    return Exact(text, lower(text))


# --- reading ----------------------------------------------------------------------------


def _lookup(text: str) -> Lookup | None:
    found = lookup_of(text)
    return None if found is None else Lookup(*found)


def _domain(text: str) -> Pattern:
    if text == "@":
        return Primary()
    if text == "@[]":
        return LocalLiteral()
    if text.startswith(("@mx_any", "@mx_primary", "@mx_secondary")):
        return LocalMx(text)
    return _common(text) or _simple(text)


def _common(text: str) -> Pattern | None:
    """What every kind of list has."""
    if text.startswith("+"):
        return Named(text[1:])
    if text.startswith("^"):
        compile_regex(text)
        return Regex(text)
    if text.startswith("/"):
        return File(text)
    return _lookup(text)


def _address(text: str) -> Pattern:
    if not text:
        return Null()
    if text.startswith("@@"):
        lookup = _lookup(piece(text[2:].lstrip(" \t"), text))
        if lookup is not None:
            return LocalPartsOf(lookup.type, lookup.file)
    return _common(text) or _mailbox(text)


def read_pattern(kind: str, text: str) -> Pattern:
    """Read the pattern of an item.

    :raises ExpansionError: it is not well formed.
    """
    if kind in ("host", "ip"):
        from mailsrv.expansion.hostpatterns import read_host

        return read_host(text, by_address=kind == "ip")
    if kind == "address":
        return _address(text)
    if kind == "domain":
        return _domain(text)
    return _common(text) or _simple(text)

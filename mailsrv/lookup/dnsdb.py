"""``dnsdb``: records of the DNS (specification 9.10 to 9.13)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.separated import split_list
from mailsrv.interfaces import Answer, IResolver
from mailsrv.lookup._backing import NO_BACKING, Backing
from mailsrv.lookup._files import Threads

_TYPES = frozenset(["a", "aaaa", "cname", "mx", "ns", "ptr", "soa", "spf", "srv", "tlsa", "txt"])
_PSEUDO = frozenset(["a+", "mxh", "zns", "csa"])
_MODIFIER = re.compile(r"[ \t\n]*(defer_|dnssec_|retrans_|retry_)([^,]*),", re.IGNORECASE)
_MOST_NAMES = 100  # names of one lookup
_CSA = {"1": "N", "2": "Y", "3": "X"}  # weights of a CSA record (44.52)


class Lookup:
    """``dnsdb`` lookups."""

    backed = True

    def __init__(self, threads: Threads | None = None, backing: Backing = NO_BACKING) -> None:
        self._resolver = backing.resolver

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Look up the records of all names of the query (ILookup)."""
        query = Query.parse(key)
        if not query.names:
            return None
        if self._resolver is None:
            raise _deferred(key, "no name server can be asked here")
        found: list[str] = []
        failures: list[str] = []
        for name in query.names[:_MOST_NAMES]:
            for type in ("aaaa", "a") if query.type == "a+" else (query.type,):
                try:
                    found += await _records(self._resolver, type, name, query)
                except TemporaryFailure as failure:
                    failures.append(failure.reason)
                    if query.defer == "strict":
                        raise _deferred(key, failure.reason) from None
        if failures and not found and query.defer == "lax":
            raise _deferred(key, failures[0])
        return query.separator.join(found) if found else None


def _deferred(key: str, why: str) -> TemporaryFailure:
    return TemporaryFailure(reason=f'lookup of "{key}" gave DEFER: {why}')


@dataclass(frozen=True, slots=True)
class Query:
    """A dnsdb query; ``fields`` separates the fields of a record, "" = as the type does."""

    type: str
    names: tuple[str, ...]
    separator: str = "\n"
    fields: str = ""
    defer: str = "lax"
    secure: bool = False  # dnssec_strict

    @classmethod
    def parse(cls, text: str) -> Query:
        """Read a query.

        :raises TemporaryFailure: it is malformed.
        """
        rest, separator, fields = text.lstrip(" \t\n"), "\n", ""
        if rest.startswith(">"):
            separator, rest = rest[1:2], rest[2:]
            if rest[:1] in (",", ";"):
                fields = rest[1:2] if rest[0] == "," else "\0"
                rest = rest[2:] if rest[0] == "," else rest[1:]
            rest = rest.lstrip(" \t\n")
        defer, secure = "lax", False
        while (found := _MODIFIER.match(rest)) is not None:
            word, value = found[1].lower(), found[2].strip(" \t\n").lower()
            if word == "defer_":
                if value not in ("strict", "lax", "never"):
                    raise _deferred(text, "unsupported dnsdb defer behaviour")
                defer = value
            elif word == "dnssec_":
                if value not in ("strict", "lax", "never"):
                    raise _deferred(text, "unsupported dnsdb dnssec behaviour")
                secure = value == "strict"
            elif word == "retry_" and not value.isdigit():
                raise _deferred(text, "unsupported dnsdb retry count")
            elif word == "retrans_" and not re.fullmatch(r"(?:[0-9]+[wdhms]?)+", value, re.ASCII):
                raise _deferred(text, "unsupported dnsdb timeout value")
            rest = rest[found.end() :].lstrip(" \t\n")
        kind, equals, names = rest.partition("=")
        type = kind.strip(" \t\n").lower() if equals else "txt"
        if type not in _TYPES and type not in _PSEUDO:
            raise _deferred(text, "unsupported DNS record type")
        listed = (names if equals else rest).strip(" \t\n")
        single = type == "ptr" and listed.count(":") > 1 and not listed.startswith("<")
        items = [listed] if single else split_list(listed)
        if type == "spf" and not fields:
            fields = "\0"
        return cls(type, tuple(i for i in items if i), separator, fields, defer, secure)


async def _records(resolver: IResolver, type: str, name: str, query: Query) -> list[str]:
    """Return the records of one name as texts."""
    if type == "csa":
        return await _csa(resolver, name)
    if type == "ptr":
        name = _reverse(name)
    real = {"mxh": "MX", "zns": "NS", "spf": "TXT"}.get(type, type.upper())
    answer = await _asked(resolver, name, real, query)
    while not answer.records and type in ("zns", "soa") and "." in name:
        name = name.partition(".")[2]
        answer = await _asked(resolver, name, real, query)
    texts = [_text(type, record, query.fields) for record in answer.records]
    return [text for text in texts if type != "spf" or text.lower().startswith("v=spf1")]


def _reverse(name: str) -> str:
    """Return the name that has an address's PTR records."""
    try:
        return ipaddress.ip_address(name).reverse_pointer
    except ValueError:
        return name


async def _asked(resolver: IResolver, name: str, type: str, query: Query) -> Answer:
    answer = await resolver.query(name, type)
    if query.secure and answer.records and not answer.authenticated:
        raise TemporaryFailure(reason=f"{type} records of {name} are not authenticated")
    return answer


def _text(type: str, record: str, fields: str) -> str:
    """Return a record as the lookup gives it."""
    words = record.split(" ")
    if type == "mxh":
        return words[1] if len(words) > 1 else record
    if type == "soa" and not fields:
        return words[0].removesuffix(".")
    if type in ("mx", "srv", "soa", "tlsa"):
        words = [word.removesuffix(".") if not word.isdigit() else word for word in words]
        return (fields.strip("\0") or " ").join(words)
    return record if type in ("txt", "spf") else record.removesuffix(".")


async def _csa(resolver: IResolver, name: str) -> list[str]:
    """Return what Client SMTP Authorization says of a host (44.52)."""
    answer = await resolver.query(f"_client._smtp.{name}", "SRV")
    for record in answer.records:
        priority, weight, _, target = record.split(" ")
        if priority == "1":
            return [f"{_CSA.get(weight, '?')} {target.removesuffix('.')}"]
    return []

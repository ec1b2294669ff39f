"""``dnsdb``: records of the DNS (specification 9.10 to 9.13)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.separated import split_list
from mailsrv.expansion.times import interval
from mailsrv.interfaces import Answer, IResolver, TextRecord
from mailsrv.lookup._backing import NO_BACKING, Backing
from mailsrv.lookup._files import Threads

_TYPES = frozenset(["a", "aaaa", "cname", "mx", "ns", "ptr", "soa", "spf", "srv", "tlsa", "txt"])
_PSEUDO = frozenset(["a+", "mxh", "zns", "csa"])
_MODIFIER = re.compile(r"[ \t\n]*(defer_|dnssec_|retrans_|retry_)([^,]*),", re.IGNORECASE)
_NOTHING = "\0"  # the separator ";" of fields: there is none between them
_MOST_NAMES = 100  # names of one lookup
_CSA = {"0": "N", "1": "N", "2": "Y", "3": "?"}  # weights of a CSA record (44.52)


class Lookup:
    """``dnsdb`` lookups."""

    backed = True

    def __init__(self, threads: Threads | None = None, backing: Backing = NO_BACKING) -> None:
        self._backing = backing

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Look up the records of all names of the query (ILookup)."""
        query = Query.parse(key)
        if not query.names:
            return None
        resolver = self._backing.resolver_within(query.retransmit, query.retries)
        if resolver is None:
            raise _deferred(key, "no name server can be asked here")
        found: list[str] = []
        failures: list[str] = []
        for name in query.names[:_MOST_NAMES]:
            for type in ("aaaa", "a") if query.type == "a+" else (query.type,):
                try:
                    found += await self._records(resolver, type, name, query)
                except TemporaryFailure as failure:
                    failures.append(failure.reason)
                    if query.defer == "strict":
                        raise _deferred(key, failure.reason) from None
        if failures and not found and query.defer == "lax":
            raise _deferred(key, failures[0])
        return query.separator.join(found) or None

    async def _records(self, resolver: IResolver, type: str, name: str, query: Query) -> list[str]:
        if type == "csa":
            return await self._csa(resolver, name)
        return await _records(resolver, type, name, query)

    async def _csa(self, resolver: IResolver, name: str) -> list[str]:
        """Return what Client SMTP Authorization says of a host, or its parents of it (44.52)."""
        address = name[1:-1] if name.startswith("[") and name.endswith("]") else name
        if self._backing.setting("dns_csa_use_reverse", True):
            name = _reverse(address)
        parent = name
        for step in range(self._backing.setting("dns_csa_search_limit", 5) + 1):
            answer = await resolver.query(f"_client._smtp.{parent}", "SRV")
            if answer.records:
                found = (_csa(record, above=step > 0) for record in answer.records)
                return [text for text in found if text]
            _, _, parent = parent.partition(".")
            if "." not in parent:
                break
        return []


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
    retransmit: float = 0.0
    retries: int = 0

    @classmethod
    def parse(cls, text: str) -> Query:
        """Read a query.

        :raises TemporaryFailure: it is malformed.
        """
        rest, separator, fields = text.lstrip(" \t\n"), "\n", ""
        if rest.startswith(">"):
            separator, rest = rest[1:2], rest[2:]
            if rest[:1] in (",", ";"):
                fields = rest[1:2] if rest[0] == "," else _NOTHING
                rest = rest[2:] if rest[0] == "," else rest[1:]
            rest = rest.lstrip(" \t\n")
        defer, secure, retransmit, retries = "lax", False, 0.0, 0
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
            elif word == "retry_":
                if not re.fullmatch("[0-9]{0,3}", value, re.ASCII):
                    raise _deferred(text, "unsupported dnsdb retry count")
                retries = int(value or 0)
            else:
                seconds = interval(value)
                if seconds is None:
                    raise _deferred(text, "unsupported dnsdb timeout value")
                retransmit = seconds
            rest = rest[found.end() :].lstrip(" \t\n")
        kind, equals, names = rest.partition("=")
        type = kind.strip(" \t\n").lower() if equals else "txt"
        if type not in _TYPES and type not in _PSEUDO:
            raise _deferred(text, "unsupported DNS record type")
        listed = (names if equals else rest).strip(" \t\n")
        single = type == "ptr" and _reverse(listed) != listed  # an IPv6 address has colons
        items = [listed] if single else split_list(listed)
        return cls(type, tuple(items), separator, fields, defer, secure, retransmit, retries)


async def _records(resolver: IResolver, type: str, name: str, query: Query) -> list[str]:
    """Return the records of one name as texts."""
    if type == "ptr":
        name = _reverse(name)
    real = {"mxh": "MX", "zns": "NS"}.get(type, type.upper())
    answer = await _asked(resolver, name, real, query)
    while not answer.records and type in ("zns", "soa") and "." in name:
        name = name.partition(".")[2]
        answer = await _asked(resolver, name, real, query)
    return [_text(type, record, query.fields) for record in answer.records]


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
    if type in ("txt", "spf"):
        parts = record.parts if isinstance(record, TextRecord) else (record,)
        whole = fields or type == "spf"
        text = fields.strip(_NOTHING).join(parts) if whole else "".join(parts[:1])
        return text.partition("\0")[0]
    words = [word if word.isdigit() else word.removesuffix(".") for word in record.split(" ")]
    if type == "mxh" or (type == "soa" and fields in ("", _NOTHING)):
        return words[type == "mxh"]
    if type in ("mx", "srv", "soa", "tlsa"):
        return (fields.strip(_NOTHING) if fields else " ").join(words)
    return record.removesuffix(".")


def _csa(record: str, *, above: bool) -> str:
    """Return what a record says of a host; ``above``: it is one of a parent domain."""
    priority, weight, port, target = record.split(" ")
    if priority != "1":
        return ""
    code = ("X" if int(port) & 1 else "?") if above else _CSA.get(weight, "")
    return f"{code} {target.removesuffix('.')}" if code else ""

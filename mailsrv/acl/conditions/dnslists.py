"""``dnslists``: the client, or a key, is in a DNS list (44.28 to 44.37)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailsrv.acl.item import Item
from mailsrv.acl.model import Undecided
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.separated import split_list
from mailsrv.interfaces import IResolver

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation

_ITEM = re.compile(
    r"(?P<domains>[^/=&!]*)(?:(?P<negated>!?)(?P<test>==|=&|=|&)(?P<values>[^/]*))?(?:/(?P<keys>.*))?",
    re.DOTALL,
)
_PROPER = ipaddress.ip_network("127.0.0.0/8")  # other answers are those of a list that has died


@dataclass(frozen=True, slots=True)
class DnsList:
    """An item of the condition: ``[text.domain,]domain[[!](=|&|==|=&)addresses][/keys]``."""

    domain: str
    text_domain: str
    accepts: Callable[[list[str]], bool]
    keys: tuple[str, ...] | None  # None: the client's address


def parse_item(text: str) -> DnsList:
    """Read an item.

    :raises ValueError: it is none, or a value is no IPv4 address.
    """
    found = _ITEM.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is no DNS list')
    first, comma, second = (part.strip(" \t") for part in found["domains"].partition(","))
    keys = None if found["keys"] is None else tuple(split_list(found["keys"]))
    accepts: Callable[[list[str]], bool] = bool
    if found["test"]:
        accepts = _test(found["test"], bool(found["negated"]), split_list(found["values"], ","))
    return DnsList(second if comma else first, first, accepts, keys)


def _test(test: str, negated: bool, values: list[str]) -> Callable[[list[str]], bool]:
    """Return whether addresses that were found are those that an item wants."""
    numbers = [int(ipaddress.IPv4Address(value)) for value in values]
    masks, every = test.endswith("&"), len(test) == 2

    def listed(address: str) -> bool:
        number = int(ipaddress.IPv4Address(address))
        if masks:
            return any(number & mask == mask for mask in numbers)
        return number in numbers

    def accepts(found: list[str]) -> bool:
        each = [listed(address) for address in found]
        return bool(found) and (all(each) if every else any(each)) is not negated

    return accepts


class Dnslists(Item):
    """An item of the list has a record; sets ``$dnslist_domain`` and its kin."""

    name = "dnslists"

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        resolver = run.resolver
        if resolver is None:
            raise Undecided(log="there is no DNS here")
        when_unknown = "exclude"
        for text in split_list(await run.expanded(self.argument)):
            if text.startswith("+") and text.endswith("_unknown"):
                when_unknown = text[1:].removesuffix("_unknown")
                continue
            try:
                item = parse_item(text)
                met = await _is_listed(run, item, resolver)
            except ValueError as error:
                raise Undecided(log=f'dnslists item "{text}": {error}', error=True) from None
            except TemporaryFailure as failure:
                met = _unknown(run, when_unknown, text, failure)
            if met:
                return True
        return False


def _unknown(run: Evaluation, when: str, item: str, failure: TemporaryFailure) -> bool:
    """What an item means whose lookup failed for now: +include_, +defer_, +exclude_unknown."""
    if when == "defer":
        raise Undecided(log=f'DNS list lookup defer for "{item}"') from failure
    if run.log.selected("dnslist_defer"):
        outcome = "assumed in list" if when == "include" else "assumed not in list"
        run.warn(f"DNS list lookup defer (probably timeout) for {item}: {outcome}")
    return when == "include"


async def _is_listed(run: Evaluation, item: DnsList, resolver: IResolver) -> bool:
    """Look up the keys in order; one that is found overrides failures of others."""
    client = run.connection.origin.host_address
    keys = item.keys if item.keys is not None else (client,) if client else ()
    failed: TemporaryFailure | None = None
    for key in keys:
        try:
            if await _matches(run, item, key, resolver):
                return True
        except TemporaryFailure as failure:
            failed = failure
    if failed is not None:
        raise failed
    return False


async def _matches(run: Evaluation, item: DnsList, key: str, resolver: IResolver) -> bool:
    before = reversed_key(key)
    found = await _addresses(resolver, f"{before}.{item.domain}")
    if not found or not item.accepts(found):
        return False
    text_name = f"{before}.{item.text_domain}"
    if item.text_domain != item.domain:
        found = await _addresses(resolver, text_name)
        if not found:
            return False
    try:
        texts = (await resolver.query(text_name, "TXT")).records
    except TemporaryFailure:
        texts = ()
    run.give(
        dnslist_domain=item.text_domain,
        dnslist_matched=key,
        dnslist_value=", ".join(found),
        dnslist_text=texts[0] if texts else "",
    )
    return True


async def _addresses(resolver: IResolver, name: str) -> list[str]:
    """The addresses of a name in a list, those outside of 127/8 left out."""
    records = (await resolver.query(name, "A")).records
    return [each for each in records if ipaddress.ip_address(each) in _PROPER]


def reversed_key(key: str) -> str:
    """Return a key as it stands before the list's domain: an IP address turned round."""
    try:
        pointer = ipaddress.ip_address(key.partition("%")[0]).reverse_pointer
    except ValueError:
        return key
    return pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")

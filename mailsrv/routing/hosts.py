"""Finding the hosts that an address goes to (specification 13.8, 17, 20.6; RFC 5321 5.1)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.lists import match_host
from mailsrv.mail.case import lower
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Host, RoutedAddress
from mailsrv.mail.taint import Tainted
from mailsrv.net.hosts import is_ip
from mailsrv.routing.decision import Decision, Deferred, Failed, Passed, Rerouted
from mailsrv.routing.router import Context, Router

NO_SERVICE = "an MX or SRV record indicated no SMTP service"
NO_HOSTS = "all relevant MX records point to non-existent hosts"
OR_ADDRESSES = " or (invalidly) to IP addresses"
LEAST_IS_HERE = "lowest numbered MX record points to local host"
IS_HERE = "remote host address is the local host"
MOST_RECORDS = 100  # MX or SRV records of one domain that are used: the best ones
MOST_ADDRESSES = 50  # addresses of one host


class Found(Exception):
    """What was found decides about the address already."""

    def __init__(self, decision: Decision) -> None:
        super().__init__()
        self.decision = decision


@dataclass(frozen=True, slots=True)
class Exchanger:
    """A host that takes mail for a domain: of an MX or SRV record; the smaller, the earlier."""

    name: str
    preference: int
    port: int = 0
    weight: int = 0


@dataclass(slots=True)
class Hosts:
    """What exchangers led to: hosts in their order, and those without an address.

    ``here`` tells that this host was among them, with a higher preference, and was left out.
    """

    usable: list[Host] = field(default_factory=list)
    unusable: list[Host] = field(default_factory=list)
    here: bool = False


class NoSuchDomain(Exception):
    """The DNS does not know the domain, or it has none of the records that are needed."""


class NoService(Exception):
    """The domain says that it takes no mail (RFC 7505)."""


# --- records -------------------------------------------------------------------


async def mx_of(domain: str, context: Context) -> list[Exchanger]:
    """Return the MX records of a domain, in random order where preferences are equal.

    :raises NoSuchDomain: it does not exist; [] is a domain without MX records.
    :raises NoService: it takes no mail.
    :raises TemporaryFailure: the DNS cannot tell now.
    """
    answer = await context.facilities.resolver.query(domain, "MX")
    if not answer.exists:
        raise NoSuchDomain
    found = []
    for record in answer.records:
        preference, _, name = record.partition(" ")
        if preference.isdecimal() and name:
            found.append(Exchanger(_cleaned(name), int(preference)))
    if found and not any(each.name for each in found):
        raise NoService
    return in_order(found)[:MOST_RECORDS]


async def srv_of(service: str, domain: str, context: Context) -> list[Exchanger]:
    """Return the SRV records of a domain for a service over TCP (RFC 2782); as :func:`mx_of`.

    Those of equal priority are in a random order that their weights prefer.
    """
    answer = await context.facilities.resolver.query(f"_{service}._tcp.{domain}", "SRV")
    found = []
    for record in answer.records:
        words = record.split(" ")
        if len(words) == 4 and all(word.isdecimal() for word in words[:3]):
            priority, weight, port = map(int, words[:3])
            found.append(Exchanger(_cleaned(words[3]), priority, port, weight))
    if found and not any(each.name for each in found):
        raise NoService
    return in_order(found)[:MOST_RECORDS]


def _cleaned(name: str) -> str:
    """Return a host's name in lower case without final dot; "" is the root."""
    return Tainted(lower(name.removesuffix(".")))


def in_order(exchangers: Iterable[Exchanger]) -> list[Exchanger]:
    """Sort by preference; equal ones at random, by weight where they have one."""

    # An exponential variate divided by its weight: the smallest comes first with the
    # probability that RFC 2782 asks for.
    def key(each: Exchanger) -> tuple[int, float]:
        return each.preference, random.expovariate(1.0) / max(each.weight, 0.01)

    return sorted(exchangers, key=key)


# --- addresses -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kinds:
    """Which addresses of a host are wanted, and where they are looked for.

    ``lookup`` is ``bydns``; ``byname``, which asks the hosts file before; or "": it is
    asked when the DNS knows no such host.
    """

    ipv4_only: bool = False
    ipv4_prefer: bool = False
    lookup: str = "bydns"


async def addresses_of(
    name: str, router: Router, address: RoutedAddress, context: Context, kinds: Kinds
) -> tuple[list[str], bool]:
    """Return a host's addresses without those to be ignored, and whether it has any at all.

    IPv6 comes first (unless ``kinds`` says else); several of a kind are in random order,
    but for names that the hosts file may have ordered.

    :raises TemporaryFailure: the DNS cannot tell now.
    """
    resolver, ipv6 = context.facilities.resolver, not kinds.ipv4_only
    by_name = kinds.lookup == "byname"
    found = await resolver.addresses(name, ipv6=ipv6, hosts_file=by_name)
    if not found and not kinds.lookup:
        by_name = True
        found = await resolver.addresses(name, ipv6=ipv6)
    chosen = list(found[:MOST_ADDRESSES])
    if not by_name:
        random.shuffle(chosen)
    chosen.sort(key=lambda one: (":" in one) if kinds.ipv4_prefer else (":" not in one))
    return [one for one in chosen if not await ignored(one, router, address, context)], bool(found)


async def ignored(ip: str, router: Router, address: RoutedAddress, context: Context) -> bool:
    """Tell whether ``ignore_target_hosts`` has an IP address."""
    if router.ignore_target_hosts is None:
        return False
    scope = context.scope(address, router.name, {"host_address": ip})
    return await match_host(router.ignore_target_hosts, Origin(host_address=ip), scope) is not None


async def is_this_host(name: str, addresses: Iterable[str], context: Context) -> bool:
    """Tell whether a host is this one: by its addresses, or by ``hosts_treat_as_local``."""
    facilities = context.facilities
    if any(facilities.is_local(one) for one in addresses):
        return True
    return not is_ip(name) and await facilities.is_local_name(name)


async def hosts_of(
    exchangers: Sequence[Exchanger],
    router: Router,
    address: RoutedAddress,
    context: Context,
    kinds: Kinds,
    *,
    mx: bool = True,
    first: bool = True,
) -> Hosts:
    """Look up the addresses of exchangers, in their order; drop what is not better than this host.

    A host that has been found under a smaller preference is not named again.  ``first``:
    no other exchangers come before these, so that ``self`` decides about this host.

    :raises Found: the best of them is this host, and ``self`` decides.
    :raises NoSuchDomain: none of them has an address that may be used; its text says so.
    :raises TemporaryFailure: none has one now.
    """
    found = Hosts()
    failure: TemporaryFailure | None = None
    may_be_ip = not mx or context.facilities.services.settings.get("allow_mx_to_ip") == "true"
    best = min((each.preference for each in exchangers), default=0)
    here, invalid = 1 << 16, False
    for each in exchangers:
        if each.preference >= here:
            break
        nowhere = Host(each.name, "", each.port, each.preference, mx=mx)
        if not each.name or (is_ip(each.name) and not may_be_ip):
            invalid = invalid or bool(each.name)
            found.unusable.append(nowhere)
            continue
        try:
            usable, exists = await addresses_of(each.name, router, address, context, kinds)
        except TemporaryFailure as error:
            failure = error
            found.unusable.append(nowhere)
            continue
        if not exists:
            found.unusable.append(nowhere)
        if await is_this_host(each.name, usable, context):
            if each.preference == best:
                decide_self(each.name, router, context, mx=mx, first=first)  # may return
            else:
                here, found.here = each.preference, True
                continue
        known = {(host.name, host.address, host.port) for host in found.usable}
        found.usable += [
            replace(nowhere, address=one)
            for one in usable
            if (each.name, one, each.port) not in known
        ]
    found.usable = [host for host in found.usable if host.preference < here]
    if not found.usable:
        if failure is not None:
            raise failure
        raise NoSuchDomain(NO_HOSTS + (OR_ADDRESSES if invalid else "") if mx else "")
    return found


# --- this host ---------------------------------------------------------------------


def decide_self(
    name: str, router: Router, context: Context, *, mx: bool = False, first: bool = True
) -> None:
    """Do what ``self`` says of a host that is this one (chapter 15); ``send`` goes on.

    If it is not the first, it is passed over, with what comes behind (20.6).

    :raises Found: the decision.
    """
    if not first:
        raise Found(Passed())
    word, _, domain = router.self_.partition(":")
    if word == "send":
        return
    reason = LEAST_IS_HERE if mx else IS_HERE
    decisions: dict[str, Decision] = {
        "freeze": Deferred(reason, frozen=True),
        "defer": Deferred(reason),
        "fail": Failed(reason),
        "pass": Passed(reason, self_hostname=name),
        "reroute": rerouted(domain),
    }
    decision = decisions.get(word.strip(" \t"))
    if word == "freeze":
        context.facilities.log.main(f"{reason}: {name} ({router.name} router)")
    if decision is not None:
        raise Found(decision)


def rerouted(text: str) -> Rerouted:
    """Read ``[rewrite:] domain`` of ``self = reroute:`` (chapter 15)."""
    word, colon, domain = text.partition(":")
    rewrite = bool(colon) and word.strip(" \t") == "rewrite"
    return Rerouted((domain if rewrite else text).strip(" \t"), rewrite)

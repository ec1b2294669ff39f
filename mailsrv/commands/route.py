"""``mailsrv -bt``, ``-bv``, ``-bvs``: where addresses go, or whether they verify (5.2).

The exit status is 2 if an address fails, 1 if one cannot be decided now, else 0.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from mailsrv.commands.invocation import Invocation
from mailsrv.commands.quietlog import QuietLog
from mailsrv.commands.spools import Loop
from mailsrv.commands.terminal import say
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError, TemporaryFailure
from mailsrv.expansion import rewrite
from mailsrv.expansion.mailboxes import Place, places_of
from mailsrv.expansion.scope import Scope
from mailsrv.interfaces import IResolver, Routed, Unrouted
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Recipient, Transaction
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Host, RoutedAddress
from mailsrv.mail.taint import Tainted
from mailsrv.net.hosts import is_ip

OK, DEFERRED, FAILED = 0, 1, 2
UNKNOWN = "unknown"  # stands for an address


def run(invocation: Invocation, configuration: Configuration | None) -> int:
    """Test or verify each address of the command line, or of the standard input."""
    assert configuration is not None, "the table says that a configuration is needed"
    from mailsrv.service.trial import Trial  # here: it brings all stages

    loop = Loop()
    try:
        trial = Trial(configuration, loop.reactor, QuietLog())
    except (ConfigError, OSError) as error:
        say(f"mailsrv: {error}", error=True)
        loop.end()
        return 1
    tester = Tester(trial.stages, invocation.sender)
    test = tester.route if invocation.action == "bt" else tester.verify
    tester.as_sender = invocation.action == "bvs"
    worst = OK
    try:
        for text in invocation.arguments or _lines():
            for status in (loop.run(each) for each in tester.each(text, test)):
                worst = max(worst, status)
    finally:
        loop.run(trial.close())
        loop.end()
    return worst


def _lines() -> Iterator[str]:
    """Lines of the standard input, each after a prompt."""
    while True:
        print("> ", end="", flush=True)
        line = sys.stdin.buffer.readline().decode("latin-1")
        if not line:
            print()
            return
        yield line.strip(" \t\r\n")


class Tester:
    """Routes and verifies addresses for one command."""

    def __init__(self, stages: Any, sender: str | None) -> None:
        self._routing = stages.routing
        self._resolver: IResolver = stages.resolver
        self._settings = stages.services.settings
        caller = pwd.getpwuid(os.getuid()).pw_name if sender is None else ""
        self._sender = f"{caller}@{self._settings['qualify_domain']}" if sender is None else sender
        self.as_sender = False
        self._known: set[tuple[object, ...]] = set()  # what would be delivered

    def each(self, text: str, test: Callable[..., Any]) -> Iterator[Any]:
        """Give the test of each address in a list."""
        places = places_of(text)
        if not places or text[places[-1].end :].strip(" \t\r\n,;"):
            yield self._malformed(text)
            return
        for place in places:
            yield test(self._qualified(place))

    async def _malformed(self, text: str) -> int:
        say(f"syntax error: {'malformed address' if text.strip() else 'empty address'}")
        return FAILED

    def _qualified(self, place: Place) -> str:
        if place.qualified:
            return place.address
        name = "qualify_domain" if self.as_sender else "qualify_recipient"
        return f"{place.address}@{self._settings[name]}"

    def _connection(self) -> Connection:
        sender = "" if self.as_sender else self._sender
        return Connection(Origin(protocol="local"), transaction=Transaction(sender=sender))

    async def _decided(
        self, address: str, *, verify: str = "", asked: str = ""
    ) -> tuple[str, Routed]:
        """Rewrite an address, say so, and route it."""
        from mailsrv.routing.router import Context

        connection, facilities = self._connection(), self._routing.facilities
        scope = Scope(facilities.services, connection=connection, origin=connection.origin)
        place = rewrite.SENDER if self.as_sender else rewrite.RECIPIENT
        new = await facilities.rewriter.address(Tainted(address), place, scope)
        if new != address:
            say(f"Address rewritten as: {new}")
        assert connection.transaction is not None, "it has one"
        context = Context(
            facilities,
            sender=connection.transaction.sender,
            message=connection.transaction,
            connection=connection,
            origin=connection.origin,
            verify=verify,
            asked=asked,
        )
        return new, await self._routing.decide(Recipient(new), context)

    async def verify(self, address: str) -> int:
        """Say whether an address verifies, as a recipient or a sender."""
        from mailsrv.routing.router import RECIPIENT, SENDER

        mode = SENDER if self.as_sender else RECIPIENT
        address, routed = await self._decided(address, verify=mode)
        if routed.status is None:
            say(f"{address} verified")
            return OK
        why = _why(routed)
        if routed.status.temporary:
            say(f"{address} cannot be resolved at this time: {why}")
            return DEFERRED
        if routed.reason == "fail_verify":
            why = f"{routed.router} router forced verify failure"
        say(f"{address} failed to verify: {why}")
        return FAILED

    async def route(self, address: str) -> int:
        """Print what an address becomes, and where that would go."""
        from mailsrv.routing.router import ADDRESS_TEST

        address, routed = await self._decided(address, asked=ADDRESS_TEST)
        worst = OK
        if routed.status is not None:
            line = [address] * routed.copies
            worst = self._tell_failure(address, routed, line)
        places = [each for each in routed.addresses if each.place]
        aside: list[RoutedAddress | Unrouted] = [*routed.unrouted, *places]
        for one in sorted(aside, key=_number):
            if isinstance(one, RoutedAddress):
                self._tell_place(one)
                say(f"  transport = {one.transport}")
            elif one.address.place:
                forbidden = one.reason.endswith(" forbidden")
                self._tell_place(one.address, " *** forbidden ***" if forbidden else "")
                if not forbidden:
                    say(f"*** Error in setting up pipe, file, or autoreply:\n{_why(one)}")
                worst = max(worst, DEFERRED)
            else:
                line = _ancestors(one.address)
                worst = max(worst, self._tell_failure(one.address.address, one, line))
        accepted = [each for each in reversed(routed.addresses) if not each.place]
        if routed.discarded and not (worst or accepted or aside):
            say(f"mail to {address} is discarded")
        local = self._routing.facilities.local_transports
        for each in sorted(accepted, key=lambda a: not local.get(a.transport)):
            await self._tell(each)
        return worst

    def _tell_failure(self, address: str, failed: Routed | Unrouted, above: list[str]) -> int:
        assert failed.status is not None
        temporary = failed.status.temporary
        word = "cannot be resolved at this time" if temporary else "is undeliverable"
        say(f"{address} {word}: {_why(failed)}")
        _tell_above(above)
        return DEFERRED if temporary else FAILED

    def _tell_place(self, place: RoutedAddress, mark: str = "") -> None:
        """Print a pipe, file or directory."""
        parent = place.parent.address if place.parent is not None else ""
        say(f"{parent} -> {place.address}{mark}")

    async def _tell(self, address: RoutedAddress) -> None:
        """Print the way of an address that is to be delivered."""
        asked = address.parent is None and not address.copies  # no duplicate of another's child
        key = address.router, address.transport, address.address, asked
        again = "   [duplicate, would not be delivered]" if key in self._known else ""
        self._known.add(key)
        say(f"{address.address}{again}")
        _tell_above(_ancestors(address))
        say(f"  router = {address.router}, transport = {address.transport or '<unset>'}")
        hosts = [each for host in address.hosts for each in await self._found(host)]
        local = self._routing.facilities.local_transports.get(address.transport)
        if local:
            given = address.vars.get("host", "")  # the list, as the transport gets it
            hosts = [Host(given)] if given else []
        for host in address.unusable:
            later = (at for at, each in enumerate(hosts) if each.preference > host.preference)
            hosts.insert(next(later, len(hosts)), host)
        width = max((len(host.name) for host in hosts), default=0)
        wide = max((len(host.address or UNKNOWN) for host in hosts), default=0)
        for host in hosts:
            text = f"  host {host.name:<{width}} "
            text += ("" if local else f"[{host.address or UNKNOWN}]").ljust(wide + 2)
            text += f" MX={host.preference}" if host.mx else ""
            text += f" port={host.port}" if host.port else ""
            text += " ** unusable **" if host in address.unusable else ""
            say(text)

    async def _found(self, host: Host) -> list[Host]:
        """Return a host once for each of its addresses."""
        if host.address:
            return [host]
        if is_ip(host.name.strip("[]")):
            return [replace(host, address=host.name.strip("[]"))]
        try:
            found = await self._resolver.addresses(host.name)
        except TemporaryFailure as failure:
            say(f"LOG: {host.name}: {failure.reason}", error=True)
            return [host]
        return [replace(host, address=each) for each in found] or [host]


def _why(failed: Routed | Unrouted) -> str:
    """Return why an address failed; what only the log tells goes to the standard error."""
    if failed.told and failed.told != failed.reason:
        say(f"LOG: {failed.reason}", error=True)
    return failed.told or failed.reason


def _number(one: RoutedAddress | Unrouted) -> int:
    return one.address.number if isinstance(one, Unrouted) else one.number


def _ancestors(address: RoutedAddress) -> list[str]:
    """Return what an address was made from; a copy was made from the address itself."""
    found = [address.address] * address.copies
    for each in address.ancestors():
        found += [each.address] * (1 + each.copies)
    return found


def _tell_above(addresses: Iterable[str]) -> None:
    for each in addresses:
        say(f"    <-- {each}")

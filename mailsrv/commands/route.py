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
from mailsrv.interfaces import IResolver, Routed
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Recipient, Transaction
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Host, RoutedAddress
from mailsrv.mail.status import Status
from mailsrv.mail.taint import Tainted
from mailsrv.net.hosts import is_ip

OK, DEFERRED, FAILED = 0, 1, 2


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
        why = _reason(routed.status, routed.reason)
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
        copies = [each for each in routed.addresses if each.parent is None]
        above = [address] if copies and (routed.status or len(routed.addresses) > 1) else []
        worst = OK
        if routed.status is not None:
            worst = self._tell_failure(address, routed.status, routed.reason, above)
        for failed in routed.unrouted:
            line = _ancestors(failed.address)
            found = self._tell_failure(failed.address.address, failed.status, failed.reason, line)
            worst = max(worst, found)
        for thrown in routed.discarded:
            of = thrown.parent.address if thrown.parent is not None else thrown.address
            say(f"mail to {of} is discarded")
        local = self._routing.facilities.local_transports
        latest_first = list(reversed(routed.addresses))
        for each in sorted(latest_first, key=lambda a: not local.get(a.transport)):
            await self._tell(each, above)
        return worst

    def _tell_failure(self, address: str, status: Status, reason: str, above: list[str]) -> int:
        word = "cannot be resolved at this time" if status.temporary else "is undeliverable"
        say(f"{address} {word}: {_reason(status, reason)}")
        _tell_above(above)
        return DEFERRED if status.temporary else FAILED

    async def _tell(self, address: RoutedAddress, above: list[str]) -> None:
        """Print the way of an address that is to be delivered."""
        ancestors = _ancestors(address) or above
        if address.place:
            say(f"{ancestors[0]} -> {address.address}")
            _tell_above(ancestors[1:])
            say(f"  transport = {address.transport}")
            return
        say(address.address)
        _tell_above(ancestors)
        say(f"  router = {address.router}, transport = {address.transport or '<unset>'}")
        hosts = [each for host in address.hosts for each in await self._found(host)]
        width = max((len(host.name) for host in hosts), default=0)
        wide = max((len(host.address) for host in hosts), default=0)
        for host in hosts:
            text = f"  host {host.name:<{width}} " + f"[{host.address}]".ljust(wide + 2)
            text += f" MX={host.preference}" if host.mx else ""
            text += f" port={host.port}" if host.port else ""
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


def _reason(status: Status, reason: str) -> str:
    return reason if status.temporary and reason else status.text


def _ancestors(address: RoutedAddress) -> list[str]:
    return [each.address for each in address.ancestors()]


def _tell_above(addresses: Iterable[str]) -> None:
    for each in addresses:
        say(f"    <-- {each}")

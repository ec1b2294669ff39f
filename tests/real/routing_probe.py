"""Prints where mailsrv routes addresses, for a comparison: ``python -m … CONFIGURATION ADDRESS…``.

A line for each address, ``ADDRESS: OUTCOME``, and one for each of its hosts.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred

from mailsrv.config.read import read
from mailsrv.dns.resolver import Resolver
from mailsrv.lookup import registry
from mailsrv.mail.message import Recipient
from mailsrv.mail.taint import Tainted
from mailsrv.net.listen import local_test
from mailsrv.net.threads import InlineThreads
from mailsrv.routing.route import Routing
from mailsrv.service.build import routers_of
from mailsrv.service.environment import WallClock, make_services
from tests.doubles.log import RecordingLog
from tests.transport.helpers import message


async def route(reactor: Any, path: str, addresses: list[str]) -> None:
    """Route them, and print."""
    configuration = read(path, {})
    main = configuration.main

    async def always(name: str) -> bool:
        return True

    resolver = Resolver(
        reactor,
        retransmit=main.dns_retrans,
        retries=main.dns_retry,
        ipv6=not main.disable_ipv6,
        again_means_nonexist=always if main.dns_again_means_nonexist else None,
    )
    services = make_services(configuration, WallClock(), registry(), resolver=resolver)

    async def nowhere(name: str) -> bool:
        return False

    routing = Routing(
        routers_of(configuration),
        services,
        RecordingLog(),
        resolver,
        InlineThreads(),
        reactor,
        local_transports={"smtp": False},
        is_local=local_test(main.extra_local_interfaces),
        is_local_name=nowhere,
    )
    for address in addresses:
        routed = await routing.route(message(), Recipient(Tainted(address)))
        outcome = "routed"
        if routed.status is not None:
            outcome = f"{routed.status.code // 100} {routed.reason}"
        print(f"{address}: {outcome}")
        for each in routed.addresses:
            for host in each.hosts:
                print(f"  {host.name} [{host.address}] {host.port or ''}")


def main() -> None:
    """Run."""
    from twisted.internet import reactor as found

    reactor: Any = found
    done = Deferred.fromCoroutine(route(reactor, sys.argv[1], sys.argv[2:]))
    done.addErrback(lambda failure: failure.printTraceback())
    done.addBoth(lambda _: reactor.stop())
    reactor.run()


if __name__ == "__main__":
    main()

"""Hosts that say nothing keep no mail for others back, however many messages wait for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailsrv.interfaces import Routed
from mailsrv.mail.message import Recipient
from mailsrv.mail.routed import CROWDED, Host, Outcome, Result
from mailsrv.transport.connection import HopFailure, HopProtocol, Target
from mailsrv.transport.limits import FEW
from tests.doubles.nexthop import HANG, NextHop
from tests.doubles.routing import an_address
from tests.queue.test_schedule import Hop, Server, run
from tests.transport.helpers import message as message_of

Serve = Callable[..., Server]
START = 1_000_000.0
GOOD = Host("good.example", "192.0.2.200", 25)


def silent(number: int) -> Host:
    return Host(f"s{number}.example", f"192.0.2.{number}", 25)


class Crowd(Hop):
    """Hosts that never answer at ``point``, and a good one; ``other`` is one that recovers."""

    def __init__(self, clock: Clock, point: str) -> None:
        super().__init__(clock)
        self.point = point
        self.dumb = NextHop(**({} if point == "connect" else {point: HANG}))
        self.other = NextHop()

    async def connect(self, target: Target, protocol: HopProtocol, timeout: float) -> None:
        address = target.address
        self.tries.append((self.clock.seconds() - START, address))
        if address == GOOD.address:
            await NextHop.connect(self, target, protocol, timeout)
        elif self.point == "connect":
            waiting: Deferred[None] = Deferred()
            self.clock.callLater(timeout, waiting.callback, None)
            await waiting
            raise HopFailure("Connection timed out", "timeout_connect")
        else:
            await self.dumb.connect(target, protocol, timeout)


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(START)
    return clock


@pytest.fixture
def serve(clock: Clock) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(hop: Crowd, *rules: str) -> Server:
        servers.append(Server(clock, hop, *rules))
        return servers[-1]

    yield start
    for server in servers:
        Deferred.fromCoroutine(server.runner.stop(0))
    clock.advance(1)


def submit(server: Server, address: str, *hosts: Host) -> None:
    server.routing.answers[address] = lambda r: Routed((an_address(r, hosts=hosts),))
    server.submit(address, routed=False)


def taken(hop: Crowd, address: str) -> int:
    return sum(message.recipients.count(address) for message in hop.messages)


@pytest.mark.parametrize("point", ["connect", "final"])
def test_ten_silent_hosts(clock: Clock, serve: Serve, point: str) -> None:
    hop = Crowd(clock, point)
    server = serve(hop)
    for each in range(130):
        for number in range(10):
            submit(server, f"u{each}@s{number}", silent(number))
    submit(server, "a@good", GOOD)
    run(clock, 30, 1)
    assert taken(hop, "a@good") == 1
    for number in range(15):  # mail goes on to flow, whatever is tried again
        submit(server, f"b{number}@good", GOOD)
        run(clock, 20, 1)
        assert taken(hop, f"b{number}@good") == 1, number
    panics = [event for event in server.log.events if event[0] == "panic"]
    assert not panics


def test_the_second_host_takes_what_the_first_keeps_waiting(clock: Clock, serve: Serve) -> None:
    hop = Crowd(clock, "final")
    server = serve(hop)
    for each in range(100):
        submit(server, f"u{each}@s", silent(1), GOOD)
    run(clock, 30, 1)
    assert len(hop.messages) == 100 - 20 - FEW  # under way at the first host, and in its line


def test_who_was_sent_away_comes_back(clock: Clock, serve: Serve) -> None:
    """Each message is delivered, once, when the host recovers."""
    hop = Crowd(clock, "greeting")
    server = serve(hop, "* * F,1d,5m")
    for each in range(100):
        submit(server, f"u{each}@s", silent(1))
    run(clock, 90, 1)
    hop.dumb = hop.other
    run(clock, 1800, 10)
    sent = sorted(r for m in hop.other.messages for r in m.recipients)
    assert sent == sorted(f"u{each}@s" for each in range(100))


class Slow(Crowd):
    """Where a message takes a second; ``times`` is when each was taken."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, "final")
        self.times: list[float] = []

    async def connect(self, target: Target, protocol: HopProtocol, timeout: float) -> None:
        if target.address == GOOD.address:
            await NextHop.connect(self, target, protocol, timeout)
            return
        hop = NextHop(final=lambda _: self._later(hop))
        await hop.connect(target, protocol, timeout)

    def _later(self, hop: NextHop) -> str:
        def answer() -> None:
            hop.connections[0].hanging = False
            self.times.append(self.clock.seconds() - START)
            hop.connections[0].say(b"250 ok\r\n")

        self.clock.callLater(1, answer)
        return HANG


def test_a_slow_host_keeps_nothing_back_and_is_never_idle(clock: Clock, serve: Serve) -> None:
    """Twenty messages a second: 1,400 take little more than the 70 s that they must."""
    hop = Slow(clock)
    server = serve(hop)
    for each in range(1400):
        submit(server, f"u{each}@s", silent(1))
    submit(server, "a@good", GOOD)
    run(clock, 15, 0.5)
    assert taken(hop, "a@good") == 1
    run(clock, 75, 0.5)
    assert len(hop.times) == 1400
    assert max(hop.times) < 85


def test_the_longer_a_message_waits_the_more_seldom_it_asks(clock: Clock, serve: Serve) -> None:
    server = serve(Crowd(clock, "final"))
    waits = []
    for age in (0, 600, 86400):
        message = message_of(recipients=(Recipient("u@s"),), received_at=clock.seconds() - age)
        crowded = Outcome(an_address(message.recipients[0]), Result.DEFERRED, error=CROWDED)
        done = Deferred.fromCoroutine(server.schedule.deferred(message, crowded))
        waits.append((done.result or 0.0) - clock.seconds())
    assert waits == [60, 150, 900]

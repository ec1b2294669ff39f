"""Retry as chapter 32 says: the queue runner and the smtp transport before a dead next hop."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailsrv.errors import Position
from mailsrv.interfaces import IHints, Routed
from mailsrv.mail.header import Header
from mailsrv.mail.message import InlineBody, Message, Recipient
from mailsrv.mail.msgid import MessageIds
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Host
from mailsrv.mail.status import Status
from mailsrv.net.threads import InlineThreads
from mailsrv.queue.bounce import ReportSettings
from mailsrv.queue.bouncer import Bouncer
from mailsrv.queue.rules import RetryRules, parse_rule
from mailsrv.queue.runner import QueueRunner
from mailsrv.queue.schedule import Schedule
from mailsrv.spool.hints import SqliteHints
from mailsrv.spool.memory import MemoryHints, MemorySpool
from mailsrv.transport.connection import HopFailure, HopProtocol, Target
from mailsrv.transport.transports.smtp import Smtp
from tests.doubles.log import RecordingLog
from tests.doubles.nexthop import HANG, NextHop
from tests.doubles.routing import TableRouting, an_address
from tests.transport.helpers import World, make

A, B = Host("a.example", "192.0.2.1", 25), Host("b.example", "192.0.2.2", 25)
START = 1_000_000.0
HOUR, DAY = 3600.0, 86400.0
DEFAULT = "* * F,2h,15m; G,16h,1h,1.5; F,4d,6h"


class Hop(NextHop):
    """A next hop that can be down: connections are counted by time and address."""

    def __init__(self, clock: Clock, **script: Any) -> None:
        super().__init__(**script)
        self.clock = clock
        self.down = {A.address, B.address}
        self.tries: list[tuple[float, str]] = []
        self.takes = 0.0  # seconds until a failing connection fails

    async def connect(self, target: Target, protocol: HopProtocol, timeout: float) -> None:
        self.tries.append((self.clock.seconds() - START, target.address))
        if target.address in self.down:
            if self.takes:
                waiting: Deferred[None] = Deferred()
                self.clock.callLater(self.takes, waiting.callback, None)
                await waiting
            raise HopFailure("Connection timed out", "timeout_connect")
        await super().connect(target, protocol, timeout)


class Server:
    """One worker: a queue with its spool, in front of the hop."""

    def __init__(
        self,
        clock: Clock,
        hop: Hop,
        *rules: str,
        hosts: Sequence[Host] = (A,),
        hints: IHints | None = None,
        **options: str,
    ) -> None:
        parsed = [parse_rule(text, Position("f", 1)) for text in rules or (DEFAULT,)]
        self.clock, self.hop, self.log = clock, hop, RecordingLog()
        self.hints = hints if hints is not None else MemoryHints()
        self.schedule = Schedule(clock, self.hints, RetryRules(parsed))
        world = World(make(Smtp, **options), hop=hop, clock=clock, retry=self.schedule)
        self.routing = TableRouting()
        self.hosts = tuple(hosts)
        self.spool = MemorySpool()
        self.ids = MessageIds(clock.seconds, random=lambda n: 0)
        bouncer = Bouncer(
            clock, self.ids, lambda: ReportSettings("me.example"), self.log.panic, delay_warning=()
        )
        self.runner = QueueRunner(
            clock, self.spool, self.schedule, self.routing, world.delivering, self.log, bouncer
        )

    def submit(
        self, address: str = "u@e", sender: str = "s@example.org", *, routed: bool = True
    ) -> str:
        """Store a message and give it to the queue; bounces are dropped."""
        if routed:
            self.routing.answers[address] = lambda r: Routed((an_address(r, hosts=self.hosts),))
        self.routing.answers["s@example.org"] = Routed()
        message = Message(
            id=self.ids(),
            sender=sender,
            recipients=(Recipient(address),),
            origin=Origin(),
            headers=[Header("Subject: x")],
            body=InlineBody(b"x\r\n"),
            received_at=self.clock.seconds(),
        )
        Deferred.fromCoroutine(self.spool.store(message, self.clock.seconds()))
        self.runner.submit(message)
        self.clock.advance(0)
        return message.id

    def said(self, kind: str) -> list[str]:
        return [text for event, text in self.log.events if event == kind]


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(START)
    return clock


@pytest.fixture
def hop(clock: Clock) -> Hop:
    return Hop(clock)


def run(clock: Clock, seconds: float, step: float = 30.0) -> None:
    clock.pump([step] * int(seconds / step))


def minutes(hop: Hop) -> list[float]:
    return [round(time / 60, 1) for time, _ in hop.tries]


def test_default_rule_over_five_days(clock: Clock, hop: Hop) -> None:
    """Chapter 32: 15 min for 2 h; 1 h, times 1.5, up to 16 h; 6 h; given up when 4 days are over.

    The last attempt is made as soon as the message is older than the cutoff (32.11).
    """
    server = Server(clock, hop)
    server.submit()
    run(clock, 5 * DAY)
    expected, time, gap = [0.0], 0.0, 0.0
    while time <= 4 * 1440:
        if time <= 120:
            gap = 15
        elif time <= 16 * 60:
            gap = max(60.0, gap * 1.5)
        else:
            gap = 360
        time = time + gap
        expected.append(time if time <= 4 * 1440 else 4 * 1440)
    assert len(minutes(hop)) == len(expected)
    for found, wanted in zip(minutes(hop), expected, strict=True):
        assert wanted <= found <= wanted + 5  # half a minute for each step of the clock
    (failed,) = server.said("failed")
    assert failed.endswith("retry timeout exceeded")


def test_a_dead_host_costs_one_attempt_a_retry_time(clock: Clock, hop: Hop) -> None:
    """However many messages wait for it, and though each attempt takes long; then all go."""
    server = Server(clock, hop)
    server.submit()
    for n in range(300):
        server.submit(f"u{n}@e")
    assert len(hop.tries) == 1
    hop.takes = 200.0
    run(clock, 4 * HOUR)
    times = [time for time, _ in hop.tries]
    assert len(times) == 9  # not 300 times so many
    assert all(later - time > 800 for time, later in pairwise(times))
    hop.down.clear()
    run(clock, 2 * HOUR)
    assert len(hop.messages) == 301
    assert len(hop.connections) < 30


def test_workers_share_the_attempts(clock: Clock, tmp_path: Any) -> None:
    """The hints are one database: three workers try a dead host as often as one does."""
    hop = Hop(clock)
    workers = []
    for _ in range(3):
        hints = SqliteHints(clock, tmp_path / "hints.sqlite3", InlineThreads(), print)
        workers.append(Server(clock, hop, hints=hints))
    workers[0].submit()
    run(clock, 60)
    for n in range(10):
        for worker in workers:
            worker.submit(f"u{n}@e")
    hop.takes = 100.0
    run(clock, 2 * HOUR)
    assert len(hop.tries) <= 8
    hop.down.clear()
    run(clock, 2 * HOUR)
    assert len(hop.messages) == 31
    for worker in workers:
        Deferred.fromCoroutine(worker.hints.close())  # type: ignore[attr-defined]


def test_hosts_have_times_of_their_own(clock: Clock, hop: Hop) -> None:
    """32.4: the host's rule before the domain's."""
    server = Server(clock, hop, "b.example * F,1d,1h", "e * F,1d,10m", hosts=(A, B))
    server.submit()
    run(clock, 65 * 60)
    assert [t for t in hop.tries if t[1] == B.address][1:][0][0] >= HOUR
    assert len([t for t in hop.tries if t[1] == A.address]) == 7


def test_expired_hosts_bounce_at_once_until_their_time(clock: Clock, hop: Hop) -> None:
    """32.10: without an attempt; when the time is there with one."""
    server = Server(clock, hop, "* * F,1h,10m")
    server.submit()
    run(clock, 2 * HOUR)
    tries = len(hop.tries)
    assert len(server.said("failed")) == 1
    server.submit("v@e")
    if len(hop.tries) == tries:
        assert server.said("failed")[-1].endswith(
            "all hosts for 'e' have been failing for a long time (and retry time not reached)"
        )
    run(clock, 600)
    before = len(hop.tries)
    server.submit("w@e")
    assert len(hop.tries) == before + 1
    server.submit("x@e")
    assert len(hop.tries) == before + 1
    assert len(server.said("failed")) == 4


def test_delay_after_cutoff(clock: Clock, hop: Hop) -> None:
    """Without it an expired host is tried once for each new message (32.10)."""
    server = Server(clock, hop, "* * F,1h,10m", delay_after_cutoff="false")
    server.submit()
    run(clock, 2 * HOUR)
    server.submit("v@e")
    before = len(hop.tries)
    clock.advance(5)
    server.submit("w@e")
    assert len(hop.tries) == before + 1
    assert "retry timeout exceeded" in server.said("failed")[-1]


def test_a_message_older_than_the_cutoff_does_not_wait(clock: Clock, hop: Hop) -> None:
    """32.11: though the host's clock was reset, it is tried, given up, and no time is kept."""
    server = Server(clock, hop, "* * F,1h,40m")
    server.submit()
    run(clock, 2300)
    server.schedule.worked(A)  # for another message
    hop.tries.clear()
    run(clock, 2 * HOUR)
    assert [round(time) for time, _ in hop.tries][-1] in range(3600, 3700)
    assert len(server.said("failed")) == 1
    hint = server.hints.retry("T:a.example:192.0.2.1:25")
    assert hint is not None and hint.next_try <= clock.seconds()


def test_message_errors_concern_one_message(clock: Clock) -> None:
    """49.2: a 4xx to MAIL is kept for host and message; others go there."""
    hop = Hop(clock, mail=lambda sender: b"450 no\r\n" if sender == "bad@e" else b"250 ok\r\n")
    hop.down.clear()
    server = Server(clock, hop)
    id = server.submit(sender="bad@e")
    assert server.hints.retry(f"T:a.example:192.0.2.1:25:{id}") is not None
    assert server.hints.retry("T:a.example:192.0.2.1:25") is None
    server.submit()
    assert len(hop.messages) == 1
    hop.script.clear()
    run(clock, 1000)
    assert len(hop.messages) == 2
    assert server.hints.retry(f"T:a.example:192.0.2.1:25:{id}") is None


def test_by_name_without_the_address(clock: Clock, hop: Hop) -> None:
    """retry_include_ip_address = false: addresses of one host are one to the hints."""
    two = (A, Host(A.name, B.address, 25))
    server = Server(clock, hop, hosts=two, retry_include_ip_address="false")
    server.submit()
    assert server.hints.retry("T:a.example::25") is not None
    server.submit("v@e")
    assert len(hop.tries) <= 2


@pytest.mark.parametrize("by_sender", ["true", "false"])
def test_recipient_errors(clock: Clock, by_sender: str) -> None:
    """A 4xx to RCPT waits for recipient and sender, or for the recipient alone."""
    hop = Hop(clock, rcpt=b"450 no\r\n")
    hop.down.clear()
    server = Server(clock, hop, address_retry_include_sender=by_sender)
    server.submit()
    key = "R:u@e:s@example.org" if by_sender == "true" else "R:u@e"
    assert server.hints.retry(key) is not None
    hop.script.clear()
    run(clock, 1000)
    assert server.hints.retry(key) is None


def test_time_out_of_one_recipient(clock: Clock) -> None:
    """49.2: the others, to whom nothing was answered, suffer no retry delay of their own."""
    hop = Hop(
        clock,
        extensions=("PIPELINING",),
        rcpt=lambda who: HANG if who == "b@e" else b"250 ok\r\n",
    )
    hop.down.clear()
    server = Server(clock, hop)
    server.routing.answers |= {
        f"{n}@e": lambda r: Routed((an_address(r, hosts=(A,)),)) for n in "abc"
    }
    message = Message(
        id=server.ids(),
        sender="s@example.org",
        recipients=tuple(Recipient(f"{n}@e") for n in "abc"),
        origin=Origin(),
        headers=[],
        body=InlineBody(b""),
        received_at=clock.seconds(),
    )
    Deferred.fromCoroutine(server.spool.store(message, clock.seconds()))
    server.runner.submit(message)
    clock.advance(0)
    run(clock, 310)
    hints = {n: server.hints.retry(f"R:{n}@e:s@example.org") for n in "abc"}
    assert [n for n, hint in hints.items() if hint is not None] == ["b"]


@pytest.mark.parametrize(("error", "hours"), [("lookup", 2), ("*", 5)])
def test_a_routing_error_has_its_rule(clock: Clock, hop: Hop, error: str, hours: int) -> None:
    server = Server(clock, hop, "* lookup F,1d,2h", "* * F,1d,5h")
    server.routing.answers["w@e"] = Routed(status=Status(451, 3, 0, "x"), error=error)
    server.submit("w@e", routed=False)
    hint = server.hints.retry("R:w@e")
    assert hint is not None and hint.next_try - clock.seconds() == hours * HOUR


@pytest.mark.parametrize("by_local_part", [True, False])
def test_routing_errors(clock: Clock, hop: Hop, by_local_part: bool) -> None:
    """retry_use_local_part: what could not be routed delays the address, or the domain."""
    server = Server(clock, hop)
    deferred = Routed(status=Status(451, 3, 0, "x"), reason="DNS", by_local_part=by_local_part)
    server.submit()
    run(clock, 10)
    server.routing.answers["v@e"] = deferred
    message = Message(
        id=server.ids(),
        sender="s@example.org",
        recipients=(Recipient("v@e"),),
        origin=Origin(),
        headers=[],
        body=InlineBody(b""),
        received_at=clock.seconds(),
    )
    Deferred.fromCoroutine(server.spool.store(message, clock.seconds()))
    server.runner.submit(message)
    clock.advance(0)
    assert (server.hints.retry("R:v@e") is not None) == by_local_part
    assert (server.hints.retry("R:e") is not None) != by_local_part
    assert bool(server.schedule.waits_until(message, "other@e")) != by_local_part


def test_quota_counts_from_arrival(clock: Clock, hop: Hop) -> None:
    """32.11: quota failures are the message's: an old one does not begin a new series."""
    from mailsrv.mail.routed import Outcome, Result

    server = Server(clock, hop, "* quota F,1h,10m", "* * F,4d,10m")
    old = Message(
        id="x", sender="s@e", recipients=(), origin=Origin(), headers=[], body=InlineBody(b""),
        received_at=START - 3000,
    )  # fmt: skip
    outcome = Outcome(an_address(Recipient("u@e")), Result.DEFERRED, error="quota")
    next_try: list[float | None] = []
    Deferred.fromCoroutine(server.schedule.deferred(old, outcome)).addCallback(next_try.append)
    assert next_try == [START + 600]
    hint = server.hints.retry("T:u@e")
    assert hint is not None and hint.first_failed == START - 3000

"""Whatever a next hop does, and when: each message ends, by a delivery or by a bounce (32.11)."""

from __future__ import annotations

import random

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailsrv.interfaces import Routed
from mailsrv.transport.connection import HopFailure, HopProtocol, Target
from tests.doubles.nexthop import CLOSE, HANG
from tests.queue.test_schedule import DAY, DEFAULT, START, A, B, Hop, Server, run

REPLIES = (b"450 x\r\n", b"421 x\r\n", b"451 4.7.1 later\r\n", b"junk\r\n", CLOSE, HANG)
SENDERS = ("a@example.org", "b@example.org")


class MoodyHop(Hop):
    """A next hop that fails at any point, the more often the worse its mood (0 to 1)."""

    def __init__(self, clock: Clock, random: random.Random) -> None:
        super().__init__(clock)
        self.random = random
        self.mood = 0.0
        self.down = set()
        points = {"greeting": b"220 x\r\n", "mail": b"250 x\r\n", "rcpt": b"250 x\r\n"}
        for point, normal in {**points, "final": b"250 x\r\n"}.items():
            self.script[point] = lambda _, normal=normal: self._said(normal)

    def _said(self, normal: bytes) -> bytes | str:
        return self.random.choice(REPLIES) if self.random.random() < self.mood else normal

    async def connect(self, target: Target, protocol: HopProtocol, timeout: float) -> None:
        if self.random.random() < self.mood / 2:
            raise HopFailure("x", self.random.choice(["timeout_connect", "refused", "*"]))
        await super().connect(target, protocol, timeout)


@pytest.mark.parametrize(
    "rules",
    [
        (DEFAULT,),
        ("* * H,2d,10m,3",),
        ("* timeout G,1d,5m,2", "* lost_connection", "* rcpt_4xx F,6h,20m", "* * F,1d,1h"),
    ],
    ids=["default", "random", "by error"],
)
@pytest.mark.parametrize("worst", [0.5, 1.0])
def test_each_message_ends(rules: tuple[str, ...], worst: float) -> None:
    clock = Clock()
    clock.advance(START)
    chance = random.Random(len(rules))
    hop = MoodyHop(clock, chance)
    server = Server(clock, hop, *rules, hosts=(A, B))
    server.routing.answers.update(dict.fromkeys(SENDERS, Routed()))
    ids = []
    for _ in range(30):
        hop.mood = chance.choice([0.2, worst, worst])
        ids.append(server.submit(f"u{chance.randrange(4)}@e", chance.choice(SENDERS)))
        run(clock, chance.choice([600, 1800, 7200]), 60)
    hop.mood = worst
    run(clock, 5 * DAY, 300)
    assert server.said("completed").count(ids[0]) == 1
    assert set(ids) <= set(server.said("completed"))
    assert not server.said("panic")
    left: Deferred[int] = Deferred.fromCoroutine(server.spool.count())
    assert left.result == 0

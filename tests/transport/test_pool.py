"""Kept connections: each for its time, with one timer for all."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.transport.connection import Target
from mailsrv.transport.pool import Hop, Lease, Pool

HOP = Hop("smtp", Target("192.0.2.1", 25), "here.example", False)
OTHER = Hop("smtp", Target("192.0.2.2", 25), "here.example", False)


class Kept:
    """A connection as the pool sees it."""

    alive = True
    messages = 0
    closed = False

    def close(self) -> None:
        """Note it."""
        self.closed = True


class PoolTests(SynchronousTestCase):
    """A pool that keeps connections for ten seconds."""

    def setUp(self) -> None:
        self.clock = Clock()
        connector: Any = None
        self.pool = Pool(self.clock, connector, idle=10)

    def kept(self, hop: Hop = HOP) -> Kept:
        """Give a connection back."""
        connection: Any = Kept()
        self.pool.give_back(Lease(hop, connection, 0))
        return connection

    def test_each_has_its_time(self) -> None:
        """A connection that came back later is kept for longer."""
        first = self.kept()
        self.clock.advance(6)
        second, other = self.kept(), self.kept(OTHER)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(4)
        self.assertEqual([c.closed for c in (first, second, other)], [True, False, False])
        self.clock.advance(5.9)
        self.assertFalse(second.closed)
        self.clock.advance(0.1)
        self.assertTrue(second.closed and other.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lent_is_not_closed(self) -> None:
        """A connection that is in use when its time would be over goes on."""
        connection = self.kept()
        lease = self.pool.take(HOP)
        self.clock.advance(20)
        self.assertFalse(connection.closed)
        assert lease is not None
        self.pool.give_back(lease)
        self.clock.advance(9)
        self.assertFalse(connection.closed)

    def test_clock_is_set_back(self) -> None:
        """Nothing is kept for an hour because the clock was an hour ahead."""
        self.clock.advance(3600)
        connection = self.kept()
        self.clock.rightNow -= 1800
        self.clock.advance(1810)
        self.assertTrue(connection.closed)

    def test_end(self) -> None:
        """A closed pool keeps nothing, and leaves no timer."""
        connection = self.kept()
        self.pool.close()
        self.assertTrue(connection.closed)
        self.assertTrue(self.kept().closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

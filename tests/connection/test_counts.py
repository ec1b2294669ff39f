"""Connection counts of several workers."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.connection import counts
from mailsrv.connection.counts import SharedCounts, make_counts, reset

HOSTS = st.sampled_from([f"192.0.2.{n}" for n in range(20)] + ["2001:db8::1", ""])


class SharedCountsTests(SynchronousTestCase):
    def file(self, workers: int = 2) -> int:
        descriptor = make_counts(workers)
        self.addCleanup(os.close, descriptor)
        return descriptor

    def test_the_sum_over_all_workers(self) -> None:
        """In all, and of one host."""
        file = self.file()
        first, second = SharedCounts(file, 0), SharedCounts(file, 1)
        self.assertEqual(first.enter("192.0.2.1"), (1, 1))
        self.assertEqual(second.enter("192.0.2.1"), (2, 2))
        self.assertEqual(second.enter("192.0.2.2"), (3, 1))
        first.leave("192.0.2.1")
        self.assertEqual(second.enter("192.0.2.1"), (3, 2))

    def test_a_dead_workers_are_forgotten(self) -> None:
        """Its row is emptied; the others' stay."""
        file = self.file()
        first, second = SharedCounts(file, 0), SharedCounts(file, 1)
        first.enter("192.0.2.1")
        second.enter("192.0.2.1")
        reset(file, 0)
        self.assertEqual(SharedCounts(file, 0).enter("192.0.2.1"), (2, 2))

    def test_a_full_bucket(self) -> None:
        """Who finds no place is counted by its own worker."""
        file = self.file(1)
        self.patch(counts, "BUCKETS", 1)
        shared = SharedCounts(file, 0)
        hosts = [f"192.0.2.{number}" for number in range(counts.PLACES + 3)]
        for number, host in enumerate(hosts, 1):
            self.assertEqual(shared.enter(host), (number, 1))
        self.assertEqual(shared.enter(hosts[-1])[1], 2)
        for host in [*hosts, hosts[-1]]:
            shared.leave(host)
        self.assertEqual(shared.enter(hosts[-1]), (1, 1))

    @given(st.lists(st.tuples(st.integers(0, 2), HOSTS, st.booleans()), max_size=200))
    def test_as_one_book(self, steps: list[tuple[int, str, bool]]) -> None:
        """Three workers count as one would."""
        descriptor = make_counts(3)
        workers = [SharedCounts(descriptor, number) for number in range(3)]
        os.close(descriptor)
        there: list[tuple[int, str]] = []
        for worker, host, comes in steps:
            if comes:
                there.append((worker, host))
                expected = len(there), sum(each == host for _, each in there)
                self.assertEqual(workers[worker].enter(host), expected)
            elif (worker, host) in there:
                there.remove((worker, host))
                workers[worker].leave(host)

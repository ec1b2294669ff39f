"""Messages that wait for a host which does not answer keep no others back."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from mailsrv.interfaces import Record, Waits, no_matter
from mailsrv.mail.message import Message
from mailsrv.mail.routed import Outcome, Result, RoutedAddress
from mailsrv.queue.runner import SLOW
from mailsrv.transport.limits import Crew, Limits
from tests.doubles.delivering import TableDelivering
from tests.queue.test_runner import QueueTestCase

PER_HOP = 20


class SilentHost(TableDelivering):
    """What is for the domain "silent" waits for the host's answer, a few messages at a time."""

    limits: Limits
    answer: Deferred[None]

    async def deliver(
        self,
        message: Message,
        addresses: Sequence[RoutedAddress],
        record: Record,
        waits: Waits = no_matter,
    ) -> None:
        if addresses[0].domain != "silent":
            await super().deliver(message, addresses, record, waits)
            return
        crew = Crew(waits)
        crew.change(left=1)
        async with self.limits.hold({("hop",): PER_HOP}, crew):
            self.attempts.append((self.clock.seconds(), message.id))
            answered: Deferred[None] = Deferred()
            self.waiting.append(answered)
            await answered
        crew.change(left=-1)
        await record([Outcome(address, Result.DELIVERED) for address in addresses])


class SilentHostTests(QueueTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.delivering = SilentHost(self.clock)
        self.delivering.limits = Limits(self.clock)
        self.runner = self.make()

    def answer(self) -> None:
        while self.delivering.waiting:
            self.delivering.go()
            self.clock.advance(0)
        self.advance(60, 1)

    def test_others_are_delivered_at_once(self) -> None:
        sent = [self.submit("a@silent").id for _ in range(500)]
        self.submit("a@good")
        self.assertEqual(len(self.delivering.attempts), PER_HOP + 1)
        self.assertEqual(self.sent()[-1], "a@good")
        self.answer()
        self.assertEqual(self.done(self.spool.count()), 0)
        self.assertEqual(sorted(self.sent()), sorted([*sent, "a@good"]))

    def test_what_comes_with_a_long_queue(self) -> None:
        """Also at a start, when the good host's message is the last of the queue."""
        for address in ["a@silent"] * 500 + ["a@good"]:
            message = self.message(address)
            self.done(self.spool.store(message, self.clock.seconds()))
            self.clock.advance(0.001)
        self.runner.start()
        self.advance(1, 0.1)
        self.assertIn("a@good", self.sent())
        self.answer()
        self.assertEqual(self.done(self.spool.count()), 0)
        self.assertEqual(len(set(self.sent())), 501)
        self.assertEqual(len(self.sent()), 501)

    def test_what_waits_is_bounded(self) -> None:
        """More than max_parked are not taken into memory."""
        self.runner = self.make(max_active=30, max_parked=50)
        for _ in range(200):
            self.submit("a@silent")
        self.assertEqual(len(self.delivering.attempts), PER_HOP)
        self.assertEqual(len(self.runner._active), 80)
        self.answer()
        self.assertEqual(self.done(self.spool.count()), 0)
        self.assertEqual(len(set(self.sent())), 200)
        self.assertEqual(len(self.sent()), 200)

    def test_a_stop_cuts_what_waits(self) -> None:
        for _ in range(100):
            self.submit("a@silent")
        stopped = Deferred.fromCoroutine(self.runner.stop(1))
        self.clock.advance(1)
        self.successResultOf(stopped)
        self.assertEqual(self.done(self.spool.count()), 100)

    def test_an_attempt_that_takes_long_keeps_no_others_back(self) -> None:
        """Whatever it waits for; more than max_parked are not begun."""
        self.runner = self.make(max_active=5, max_parked=12)
        for number in range(40):
            self.delivering.limits = Limits(self.clock)  # a place for each
            self.submit(f"a{number}@silent")
        self.assertEqual(len(self.delivering.attempts), 5)
        self.advance(SLOW, 1)
        self.assertEqual(len(self.delivering.attempts), 10)
        self.advance(3 * SLOW, 1)
        self.assertEqual(len(self.delivering.attempts), 17)
        self.answer()
        self.advance(10 * SLOW, 1)
        self.answer()
        self.assertEqual(len(set(self.sent())), 40)
        self.assertEqual(len(self.sent()), 40)

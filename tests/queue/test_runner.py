"""The queue delivers, retries, bounces and freezes, at the right time and durably."""

from collections.abc import Coroutine
from dataclasses import replace
from email import message_from_bytes
from typing import Any, TypeVar
from unittest import mock

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import Locked, Position, TemporaryFailure
from mailsrv.interfaces import RetryHint, Routed
from mailsrv.mail.header import Header, render
from mailsrv.mail.message import ATTEMPTED, InlineBody, Message, Recipient
from mailsrv.mail.msgid import MessageIds
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Host, HostFailure, Result
from mailsrv.mail.status import LOCAL_PROBLEM, Status
from mailsrv.queue.bounce import ReportSettings
from mailsrv.queue.bouncer import Bouncer
from mailsrv.queue.frozen import CHECK, FrozenWatch
from mailsrv.queue.operator import Operator
from mailsrv.queue.rules import RetryRules, parse_rule
from mailsrv.queue.runner import QueueRunner, QueueSettings
from mailsrv.queue.schedule import Schedule
from mailsrv.spool.memory import MemoryHints, MemorySpool
from tests.doubles.delivering import TableDelivering
from tests.doubles.log import RecordingLog
from tests.doubles.routing import TableRouting, an_address

T = TypeVar("T")
DAY = 86400.0
REFUSED = {"result": Result.FAILED, "reason": "no such user", "status": Status(550, 1, 1, "none")}
DEFAULT = "* * F,2h,15m; G,16h,1h,1.5; F,4d,6h"


class QueueTestCase(SynchronousTestCase):
    rules = DEFAULT

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.ids = MessageIds(self.clock.seconds, random=lambda n: 0)
        self.spool, self.hints, self.log = MemorySpool(), MemoryHints(), RecordingLog()
        self.routing = TableRouting()
        self.reports = ReportSettings("mx.example")
        self.delivering = TableDelivering(self.clock)
        self.runner = self.make()
        self.addCleanup(self.end)

    def end(self) -> None:
        """Nothing begins after a test."""
        Deferred.fromCoroutine(self.runner.stop(0)).addErrback(lambda failure: None)
        self.clock.advance(1)

    def make(self, **settings: Any) -> QueueRunner:
        rules = [parse_rule(self.rules, Position("f", 1))] if self.rules else []
        bouncer = Bouncer(self.clock, self.ids, lambda: self.reports, self.log.panic)
        schedule = self.delivering.retry = Schedule(self.clock, self.hints, RetryRules(rules))
        return QueueRunner(
            self.clock, self.spool, schedule, self.routing, self.delivering,
            self.log, bouncer, QueueSettings(**settings),
        )  # fmt: skip

    def done(self, work: Coroutine[Any, Any, T]) -> T:
        return self.successResultOf(Deferred.fromCoroutine(work))

    @property
    def operator(self) -> Operator:
        return Operator(self.runner, self.spool, self.clock, self.log)

    def watch(self) -> None:
        """Begin to look at frozen messages."""
        watch = FrozenWatch(self.runner, self.operator, self.spool, self.clock, self.log)
        watch.start()
        self.addCleanup(watch.stop)

    def message(self, *recipients: str | Recipient, **fields: Any) -> Message:
        values: dict[str, Any] = {
            "id": self.ids(),
            "sender": "s@example.org",
            "recipients": tuple(
                r if isinstance(r, Recipient) else Recipient(r) for r in recipients or ("a@b",)
            ),
            "origin": Origin(),
            "headers": [Header("Subject: x"), Header("Message-ID: <1@x>")],
            "body": InlineBody(b"hello\r\n"),
            "received_at": self.clock.seconds(),
        }
        return Message(**{**values, **fields})

    def submit(self, *recipients: str | Recipient, **fields: Any) -> Message:
        message = self.message(*recipients, **fields)
        self.done(self.spool.store(message, self.runner.first_attempt(message)))
        self.runner.submit(message)
        self.clock.advance(0)
        return message

    def advance(self, seconds: float, step: float = 60.0) -> None:
        self.clock.pump([step] * int(seconds / step))

    def sent(self) -> list[str]:
        return [address for _, address in self.delivering.attempts]

    def events(self, *kinds: str) -> list[tuple[str, str]]:
        return [event for event in self.log.events if event[0] in kinds]

    def bounce(self) -> Any:
        """The only message in the spool, parsed."""

        async def find() -> Message:
            ids = [entry.id async for entry in self.spool.listing()]
            self.assertEqual(len(ids), 1)
            message = await self.spool.load(ids[0])
            assert message is not None
            return message

        self.found = self.done(find())
        assert self.found.body.inline is not None
        return message_from_bytes(render(self.found.headers) + b"\r\n" + self.found.body.inline)


class DeliveryTests(QueueTestCase):
    def test_delivered_at_once(self) -> None:
        """A message is delivered when submitted, logged, completed and gone."""
        message = self.submit("a@b", "c@d")
        self.assertEqual(self.sent(), ["a@b", "c@d"])
        self.assertEqual(self.log.events[-1], ("completed", message.id))
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_delivered_without_reading_the_spool(self) -> None:
        """A message that is delivered when it comes is not looked for, nor read back."""
        self.runner.start()
        asked: list[str] = []
        for name in ("due", "next_due", "load"):
            before = getattr(self.spool, name)
            setattr(
                self.spool,
                name,
                lambda *a, name=name, before=before: asked.append(name) or before(*a),
            )
        for _ in range(10):
            self.submit()
        self.assertEqual(asked, [])
        self.delivering.answers["a@b"] = {"reason": "later"}
        self.submit()
        self.assertEqual(asked, ["due", "next_due"])
        self.advance(3600)
        self.assertEqual(len(self.sent()), 15)

    def stored(self) -> Message:
        """Return a message that the spool shows, and whose reception has not heard of it yet."""
        message = self.message()
        self.done(self.spool.store(message, self.runner.first_attempt(message)))
        return message

    def test_taken_from_the_spool_before_it_is_submitted(self) -> None:
        """A look between commit and submit begins the message's only attempt."""
        message, begun = self.stored(), list[str]()
        never: Deferred[None] = Deferred()

        def deliver(message: Message, *rest: Any) -> Deferred[None]:
            begun.append(message.id)
            return never

        with mock.patch.object(self.delivering, "deliver", deliver):
            self.runner.start()
            self.runner.submit(message)
            self.clock.advance(0)
        self.assertEqual(begun, [message.id])

    def test_delivered_from_the_spool_before_it_is_submitted(self) -> None:
        """The same when the attempt has ended by then."""
        message = self.stored()
        self.runner.start()
        self.runner.submit(message)
        self.clock.advance(0)
        self.assertEqual(self.sent(), ["a@b"])

    def test_removed_before_it_is_submitted(self) -> None:
        """What an administrator removes between commit and submit is not delivered."""
        message = self.stored()
        self.assertTrue(self.done(self.operator.remove(message.id)))
        self.runner.submit(message)
        self.clock.advance(0)
        self.assertEqual(self.sent(), [])

    def test_one_delivery_for_equal_addresses(self) -> None:
        """Recipients that become the same address get it once; both are done."""
        to_c = lambda r: Routed((an_address(r, "c@d"),))  # noqa: E731
        self.routing.answers.update({"a@b": to_c, "b@b": to_c})
        self.submit("a@b", "b@b")
        self.assertEqual(self.sent(), ["c@d"])
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_delivered_child_is_not_delivered_again(self) -> None:
        """Of a recipient that became two addresses, only the deferred one is tried again."""
        self.routing.answers["list@b"] = lambda r: Routed(
            (an_address(r, "x@c"), an_address(r, "y@c"))
        )
        self.delivering.answers["y@c"] = {"reason": "later"}
        message = self.submit("list@b")
        self.assertEqual(self.done(self.spool.load(message.id)).parts - {ATTEMPTED}, {"r:t:x@c"})
        self.delivering.answers.clear()
        self.advance(900)
        self.assertEqual(self.sent(), ["x@c", "y@c", "y@c"])
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_retried_at_the_rules_times(self) -> None:
        """A deferred address is tried again when its rule says, and by one timer."""
        self.delivering.answers["a@b"] = {"reason": "full"}
        self.submit()
        self.advance(7200)
        times = [time - 1_000_000 for time, _ in self.delivering.attempts]
        self.assertEqual(times, [900.0 * n for n in range(9)])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_conditions_know_the_first_attempt(self) -> None:
        """first_delivery and queue_running, whatever was delivered and however it is kept."""
        known: list[tuple[bool, bool]] = []
        route = self.routing.route

        async def routed(message: Message, recipient: Recipient) -> Routed:
            known.append((message.first_delivery, message.queue_running))
            return await route(message, recipient)

        self.routing.route = routed  # type: ignore[method-assign]
        self.delivering.answers["a@b"] = {"reason": "full"}
        self.submit()
        self.advance(1800)
        self.assertEqual(known, [(True, False), (False, True), (False, True)])
        del self.delivering.answers["a@b"]
        self.advance(900)
        known.clear()
        self.submit(queue_only=True)
        self.advance(1800)
        self.assertEqual(known, [(True, True)])

    def test_domains_that_differ_in_case_are_one(self) -> None:
        """One delivery, which settles both; local parts are another matter."""
        self.submit("a@b", "a@B", "A@b")
        self.assertEqual([address for _, address in self.delivering.attempts], ["a@b", "A@b"])
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_gives_up_with_one_bounce(self) -> None:
        """After the last cutoff the message bounces, once."""
        self.delivering.answers["a@b"] = {"reason": "full"}
        self.submit()
        self.advance(5 * DAY, 900)
        self.assertEqual(self.sent()[-1], "s@example.org")
        self.assertEqual(self.sent().count("s@example.org"), 4)  # three warnings, one bounce
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_dead_host_costs_one_attempt_a_retry_time(self) -> None:
        """may_try says no until the host's time has come, for every message."""
        host = Host("mx.b", "192.0.2.9", 25)
        self.delivering.answers["a@b"] = {
            "host_error": True, "host": host, "hosts": (host,), "error": "refused", "remote": True,
            "host_failures": (HostFailure(host, "refused", "no"),),
        }  # fmt: skip
        message = self.submit()
        self.assertFalse(self.runner.schedule.may_try(message, host))
        self.clock.advance(900)
        self.assertEqual(len(self.delivering.attempts), 2)
        self.delivering.answers.clear()
        self.clock.advance(900)
        self.assertTrue(self.runner.schedule.may_try(message, host))

    def test_host_that_failed_before_another_took_the_message(self) -> None:
        """It waits for its retry time, and is forgiven when it answers; the other is not blamed."""
        down, up = Host("a.b", "192.0.2.1", 25), Host("b.b", "192.0.2.2", 25)
        self.delivering.answers["a@b"] = {
            "result": Result.DELIVERED, "host": up, "remote": True,
            "host_failures": (HostFailure(down, "timeout_connect", "no answer"),),
        }  # fmt: skip
        message = self.submit("a@b", "a@b", "b@b")
        self.assertFalse(self.runner.schedule.may_try(message, down))
        self.assertTrue(self.runner.schedule.may_try(message, up))
        self.assertEqual(self.hints.retry("T:a.b:192.0.2.1:25").error, "timeout_connect")
        self.delivering.answers["a@b"] = {
            "result": Result.FAILED, "host": down, "status": Status(550, 1, 1, "no"),
        }  # fmt: skip
        self.submit("a@b")
        self.assertIsNone(self.hints.retry("T:a.b:192.0.2.1:25"))

    def test_given_up_when_the_last_host_has_expired(self) -> None:
        """With several hosts a message waits as long as one of them may still come back."""
        hosts = (Host("a.b", "192.0.2.1", 25), Host("b.b", "192.0.2.2", 25))
        self.hints.set_retry(
            "T:a.b:192.0.2.1:25",
            RetryHint(0, self.clock.seconds(), self.clock.seconds() + DAY, expired=True),
        )
        self.routing.answers["a@b"] = lambda r: Routed((an_address(r, hosts=hosts),))
        self.delivering.answers["a@b"] = {
            "host_error": True, "host": hosts[1], "error": "refused", "remote": True,
            "host_failures": (HostFailure(hosts[1], "refused", "no"),),
        }  # fmt: skip
        self.submit()
        self.assertEqual(self.events("failed"), [])
        self.hints.set_retry(
            "T:b.b:192.0.2.2:25", RetryHint(0, 0, self.clock.seconds(), expired=True)
        )
        self.advance(900)
        self.assertIn("retry timeout exceeded", self.events("failed")[0][1])

    def test_unseen_copy_of_an_address_that_fails(self) -> None:
        """The copy is delivered, or tried again, though the address itself bounces, once."""
        for later in (False, True):
            self.delivering.attempts.clear()
            self.routing.answers["a@b"] = lambda r: Routed(
                (an_address(r, "copy@b"),), Status(550, 1, 1, "Unrouteable address")
            )
            if later:
                self.delivering.answers["copy@b"] = {"reason": "later"}
            self.submit()
            self.advance(60)
            self.delivering.answers.clear()
            self.advance(1800)
            self.assertEqual(self.sent().count("copy@b"), 1 + later)
            self.assertEqual(self.sent().count("s@example.org"), 1)
            self.assertEqual(self.done(self.spool.count()), 0)

    def test_unseen_copy_over_the_same_transport(self) -> None:
        """Two routers' deliveries to one address are two, tried again each for itself."""
        both = lambda r: Routed(  # noqa: E731
            (an_address(r, "c@d", router="archive"), an_address(r, "c@d", router="main"))
        )
        self.routing.answers.update({"a@b": both, "b@b": both})
        self.delivering.answers["c@d"] = {"reason": "later"}
        self.submit("a@b", "b@b")
        self.assertEqual(self.sent(), ["c@d", "c@d"])
        self.delivering.answers.clear()
        self.advance(900)
        self.assertEqual(self.sent(), ["c@d"] * 4)
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_failure_by_another_router_is_the_same_failure(self) -> None:
        """An address that cannot be routed bounces once, whichever router says so."""
        names = iter("abcdefgh")
        self.routing.answers["a@b"] = lambda r: Routed(
            (an_address(r, "copy@b"),), Status(550, 1, 1, "no"), router=next(names)
        )
        self.delivering.answers["copy@b"] = {"reason": "later"}
        self.submit()
        self.advance(3600)
        self.assertEqual(self.sent().count("s@example.org"), 1)

    def test_unseen_copy_of_an_address_that_waits(self) -> None:
        """The copy is delivered once, however often the address itself is tried."""
        self.routing.answers["a@b"] = lambda r: Routed(
            (an_address(r, "copy@b"),), Status(451, 4, 0, "no DNS")
        )
        self.submit()
        self.advance(3600)
        self.assertEqual(self.sent(), ["copy@b"])
        self.assertEqual(len(self.routing.asked), 5)
        self.routing.answers.clear()
        self.advance(900)
        self.assertEqual(self.sent(), ["copy@b", "a@b"])
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_unexpected_exceptions_defer(self) -> None:
        """A bug of a router or transport defers the message and is in the panic log."""
        self.routing.answers["a@b"] = ValueError("bug")
        self.delivering.error = KeyError("bug")
        message = self.submit("a@b", "c@d")
        self.assertEqual(len(self.log.failures), 2)
        self.assertEqual(len(self.done(self.spool.load(message.id)).recipients), 2)
        self.delivering.error = None
        self.routing.answers.clear()
        self.advance(1800)
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_outcome_is_recorded_in_the_end(self) -> None:
        """While the spool cannot be written, a delivery waits and is not repeated."""
        message = self.message()
        self.done(self.spool.store(message, self.clock.seconds()))
        self.spool.failure = TemporaryFailure()
        self.runner.submit(message)
        self.clock.advance(0)
        self.advance(5, 1)
        self.assertEqual(self.events("completed"), [])
        self.spool.failure = None
        self.advance(60, 1)
        self.assertEqual(self.events("completed"), [("completed", message.id)])
        self.assertEqual(self.sent(), ["a@b"])

    def test_remote_deliveries_wait(self) -> None:
        """queue_smtp_domains: what another host has to have waits, local copies do not."""

        async def later(domain: str) -> bool:
            if domain == "unknown":
                raise TemporaryFailure(reason="no answer")
            return domain == "far"

        self.runner = self.make(later_remote=later, remote=frozenset({"smtp"}))
        for address in ("r@far", "r@unknown"):
            self.routing.answers[address] = lambda r: Routed((an_address(r, transport="smtp"),))
        self.submit("r@far", "r@unknown", "local@far", "a@b")
        self.assertEqual(self.sent(), ["local@far", "a@b"])
        self.assertEqual([text for kind, text in self.log.events if kind == "panic"], [])
        self.advance(3600)
        self.assertEqual(self.sent(), ["local@far", "a@b", "r@far", "r@unknown"])

    def test_nothing_is_delivered_that_a_filter_should_see(self) -> None:
        self.runner = self.make(halted="system_filter is not built")
        self.submit()
        self.advance(3600)
        self.assertEqual(self.sent(), [])
        self.assertEqual(self.done(self.spool.count()), 1)

    def test_no_more_than_allowed_at_a_time(self) -> None:
        self.runner = self.make(max_active=3, max_waiting=2)
        self.delivering.paused = True
        for _ in range(20):
            self.submit()
        self.assertEqual(len(self.delivering.waiting), 3)
        self.delivering.paused = False
        self.delivering.go()
        self.advance(60, 1)
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_many_at_the_start(self) -> None:
        """A start with a long queue takes messages a few at a time, all in the end."""
        for _ in range(2000):
            self.done(self.spool.store(self.message(), self.clock.seconds()))
        self.delivering.paused = True
        self.runner = self.make(max_active=50)
        self.runner.start()
        self.assertEqual(len(self.delivering.waiting), 50)
        self.delivering.paused = False
        self.delivering.go()
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_stop_while_the_spool_is_looked_at(self) -> None:
        """The spool is closed when the queue has stopped: what the look meets is no failure."""
        looks: list[Deferred[None]] = []
        due = self.spool.due

        async def slow(*arguments: Any) -> Any:
            looks.append(Deferred())
            await looks[-1]
            return await due(*arguments)

        self.spool.due = slow  # type: ignore[method-assign]
        self.runner = self.make()
        self.runner.start()
        self.assertEqual(len(looks), 1)
        self.successResultOf(Deferred.fromCoroutine(self.runner.stop()))
        looks[0].errback(TemporaryFailure(reason="spool reader threads are stopped"))
        self.assertEqual(self.events("panic"), [])

    def test_stop_while_frozen_messages_are_looked_at(self) -> None:
        looks: list[Deferred[None]] = []

        async def listing(*arguments: Any) -> Any:
            looks.append(Deferred())
            await looks[-1]
            yield  # never: it fails

        self.spool.listing = listing  # type: ignore[method-assign]
        self.runner = self.make(auto_thaw=60.0)
        watch = FrozenWatch(self.runner, self.operator, self.spool, self.clock, self.log)
        watch.start()
        self.clock.advance(CHECK)
        self.assertEqual(len(looks), 1)
        watch.stop()
        looks[0].errback(TemporaryFailure(reason="spool reader threads are stopped"))
        self.assertEqual(self.events("panic"), [])

    def test_stop_lets_deliveries_end(self) -> None:
        """stop waits for what is under way, which is recorded; nothing new begins."""
        self.delivering.paused = True
        self.submit()
        stopped = Deferred.fromCoroutine(self.runner.stop())
        self.assertNoResult(stopped)
        self.submit("c@d")
        self.delivering.go()
        self.successResultOf(stopped)
        self.assertEqual(self.sent(), ["a@b"])
        self.assertEqual(self.done(self.spool.count()), 1)

    def test_a_look_that_the_end_overtakes_is_no_panic(self) -> None:
        """The spool is closed while it is asked what is due: that is how it ends."""
        asked: Deferred[list[str]] = Deferred()

        async def due(now: float, limit: int, skip: frozenset[str]) -> list[str]:
            return await asked

        self.patch(self.spool, "due", due)
        self.runner.start()
        self.done(self.runner.stop())
        asked.errback(TemporaryFailure(reason="spool reader threads are stopped"))
        self.assertEqual(self.events("panic"), [])

    def test_stop_cuts_what_does_not_end(self) -> None:
        """After its time a delivery is cancelled; nothing of it is written or logged."""
        self.delivering.paused = True
        message = self.submit()
        stopped = Deferred.fromCoroutine(self.runner.stop(20))
        self.clock.advance(19)
        self.assertNoResult(stopped)
        self.clock.advance(1)
        self.successResultOf(stopped)
        self.assertEqual(self.events("delivered", "deferred", "failed", "completed", "panic"), [])
        left = self.done(self.spool.load(message.id))
        self.assertEqual([r.address for r in left.recipients], ["a@b"])
        self.assertIsNone(self.hints.retry("T:a@b"))

    def test_stop_cuts_routing(self) -> None:
        """A router that never answers does not keep the server from ending."""
        never: Deferred[Routed] = Deferred()

        async def route(message: Message, recipient: Recipient) -> Routed:
            return await never

        self.routing.route = route  # type: ignore[method-assign]
        self.submit()
        stopped = Deferred.fromCoroutine(self.runner.stop(1))
        self.clock.advance(1)
        self.successResultOf(stopped)
        self.assertEqual(self.events("panic", "deferred"), [])

    def test_stop_records_what_was_delivered(self) -> None:
        """A delivery that is being recorded when the time is over is recorded and logged."""
        message = self.message()
        self.done(self.spool.store(message, self.clock.seconds()))
        self.spool.failure = TemporaryFailure()
        self.runner.submit(message)
        self.clock.advance(0)
        stopped = Deferred.fromCoroutine(self.runner.stop(0.1))
        self.clock.advance(0.1)
        self.assertNoResult(stopped)
        self.spool.failure = None
        self.clock.advance(1)
        self.successResultOf(stopped)
        self.assertEqual(self.events("completed"), [("completed", message.id)])
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_stop_ends_while_the_spool_fails(self) -> None:
        """Outcomes that cannot be written do not keep the server from ending."""
        message = self.message()
        self.done(self.spool.store(message, self.clock.seconds()))
        self.spool.failure = TemporaryFailure()
        self.runner.submit(message)
        self.clock.advance(0)
        self.advance(100, 1)
        stopped = Deferred.fromCoroutine(self.runner.stop(1))
        self.advance(10, 1)
        self.successResultOf(stopped)
        self.assertNotEqual(self.events("panic"), [])


class WithoutRulesTests(QueueTestCase):
    rules = ""

    def test_temporary_errors_are_permanent(self) -> None:
        """Without a retry rule the first temporary failure bounces."""
        self.delivering.answers["a@b"] = {"reason": "full"}
        self.submit()
        self.assertEqual(self.events("failed")[0][1], "a@b full: retry timeout exceeded")
        self.clock.advance(1)
        self.assertEqual(self.sent(), ["a@b", "s@example.org"])

    def test_where_a_string_failed_is_for_the_log(self) -> None:
        """The place in the configuration is logged, and not told to the sender."""
        self.runner = self.make(max_active=1)
        self.delivering.answers["s@example.org"] = {"reason": "later"}
        self.routing.answers["a@b"] = Routed(
            status=LOCAL_PROBLEM, reason="bad string (line 7 of exim.conf)", told="bad string"
        )
        self.submit()
        self.assertIn("bad string (line 7 of exim.conf)", self.events("failed")[0][1])
        text = self.bounce().get_payload()[0].get_payload()
        self.assertIn("bad string: retry timeout exceeded", text)
        self.assertNotIn("line 7", text)


class BounceTests(QueueTestCase):
    def fail(self, recipient: Recipient, **fields: Any) -> None:  # type: ignore[override]
        self.runner = self.make(max_active=1)
        self.delivering.answers[recipient.address] = {**REFUSED, **fields.pop("outcome", {})}
        self.delivering.answers["s@example.org"] = {"reason": "later"}
        self.submit(recipient, **fields)

    def test_form(self) -> None:
        """RFC 3464: text, delivery-status, the message; from the null sender to the sender."""
        self.fail(Recipient("a@b", orcpt="rfc822;A@b"), envid="E1")
        mail = self.bounce()
        self.assertEqual(self.found.sender, "")
        self.assertEqual([r.address for r in self.found.recipients], ["s@example.org"])
        self.assertEqual(mail.get_content_type(), "multipart/report")
        types = [part.get_content_type() for part in mail.get_payload()]
        self.assertEqual(types, ["text/plain", "message/delivery-status", "message/rfc822"])
        head, item = mail.get_payload()[1].get_payload()
        self.assertEqual(head["Original-Envelope-Id"], "E1")
        self.assertEqual(item["Final-Recipient"], "rfc822; a@b")
        self.assertEqual((item["Action"], item["Status"]), ("failed", "5.1.1"))
        self.assertEqual(mail["X-Failed-Recipients"], "a@b")
        self.assertIn("no such user", mail.get_payload()[0].get_payload())

    def with_texts(self, *texts: str, **outcome: Any) -> None:
        async def given(*arguments: Any) -> tuple[str, ...]:
            return texts

        make = self.make

        def made(**settings: Any) -> QueueRunner:
            runner = make(**settings)
            runner.bouncer.texts = given
            return runner

        self.make = made  # type: ignore[method-assign]
        self.fail(Recipient("a@b"), outcome=outcome)

    def test_texts_of_a_file(self) -> None:
        """Header and beginning are the file's; no item ends the header or forges a field."""
        self.with_texts(
            "Subject: gone\nX-A: b\n c\nFrom: evil@x\nContent-Type: text/html\n\nX-No: 1",
            "Hello\n\nWorld\u00c3\u00a4",
        )
        mail = self.bounce()
        self.assertEqual((mail["Subject"], mail["X-A"]), ("gone", "b\r\n c"))
        self.assertEqual(mail.get_content_type(), "multipart/report")
        self.assertEqual(len(mail.get_all("From")), 1)
        text = mail.get_payload()[0]
        self.assertEqual(text.get_content_charset(), "utf-8")
        said = text.get_payload(decode=True).decode()
        self.assertTrue(said.startswith("Hello\r\n\r\nWorld\u00e4\r\n\r\n  a@b\r\n"), said)

    def test_text_before_the_output_of_a_command(self) -> None:
        self.with_texts("", "", "It said:", output="no\n")
        said = self.bounce().get_payload()[0].get_payload()
        self.assertIn("\n\nIt said:\n", said.replace("\r", ""))
        self.assertNotIn("was generated during", said)

    def test_empty_texts_are_the_usual_ones(self) -> None:
        self.with_texts("", "")
        mail = self.bounce()
        self.assertEqual(mail["Subject"], "Mail delivery failed: returning message to sender")
        self.assertIn("permanent error", mail.get_payload()[0].get_payload())

    def test_hidden_address_is_nowhere(self) -> None:
        """hide_child_in_errmsg (22.7): neither its name nor what the next hop said of it."""
        self.runner = self.make(max_active=1)
        said = {"reason": "after RCPT TO:<secret@hop>: 550 <secret@hop> unknown",
                "confirmation": "550 <secret@hop> unknown",
                "host": Host("hop.example", "192.0.2.1")}  # fmt: skip
        self.delivering.answers["secret@hop"] = {**REFUSED, **said}
        self.delivering.answers["s@example.org"] = {"reason": "later"}

        async def route(message: Message, recipient: Recipient) -> Routed:
            top = an_address(recipient)
            if recipient.address != "list@b":
                return Routed((top,))
            child = replace(
                top,
                address="secret@hop",
                local_part="secret",
                domain="hop",
                parent=top,
                hidden=True,
            )
            return Routed((child,))

        self.routing.route = route  # type: ignore[method-assign]
        self.submit("list@b")
        text = self.bounce().as_string()
        self.assertNotIn("secret", text)
        wanted = "an undisclosed address\n    (generated from list@b)\n    host hop.example"
        self.assertIn(wanted, text.replace("\r", ""))

    def test_many_failed_recipients_are_one_message(self) -> None:
        self.runner = self.make(max_active=1)
        names = [f"u{n}@b" for n in range(200)]
        for name in names:
            self.delivering.answers[name] = REFUSED
        self.delivering.answers["s@example.org"] = {"reason": "later"}
        self.submit(*names)
        mail = self.bounce()
        items = mail.get_payload()[1].get_payload()[1:]
        self.assertEqual(
            [item["Final-Recipient"] for item in items], [f"rfc822; {n}" for n in names]
        )

    def test_dsn_fields_are_decoded(self) -> None:
        """RFC 3461 6.3: ENVID and ORCPT come as xtext, and are reported as they were meant."""
        self.fail(Recipient("a@b", orcpt="rfc822;x+2By@b"), envid="q+2B1+3D")
        head, item = self.bounce().get_payload()[1].get_payload()
        self.assertEqual(head["Original-Envelope-Id"], "q+1=")
        self.assertEqual(item["Original-Recipient"], "rfc822;x+y@b")

    def test_next_hop_s_words(self) -> None:
        """Who refused and what was said: in Exim's form, and in fields of RFC 3464."""
        answer = "550-5.1.1 no such user here\\n550 5.1.1 really not"
        said = "SMTP error from remote mail server after RCPT TO:<a@b>: "
        host = Host("mx.b", "192.0.2.9", 25)
        self.fail(
            Recipient("a@b"),
            outcome={"reason": said + answer, "host": host, "confirmation": answer},
        )
        text, status, _ = self.bounce().get_payload()
        self.assertIn(
            "  a@b\r\n    host mx.b [192.0.2.9]\r\n"
            "    SMTP error from remote mail server after RCPT TO:<a@b>:\r\n"
            "    550-5.1.1 no such user here\r\n    550 5.1.1 really not\r\n",
            text.get_payload(),
        )
        item = status.get_payload()[1]
        self.assertEqual(item["Remote-MTA"], "dns; mx.b")
        self.assertEqual(
            item["Diagnostic-Code"],
            "smtp; 550-5.1.1 no such user here\r\n 550 5.1.1 really not",
        )

    def test_body_that_cannot_be_read(self) -> None:
        """The failure is reported once, with the header alone and a remark."""

        class Unreadable:
            inline, size, lines = None, 300_000, 3

            async def chunks(self) -> Any:
                raise TemporaryFailure(reason="Input/output error")
                yield b""

        self.fail(Recipient("a@b"), body=Unreadable())
        text, _, original = self.bounce().get_payload()
        self.assertIn("could not be read", text.get_payload())
        self.assertEqual(original.get_content_type(), "text/rfc822-headers")
        self.assertIn(("panic"), [kind for kind, _ in self.log.events])
        self.advance(600)
        self.assertEqual(self.sent().count("a@b"), 1)

    def test_failure_whose_report_cannot_be_built(self) -> None:
        """It is reported as barely as can be; the panic log says why."""
        self.runner.bouncer.received = lambda report: 1 / 0  # type: ignore[return-value]
        self.delivering.answers.update({"a@b": REFUSED, "s@example.org": {"reason": "later"}})
        self.submit()
        text, status, original = self.bounce().get_payload()
        self.assertIn("a@b", text.get_payload())
        self.assertEqual(status.get_payload()[1]["Action"], "failed")
        self.assertEqual(original.get_content_type(), "text/rfc822-headers")
        self.assertIsInstance(self.log.failures[0], ZeroDivisionError)

    def test_notices_that_cannot_be_built(self) -> None:
        """A success notice or a warning is left out; a delivery is never made again for it."""
        self.reports = None  # type: ignore[assignment]
        self.delivering.answers["c@d"] = {"reason": "later"}
        self.submit(Recipient("a@b", frozenset({"SUCCESS"})))
        self.submit("c@d")
        self.advance(2 * DAY, 900)
        self.assertEqual(self.sent().count("a@b"), 1)
        self.assertEqual(self.done(self.spool.count()), 1)
        self.assertEqual(self.events("received"), [])
        self.assertGreater(len(self.log.failures), 1)

    def test_condition_of_a_warning_that_fails(self) -> None:
        """No warning, and the message is tried as before."""

        async def may_warn(message: Message, domain: str) -> bool:
            raise KeyError

        self.runner.bouncer.may_warn = may_warn
        self.delivering.answers["a@b"] = {"reason": "later"}
        self.submit()
        self.advance(1.5 * DAY, 900)
        self.assertEqual(set(self.sent()), {"a@b"})
        self.assertEqual(len(self.events("panic")), 1)

    def test_name_beyond_ascii(self) -> None:
        """A host's name that is no ASCII is escaped in the report."""
        self.reports = ReportSettings("m\xfcller.example")
        self.fail(Recipient("a@b"))
        status = self.bounce().get_payload()[1].get_payload()[0]
        self.assertEqual(status["Reporting-MTA"], "dns; m\\xfcller.example")

    def test_most_of_a_body_that_is_returned(self) -> None:
        """No limit is a limit, for a report is built in memory; what is beyond is not even read."""
        read: list[int] = []

        class Large:
            inline, size, lines = None, 1 << 40, 0

            async def chunks(self) -> Any:
                while True:
                    read.append(1 << 20)
                    yield b"x" * 70 + b"\r\n" * ((1 << 19) - 35)

        for limit in (0, 1 << 40):
            read.clear()
            self.spool = MemorySpool()
            self.reports = ReportSettings("mx.example", bounce_return_size_limit=limit)
            self.fail(Recipient("a@b"), body=Large())
            self.assertEqual(
                self.bounce().get_payload()[2].get_content_type(), "text/rfc822-headers"
            )
            self.assertEqual(sum(read), 11 << 20)

    def test_ret_hdrs(self) -> None:
        self.fail(Recipient("a@b"), ret="HDRS")
        self.assertEqual(self.bounce().get_payload()[2].get_content_type(), "text/rfc822-headers")

    def test_hostile_answer(self) -> None:
        """What a next hop says cannot add a field, a part or an octet that is no ASCII."""
        text = "no\r\nAction: delivered\n\n--x\r\n\0\xff\x1b[\\n\\n \\nX: y"
        outcome = {"status": Status(550, 1, 1, text), "reason": text, "confirmation": text}
        self.fail(Recipient("a@b"), outcome={**outcome, "host": Host("h\r\nX: y", "::1")})
        mail = self.bounce()
        item = mail.get_payload()[1].get_payload()[1]
        self.assertEqual(item.get_all("Action"), ["failed"])
        self.assertIsNone(item["X"])
        self.assertIn("\\x00\\xff\\x1b[", item["Diagnostic-Code"])
        self.assertEqual(len(mail.get_payload()), 3)

    def test_endless_answer(self) -> None:
        """However much a next hop says, no line is longer than SMTP allows (RFC 5321 4.5.3.1)."""
        answer = "\\n".join(["550-" + "x" * 3000, "550 " + ": y" * 3000])
        outcome = {"reason": f"SMTP error: {answer}", "confirmation": answer}
        self.fail(Recipient("a@b"), outcome=outcome)
        self.bounce()
        body = self.found.body.inline
        assert body is not None
        self.assertLess(max(map(len, body.split(b"\r\n"))), 998)

    def test_notify(self) -> None:
        """No bounce for NOTIFY=NEVER or without FAILURE."""
        for words in ({"NEVER"}, {"SUCCESS"}, {"DELAY"}):
            self.fail(Recipient("a@b", frozenset(words)))
            self.assertEqual(self.done(self.spool.count()), 0)

    def test_success_notice(self) -> None:
        """NOTIFY=SUCCESS gives a notice unless the next hop took it over."""
        for passed_on, count in ((True, 0), (False, 1)):
            self.delivering.answers["a@b"] = {
                "result": Result.DELIVERED, "remote": True, "dsn_passed_on": passed_on,
            }  # fmt: skip
            self.delivering.answers["s@example.org"] = {"reason": "later"}
            self.submit(Recipient("a@b", frozenset({"SUCCESS"})))
            self.assertEqual(self.done(self.spool.count()), count)
        self.assertEqual(self.bounce().get_payload()[1].get_payload()[1]["Action"], "relayed")

    def test_errors_to(self) -> None:
        """errors_to receives the bounce; an empty one stops it."""
        self.delivering.answers["e@f"] = {"reason": "later"}
        self.fail(Recipient("a@b", errors_to="e@f"))
        self.bounce()
        self.assertEqual([r.address for r in self.found.recipients], ["e@f"])
        self.fail(Recipient("a@b", errors_to=""))
        self.assertEqual(self.done(self.spool.count()), 1)

    def test_failed_bounce_is_frozen_then_discarded(self) -> None:
        """A bounce that fails is frozen, never bounced; ignore_bounce_errors_after discards it."""
        self.runner = self.make(ignore_bounce_errors_after=3600.0)
        self.watch()
        self.delivering.answers["a@b"] = REFUSED
        self.submit(sender="")
        self.assertEqual(self.done(self.spool.count()), 1)
        self.advance(3000)
        self.assertEqual(self.sent(), ["a@b"])
        self.advance(3000)
        self.assertEqual(self.sent(), ["a@b", "a@b"])
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_bounces_end(self) -> None:
        """The bounce of a bounce is never made: what fails twice is frozen, with no third mail."""
        self.delivering.answers = {"a@b": REFUSED, "s@example.org": REFUSED}
        self.submit()
        self.advance(7 * DAY, 3600)
        self.assertEqual(self.sent(), ["a@b", "s@example.org"])
        self.assertEqual(self.done(self.spool.count()), 1)
        self.assertIn(("main", "Frozen (delivery error message)"), self.log.events)

    def test_bounce_errors_ignored_at_once(self) -> None:
        """With ignore_bounce_errors_after = 0 a bounce that fails is gone at once."""
        self.runner = self.make(ignore_bounce_errors_after=0.0)
        self.delivering.answers["a@b"] = REFUSED
        self.submit(sender="")
        self.assertEqual(self.done(self.spool.count()), 0)
        self.assertEqual(len(self.events("failed", "completed")), 2)

    def test_auto_thaw(self) -> None:
        """A frozen message is tried when auto_thaw has passed since it was frozen; no bounce is."""
        self.runner = self.make(auto_thaw=7200.0)
        self.watch()
        for sender in ("s@example.org", ""):
            self.submit(sender=sender, frozen_at=self.clock.seconds())
        self.advance(7200 - 60)
        self.assertEqual(self.sent(), [])
        self.advance(1800)
        self.assertEqual(self.sent(), ["a@b"])
        self.assertIn(("main", "Unfrozen by auto-thaw"), self.log.events)
        self.assertEqual(self.done(self.spool.count()), 1)

    def test_timeout_frozen_after(self) -> None:
        """Frozen messages are given up in the end: bounced, or thrown away if they are bounces."""
        self.runner = self.make(timeout_frozen_after=DAY)
        self.watch()
        for sender in ("s@example.org", ""):
            self.submit(sender=sender, frozen_at=self.clock.seconds())
        self.advance(DAY - 900, 900)
        self.assertEqual(self.done(self.spool.count()), 2)
        self.advance(3600, 900)
        self.assertEqual(self.done(self.spool.count()), 0)
        self.assertEqual(self.sent(), ["s@example.org"])

    def test_bounce_and_removal_are_one_write(self) -> None:
        """While the spool cannot be written, neither the bounce nor the removal happens."""
        self.delivering.paused = True
        self.delivering.answers["a@b"] = REFUSED
        message = self.submit()
        self.spool.failure = TemporaryFailure()
        self.delivering.go()
        self.assertEqual(self.done(self.spool.count()), 1)
        self.assertIsNotNone(self.done(self.spool.load(message.id)))


class CommandTests(QueueTestCase):
    def test_locked_while_active(self) -> None:
        self.delivering.paused = True
        message = self.submit()
        removal = Deferred.fromCoroutine(self.operator.remove(message.id))
        self.failureResultOf(removal, Locked)

    def test_freeze_thaw_remove(self) -> None:
        self.delivering.answers["a@b"] = {"reason": "later"}
        message = self.submit()
        self.assertTrue(self.done(self.operator.freeze(message.id)))
        self.advance(1800)
        self.assertEqual(len(self.sent()), 1)
        self.assertTrue(self.done(self.operator.thaw(message.id)))
        self.advance(1800)
        self.assertGreater(len(self.sent()), 1)
        self.assertTrue(self.done(self.operator.remove(message.id)))
        self.assertFalse(self.done(self.operator.remove(message.id)))

    def test_run_now(self) -> None:
        """-q respects retry times, -qf does not, -qff takes frozen messages too."""
        self.delivering.answers["a@b"] = {"reason": "later"}
        message = self.submit()
        self.clock.advance(100)
        for force, frozen, attempts in ((False, False, 1), (True, False, 2), (True, True, 4)):
            self.done(self.runner.run_now(force=force, frozen=frozen))
            if not frozen:
                self.assertEqual(len(self.sent()), attempts)
        self.done(self.operator.freeze(message.id))
        self.done(self.runner.run_now(force=True))
        self.assertEqual(len(self.sent()), 3)
        self.done(self.runner.run_now([message.id], force=True, frozen=True))
        self.assertEqual(len(self.sent()), 4)
        self.assertIn("later", self.done(self.spool.history(message.id)))

    def test_frozen_by_a_router(self) -> None:
        """A recipient that a router freezes freezes the message; others are delivered."""
        self.routing.answers["a@b"] = Routed(frozen=True, reason="wait")
        message = self.submit("a@b", "c@d")
        left = self.done(self.spool.load(message.id))
        self.assertEqual([r.address for r in left.recipients], ["a@b"])
        self.assertTrue(left.frozen_at)
        self.assertEqual(self.sent(), ["c@d"])

    def test_give_up(self) -> None:
        """-Mg bounces the message."""
        self.delivering.answers["a@b"] = {"reason": "later"}
        self.delivering.answers["s@example.org"] = {"reason": "later"}
        message = self.submit()
        self.done(self.operator.give_up(message.id))
        self.assertEqual(self.sent(), ["a@b", "s@example.org"])

    def test_client_that_goes_away(self) -> None:
        """What it asked for is done whole: no attempt begins while the spool is still writing."""
        for change in (self.operator.give_up, self.operator.remove, self.operator.freeze):
            self.delivering.answers["s@example.org"] = {"reason": "later"}
            message = self.message()
            self.done(self.spool.store(message, self.clock.seconds()))
            gate: Deferred[None] = Deferred()

            def slowly(write: Any, gate: Deferred[None] = gate) -> Any:
                async def written(*arguments: Any, **named: Any) -> None:
                    await gate
                    await write(*arguments, **named)

                return written

            with (
                mock.patch.object(self.spool, "remove", slowly(self.spool.remove)),
                mock.patch.object(self.spool, "update", slowly(self.spool.update)),
            ):
                asked = Deferred.fromCoroutine(change(message.id))
                asked.cancel()
                self.failureResultOf(asked, CancelledError)
                self.failureResultOf(Deferred.fromCoroutine(self.operator.thaw(message.id)), Locked)
                self.done(self.runner.run_now([message.id], force=True))
                self.clock.advance(1)
                gate.callback(None)
            self.clock.advance(1)
            self.assertNotIn("a@b", self.sent())
            self.assertEqual(self.log.failures, [])
        self.assertEqual(len(self.events("completed")), 2)

    def test_claim_is_kept_until_the_write_has_ended(self) -> None:
        """The end of the process waits for it, too."""
        message = self.message()
        self.done(self.spool.store(message, self.clock.seconds()))
        gate: Deferred[None] = Deferred()

        async def remove(id: str) -> None:
            await gate

        with mock.patch.object(self.spool, "remove", remove):
            Deferred.fromCoroutine(self.operator.remove(message.id)).addErrback(
                lambda f: None
            ).cancel()
            stopped = Deferred.fromCoroutine(self.runner.stop(10))
            self.assertNoResult(stopped)
            gate.callback(None)
            self.successResultOf(stopped)

    def test_all_at_once(self) -> None:
        """What is asked for all messages, or for all frozen ones, costs each a constant time."""
        looked: list[int] = []
        listing = self.spool.listing
        self.spool.listing = lambda: looked.append(1) or listing()  # type: ignore[method-assign]
        self.runner = self.make(auto_thaw=60.0, max_active=1)
        for _ in range(50):
            frozen = self.message(frozen_at=self.clock.seconds())
            self.done(self.spool.store(frozen, self.clock.seconds()))
        self.clock.advance(100)
        self.watch()
        self.clock.advance(CHECK)
        self.assertEqual(len(looked), 1)
        self.assertEqual(len(self.sent()), 50)

    def test_quarantined(self) -> None:
        """A message that cannot be read is attempted by no command, and can be removed."""
        message = self.message()
        self.done(self.spool.store(message, self.clock.seconds() + DAY))
        listing = self.spool.listing

        async def quarantined() -> Any:
            async for entry in listing():
                yield replace(entry, quarantined=True)

        async def nothing(id: str) -> None:
            return None

        with (
            mock.patch.object(self.spool, "listing", quarantined),
            mock.patch.object(self.spool, "load", nothing),
        ):
            self.assertEqual(self.done(self.runner.run_now(force=True, frozen=True)), 0)
            self.assertTrue(self.done(self.operator.remove(message.id)))
            self.assertFalse(self.done(self.operator.remove(message.id)))
        self.assertEqual(self.done(self.spool.count()), 0)
        self.assertEqual(self.log.events, [("main", "removed by administrator")])

    def test_asked_for_twice(self) -> None:
        """A message that waits for room is attempted once, in the order of the first request."""
        self.runner = self.make(max_active=0)
        messages = [self.submit(f"{name}@b") for name in "abc"]
        self.done(self.runner.run_now([messages[0].id], force=True))
        self.done(self.runner.run_now(force=True))
        self.assertEqual(list(self.runner._asked), [message.id for message in messages])

    def test_clock_that_was_ahead(self) -> None:
        """What a wrong clock planned for a far future is due when the clock is right again."""
        ahead = self.clock.seconds() + 365 * DAY
        message = self.message(received_at=ahead)
        self.done(self.spool.store(message, ahead))
        host = Host("h", "192.0.2.1", 25)
        for key in ("T:h:192.0.2.1:25", "R:a@b:s@example.org"):
            self.hints.set_retry(key, RetryHint(ahead, ahead, ahead + DAY))
        self.assertTrue(self.runner.schedule.may_try(message, host))
        self.delivering.answers["a@b"] = {"reason": "later"}
        self.runner.start()
        self.clock.advance(1)
        self.assertEqual(self.sent(), ["a@b"])
        self.advance(3600)
        self.assertEqual(len(self.sent()), 5)

    def test_clock_that_is_set_back_meanwhile(self) -> None:
        """The timer does not wait for a time that the clock will not see."""
        self.delivering.answers["a@b"] = {"reason": "later"}
        self.runner.start()
        self.clock.rightNow += 365 * DAY
        self.submit()
        self.clock.rightNow -= 365 * DAY
        for call in self.clock.getDelayedCalls():
            call.reset(3600)
        self.advance(3600)
        self.assertEqual(len(self.sent()), 2)

    def test_queue_only(self) -> None:
        """A message that is only queued waits for its next attempt's time."""
        message = replace(self.message(), queue_only=True)
        self.done(self.spool.store(message, self.runner.first_attempt(message)))
        self.runner.submit(message)
        self.clock.advance(0)
        self.advance(1740)
        self.assertEqual(self.sent(), [])
        self.advance(60)
        self.assertEqual(self.sent(), ["a@b"])

    def test_held_domains(self) -> None:
        """An address whose domain is held is not even routed, except by force."""

        async def holds(domain: str) -> bool:
            return domain == "b"

        self.runner = self.make(holds=holds)
        message = self.submit("a@B", "c@d")
        self.assertEqual(self.routing.asked, ["c@d"])
        self.advance(7200)
        self.assertEqual(self.sent(), ["c@d"])
        self.assertIn(("deferred", "a@B domain is held"), self.log.events)
        self.done(self.runner.run_now([message.id], force=True))
        self.assertEqual(self.sent(), ["c@d", "a@B"])

    def test_queue_domains(self) -> None:
        """An address whose domain is in queue_domains waits for the second attempt."""

        async def later(domain: str) -> bool:
            return domain == "b"

        self.runner = self.make(later=later)
        self.submit("a@b", "c@d")
        self.assertEqual(self.sent(), ["c@d"])
        self.advance(1800)
        self.assertEqual(self.sent(), ["c@d", "a@b"])


class FreezeTellTests(QueueTestCase):
    """freeze_tell: one message for a message that is frozen, none for our own bounces."""

    def setUp(self) -> None:
        super().setUp()
        self.runner.bouncer.freeze_tell = ("root@mx.example", "ops@mx.example")

    def told(self) -> int:
        return sum(a in ("root@mx.example", "ops@mx.example") for a in self.sent())

    def test_frozen_by_a_router(self) -> None:
        for name in ("a@b", "c@b"):
            self.routing.answers[name] = Routed(
                status=Status(451, 3, 0, "x"), reason="odd", frozen=True
            )
        self.submit("a@b", "c@b")
        self.advance(60)
        self.assertEqual(self.told(), 2)
        self.assertEqual(self.done(self.spool.count()), 1)

    def test_frozen_by_an_acl(self) -> None:
        self.submit("a@b", frozen_at=self.clock.seconds())
        self.advance(60)
        self.assertEqual(self.sent(), ["root@mx.example", "ops@mx.example"])
        self.submit("a@b", frozen_at=self.clock.seconds(), no_tell=True)
        self.advance(60)
        self.assertEqual(self.told(), 2)

    def test_bounces(self) -> None:
        """Our own tell nobody; those that came from elsewhere do."""
        self.delivering.answers["a@b"] = REFUSED
        self.submit("a@b", sender="")
        self.advance(60)
        self.assertEqual(self.told(), 0)
        self.submit("a@b", sender="", origin=Origin(host_address="192.0.2.1"))
        self.advance(60)
        self.assertEqual(self.told(), 2)

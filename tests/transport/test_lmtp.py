"""The lmtp transport against next hops that behave and that do not."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import ConfigError
from mailsrv.mail.routed import Result
from mailsrv.transport.connection import HopFailure
from mailsrv.transport.transports.lmtp import Lmtp
from tests.doubles.nexthop import CLOSE, HANG, NextHop
from tests.transport.helpers import World, make, message, routed

SOCKET = "/run/lmtp"


def world(hop: NextHop | None = None, **options: str) -> World:
    transport = make(Lmtp, socket=SOCKET, **{"batch_max": "50", **options})
    return World(transport, hop=hop or NextHop(lmtp=True))


class Delivery(SynchronousTestCase):
    def test_fifty_recipients_travel_in_one_transaction(self) -> None:
        w = world()
        results = w.results(message(), *(routed(f"u{i}@e") for i in range(50)))
        self.assertEqual(results, [Result.DELIVERED] * 50)
        self.assertEqual(len(w.hop.messages), 1)
        self.assertEqual(len(w.hop.messages[0].recipients), 50)
        self.assertEqual(w.batches, [50])

    def test_batch_max_bounds_a_transaction(self) -> None:
        w = world(batch_max="3")
        w.deliver(message(), *(routed(f"u{i}@e") for i in range(7)))
        self.assertEqual(sorted(len(m.recipients) for m in w.hop.messages), [1, 3, 3])

    def test_batch_max_is_one_by_default(self) -> None:
        w = World(make(Lmtp, socket=SOCKET), hop=NextHop(lmtp=True))
        w.deliver(message(), routed("a@e"), routed("b@e"))
        self.assertEqual(len(w.hop.messages), 2)

    def test_each_recipient_has_its_own_result(self) -> None:
        def final(recipient: str) -> bytes:
            return {"a@e": b"250 ok\r\n", "b@e": b"552 5.2.2 full\r\n"}.get(
                recipient, b"452 4.2.2 full\r\n"
            )

        w = world(NextHop(lmtp=True, final=final))
        outcomes = w.deliver(message(), routed("a@e"), routed("b@e"), routed("c@e"))
        found = {o.address.address: (o.result, o.error, o.more_errno) for o in outcomes}
        self.assertEqual(found["a@e"], (Result.DELIVERED, "*", ""))
        self.assertEqual(found["b@e"], (Result.FAILED, "*", ""))
        self.assertEqual(found["c@e"], (Result.DEFERRED, "data_4xx", "452"))
        failed = next(o for o in outcomes if o.result is Result.FAILED)
        assert failed.status is not None
        self.assertEqual(failed.status.enhanced, "5.2.2")
        self.assertEqual(failed.reason, "LMTP error after end of data: 552 5.2.2 full")

    def test_those_already_answered_are_delivered_when_the_connection_breaks(self) -> None:
        def final(recipient: str) -> bytes | str:
            return b"250 ok\r\n" if recipient == "a@e" else CLOSE

        w = world(NextHop(lmtp=True, final=final))
        outcomes = w.deliver(message(), routed("a@e"), routed("b@e"))
        self.assertEqual(
            {o.address.address: o.result for o in outcomes},
            {"a@e": Result.DELIVERED, "b@e": Result.DEFERRED},
        )

    def test_connection_is_kept_for_the_next_message(self) -> None:
        w = world()
        w.deliver(message(), routed("a@e"))
        w.deliver(message(), routed("b@e"))
        self.assertEqual(len(w.hop.connections), 1)
        self.assertEqual(len(w.hop.messages), 2)
        w.clock.advance(11)
        self.assertFalse(w.hop.connections[0].open)
        self.assertIn("QUIT", w.hop.connections[0].commands)

    def test_nothing_further_on_a_connection_before_its_outcome_is_recorded(self) -> None:
        w = world()
        w.hold = Deferred()
        first = w.start(message(), routed("a@e"))
        second = w.start(message(), routed("b@e"))
        self.assertEqual([len(c.commands) for c in w.hop.connections], [4, 4])
        w.hold.callback(None)
        self.successResultOf(first)
        self.successResultOf(second)
        w.hold = None
        w.deliver(message(), routed("c@e"))
        self.assertEqual(len(w.hop.connections), 2)

    def test_kept_connection_that_died_is_replaced(self) -> None:
        for how in ("close", "421"):
            w = world()
            w.deliver(message(), routed("a@e"))
            if how == "close":
                w.hop.connections[0].lose()
            else:
                w.hop.connections[0].say(b"421 idle\r\n")
            self.assertEqual(w.results(message(), routed("b@e")), [Result.DELIVERED])
            self.assertEqual(len(w.hop.connections), 2)

    def test_kept_connection_that_answers_mail_with_421_or_closes_is_replaced(self) -> None:
        for answer in (b"421 bye\r\n", CLOSE):
            w = world()
            w.deliver(message(), routed("a@e"))
            hop, first = w.hop, w.hop.connections[0]
            calls: list[str] = []

            def once(
                argument: str, answer: bytes | str = answer, calls: list[str] = calls
            ) -> bytes | str:
                calls.append(argument)
                return answer if len(calls) == 1 else b"250 ok\r\n"

            hop.script["mail"] = once
            self.assertEqual(w.results(message(), routed("b@e")), [Result.DELIVERED])
            self.assertFalse(first.open)
            self.assertEqual(len(hop.messages), 2)

    def test_message_is_not_sent_twice_when_the_answer_is_lost(self) -> None:
        w = world()
        w.deliver(message(), routed("a@e"))
        w.hop.script["final"] = CLOSE
        self.assertEqual(w.results(message(), routed("b@e")), [Result.DEFERRED])
        self.assertEqual(len(w.hop.messages), 2)

    def test_at_most_ten_deliveries_to_a_user_at_a_time(self) -> None:
        w = world(NextHop(lmtp=True, final=HANG))
        runs = [w.start(message(id=f"m{number}"), routed("a@e")) for number in range(15)]
        self.assertEqual(len(w.hop.connections), 10)
        w.hop.connections[0].lose()
        self.assertEqual(len(w.hop.connections), 11)
        for run in reversed(runs):
            run.addErrback(lambda _: None)
            run.cancel()

    def test_duplicates_are_delivered_once_and_both_settled(self) -> None:
        w = world()
        self.assertEqual(w.results(message(), routed("a@e"), routed("a@e")), [Result.DELIVERED] * 2)
        self.assertEqual(w.hop.messages[0].recipients, ["a@e"])

    def test_unexpected_exception_defers_and_is_logged(self) -> None:
        w = world()

        async def broken(*args: object) -> None:
            raise ZeroDivisionError

        w.hop.connect = broken  # type: ignore[method-assign,assignment]
        self.assertEqual(w.results(message(), routed("a@e")), [Result.DEFERRED])
        self.assertIsInstance(w.log.failures[0], ZeroDivisionError)

    def test_failing_record_closes_the_connection_and_settles_nothing_twice(self) -> None:
        w = world()

        async def full(outcomes: object) -> None:
            raise OSError("disk full")

        w.record = full  # type: ignore[method-assign,assignment]
        w.deliver(message(), routed("a@e"))
        self.assertFalse(w.hop.connections[0].open)
        self.assertEqual(len(w.log.failures), 1)

    def test_cancelling_a_delivery_aborts_its_connection(self) -> None:
        w = world(NextHop(lmtp=True, final=HANG))
        run = w.start(message(), routed("a@e"))
        run.addErrback(lambda _: None)
        run.cancel()
        self.assertTrue(w.hop.connections[0].aborted)
        self.assertEqual(w.outcomes, [])

    def test_socket_must_be_set(self) -> None:
        with self.assertRaises(ConfigError):
            make(Lmtp)


POINTS = ["greeting", "hello", "mail", "rcpt", "data", "final"]
GARBAGE = [
    b"999 x\r\n",
    b"250 a\0\r\n",
    b"250 x\n",
    b"x" * 100_000,
    b"250-a\r\n" * 1000,
    b"\xff\r\n",
]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("answer", [b"450 4.2.0 no\r\n", b"421 bye\r\n", CLOSE, *GARBAGE])
def test_trouble_at_any_point_defers_and_the_next_message_goes_through(
    point: str, answer: bytes | str
) -> None:
    w = world(NextHop(lmtp=True, **{point: answer}))
    mail = message()
    (outcome,) = w.deliver(mail, routed("a@e"))
    assert outcome.result is Result.DEFERRED
    assert outcome.reason and "\n" not in outcome.reason and "\0" not in outcome.reason
    assert not w.log.failures
    w.hop.script.clear()
    assert w.results(mail, routed("a@e")) == [Result.DELIVERED]


@pytest.mark.parametrize("point", POINTS)
def test_refusal_at_any_point_fails(point: str) -> None:
    w = world(NextHop(lmtp=True, **{point: b"550 5.1.1 no\r\n"}))
    (outcome,) = w.deliver(message(), routed("a@e"))
    assert outcome.result is Result.FAILED
    assert outcome.status is not None and outcome.status.enhanced == "5.1.1"


@pytest.mark.parametrize("point", POINTS)
def test_hanging_at_any_point_defers_after_the_timeout(point: str) -> None:
    w = world(NextHop(lmtp=True, **{point: HANG}))
    w.start(message(), routed("a@e"))
    w.clock.advance(299)
    assert not w.outcomes
    w.clock.advance(1)
    assert [o.result for o in w.outcomes] == [Result.DEFERRED]
    assert w.outcomes[0].error == "timeout"
    assert w.hop.connections[0].aborted
    assert not w.clock.getDelayedCalls()


def test_refused_connection_names_the_socket() -> None:
    w = world()
    w.hop.refuse[SOCKET] = HopFailure("Connection refused", "refused")
    (outcome,) = w.deliver(message(), routed("a@e"))
    assert outcome.result is Result.DEFERRED
    assert outcome.error == "refused"
    assert outcome.reason == (
        "Failed to connect to socket /run/lmtp for t transport: Connection refused"
    )


def test_two_replies_at_once_before_they_are_due_are_a_lie() -> None:
    w = world(NextHop(lmtp=True, data=b"354 go\r\n250 thanks\r\n"))
    assert w.results(message(), routed("a@e")) == [Result.DEFERRED]
    assert not w.hop.messages


@pytest.mark.parametrize("point", POINTS)
def test_cancelled_at_any_point_gives_no_outcome(point: str) -> None:
    """A server that ends cuts its deliveries: connections are gone, nothing is recorded."""
    w = world(NextHop(lmtp=True, **{point: HANG}))
    run = w.start(message(), routed("a@e"), routed("b@e"))
    failures: list[object] = []
    run.addErrback(lambda failure: failures.append(failure.type))
    run.cancel()
    assert failures == [CancelledError]
    assert w.outcomes == []
    assert all(connection.aborted for connection in w.hop.connections)
    Deferred.fromCoroutine(w.delivering.close())
    assert w.clock.getDelayedCalls() == []

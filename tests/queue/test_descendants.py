"""Recipients that became other addresses: some delivered, some failed, each settled once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mailsrv.interfaces import QueueEntry, Routed, Unrouted
from mailsrv.mail.message import Recipient
from mailsrv.mail.parts import part_key
from mailsrv.mail.routed import Result, RoutedAddress
from mailsrv.mail.status import Status
from tests.doubles.routing import an_address
from tests.queue.test_runner import QueueTestCase

GONE = Status(550, 1, 1, "gone")
LATER = Status(451, 3, 0, "later")


def child(recipient: Recipient, address: str, **fields: Any) -> RoutedAddress:
    return an_address(recipient, address, **{"parent": an_address(recipient), **fields})


def unrouted(recipient: Recipient, address: str, status: Status = GONE) -> Unrouted:
    return Unrouted(child(recipient, address, transport="", router="r"), status, status.text)


class DescendantTests(QueueTestCase):
    def becomes(self, name: str, answer: Callable[[Recipient], Routed]) -> None:
        self.routing.answers[name] = answer

    def test_good_and_failing_children(self) -> None:
        """One bounce for what failed, one delivery for what did not, also over several attempts."""
        self.becomes(
            "list@b",
            lambda r: Routed(
                (child(r, "x@c"), child(r, "y@c")), unrouted=(unrouted(r, "nobody@b"),)
            ),
        )
        self.delivering.answers["y@c"] = {"reason": "later"}
        self.submit("list@b")
        self.assertEqual(self.sent(), ["x@c", "y@c", "s@example.org"])
        self.advance(3600)
        self.assertGreater(self.sent().count("y@c"), 2)
        self.delivering.answers.clear()
        self.advance(3600)
        self.assertEqual(self.sent().count("x@c"), 1)
        self.assertEqual(self.sent().count("s@example.org"), 1)
        self.assertEqual(len(self.events("failed")), 1)
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_a_listing_has_what_was_made_and_delivered(self) -> None:
        """``-bpa``: files with their parent, as in Exim; recipients are not among them."""
        self.becomes(
            "list@b",
            lambda r: Routed(
                (
                    child(r, "x@C"),
                    child(r, "y@c"),
                    child(r, "/a:b/box", place=True),
                    child(r, "plain@d"),
                )
            ),
        )
        self.delivering.answers["y@c"] = {"reason": "later"}
        self.submit("list@b", "plain@D")

        async def entries() -> list[QueueEntry]:
            return [entry async for entry in self.spool.listing()]

        (entry,) = self.done(entries())
        self.assertEqual((entry.recipients, entry.delivered), (("list@b",), ("plain@D",)))
        self.assertEqual(entry.made, ("/a:b/box:list@b", "x@c"))

    def test_a_child_that_cannot_be_routed_now(self) -> None:
        """Its siblings are delivered; it is tried again, ever more seldom, and given up."""
        state = [LATER]

        def answer(r: Recipient) -> Routed:
            failing = (unrouted(r, "z@c", state[0]),) if state else ()
            return Routed(
                (child(r, "x@c"), *(() if state else (child(r, "z@c"),))), unrouted=failing
            )

        self.becomes("list@b", answer)
        self.submit("list@b")
        self.advance(2 * 3600)
        asked = self.routing.asked.count("list@b")
        self.assertIn(asked, range(6, 11))
        state.clear()
        self.advance(2 * 3600)
        self.assertEqual(self.sent(), ["x@c", "z@c"])
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_a_child_is_given_up_at_last(self) -> None:
        self.becomes(
            "list@b", lambda r: Routed((child(r, "x@c"),), unrouted=(unrouted(r, "z@c", LATER),))
        )
        self.submit("list@b")
        self.advance(6 * 86400.0, 600.0)
        self.assertEqual(self.sent(), ["x@c"] + 4 * ["s@example.org"])  # three warnings, one bounce
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_an_address_that_fails_and_has_children(self) -> None:
        """``joe, :fail: gone``: joe has it, and the sender hears of it, once."""
        self.becomes("x@b", lambda r: Routed((child(r, "joe@c"),), GONE, "gone", "r"))
        self.delivering.answers["joe@c"] = {"reason": "later"}
        self.submit("x@b")
        self.advance(1200)
        self.delivering.answers.clear()
        self.advance(3600)
        self.assertEqual(self.sent().count("s@example.org"), 1)
        self.assertEqual(self.done(self.spool.count()), 0)
        self.assertEqual(len(self.events("delivered")), 2)

    def test_what_needs_no_delivery(self) -> None:
        """:blackhole: and /dev/null are logged, done, and not done again."""

        def answer(r: Recipient) -> Routed:
            hole = child(r, ":blackhole:", place=True, transport="")
            return Routed((child(r, "x@c"),), discarded=(hole,))

        self.becomes("x@b", answer)
        self.delivering.answers["x@c"] = {"reason": "later"}
        self.submit("x@b")
        self.advance(1800)
        self.assertEqual(len([e for e in self.events("delivered") if "blackhole" in str(e)]), 1)
        self.becomes("y@b", lambda r: Routed(discarded=answer(r).discarded))
        self.submit("y@b")
        self.assertEqual(self.done(self.spool.count()), 1)

    def test_one_time(self) -> None:
        """What cannot be delivered at once is a recipient of its own from then on (22.10)."""
        self.becomes(
            "list@b",
            lambda r: Routed(
                (child(r, "x@c", one_time=True), child(r, "y@c", one_time=True, errors_to="o@b"))
            ),
        )
        self.delivering.answers["y@c"] = {"reason": "later"}
        message = self.submit("list@b")
        kept = self.done(self.spool.load(message.id))
        assert kept is not None
        self.assertEqual(kept.recipients, (Recipient("y@c", errors_to="o@b", parent="list@b"),))
        self.becomes("list@b", lambda r: Routed((child(r, "new@c"),)))
        self.delivering.answers["y@c"] = {"result": Result.FAILED, "reason": "no", "status": GONE}
        self.advance(3600)
        self.assertEqual(self.sent(), ["x@c", "y@c", "y@c", "o@b"])
        self.assertEqual(self.done(self.spool.count()), 0)

    def test_one_time_beside_a_recipient_of_that_name(self) -> None:
        """An address that is a recipient already is not added; the list stays as it is."""
        self.becomes("list@b", lambda r: Routed((child(r, "y@c", one_time=True),)))
        self.becomes("y@c", lambda r: Routed((an_address(r, router="other"),)))
        self.delivering.answers["y@c"] = {"reason": "later"}
        message = self.submit("list@b", "y@c")
        kept = self.done(self.spool.load(message.id))
        assert kept is not None
        self.assertEqual([r.address for r in kept.recipients], ["list@b", "y@c"])

    def test_keys_of_places(self) -> None:
        """Pipes of different parents are different deliveries; so are files whose case differs."""
        one, two = Recipient("a@b"), Recipient("c@b")
        pipe = child(one, "|/bin/x", place=True)
        self.assertNotEqual(part_key(pipe), part_key(child(two, "|/bin/x", place=True)))
        files = [child(one, f"/m/{name}", place=True) for name in ("x@A", "x@a")]
        self.assertNotEqual(*map(part_key, files))
        self.assertEqual(part_key(pipe), part_key(replace(pipe)))

    def test_frozen_by_a_command(self) -> None:
        """A command that cannot be run may freeze the message (freeze_exec_fail)."""
        self.delivering.answers["a@b"] = {"reason": "cannot exec", "frozen": True}
        message = self.submit("a@b")
        kept = self.done(self.spool.load(message.id))
        assert kept is not None
        self.assertTrue(kept.frozen_at)

"""Tests of mailsrv.mail.fixups."""

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.mail import fixups
from mailsrv.mail.header import Header
from mailsrv.mail.message import Submission


def texts(headers: list[Header]) -> list[str]:
    return [header.text for header in headers]


class HeaderTests(SynchronousTestCase):
    def test_split(self) -> None:
        headers, rest = fixups.split_header("A: b\n c\nB : d\nno field\nC: d")
        self.assertEqual((texts(headers), rest), (["A: b\n c", "B : d"], "no field\nC: d"))

    def test_added(self) -> None:
        """Lines are added at their positions; several at one place stand in reverse order."""
        headers = [Header("Received: 1"), Header("Received: 2"), Header("To: a")]
        added = fixups.with_added(
            headers, [":at_start:X: 1", ":after_received:Y: 1\nY: 2", "Z: 1", "Z: 1", "junk"]
        )
        self.assertEqual(
            texts(added),
            ["X: 1", "Received: 1", "Received: 2", "Y: 2", "Y: 1", "To: a", "Z: 1",
             "X-ACL-Warn: junk"],
        )  # fmt: skip

    def test_removed(self) -> None:
        headers = [Header("A: 1"), Header("B: 1"), Header("a: 2")]
        self.assertEqual(texts(fixups.without(headers, ["a : x"])), ["B: 1"])


class SubmissionTests(SynchronousTestCase):
    def submit(self, headers: list[str], sender: str, submission: Submission) -> tuple:
        found, sender = fixups.submitted(
            [Header(text) for text in headers], sender, submission, id="1abc", when=0,
            authenticated_id="joe", qualify_domain="q.example", primary_hostname="mx.example",
        )  # fmt: skip
        return {h.name: h.value.strip() for h in found}, sender

    def test_sender_is_forced(self) -> None:
        found, sender = self.submit(
            ["From: ceo@x", "Sender: y@z", "Date: d"], "ceo@x", Submission(name='J "o')
        )
        self.assertEqual(found["Sender"], '"J \\"o" <joe@q.example>')
        self.assertEqual(found["Message-ID"], "<E1abc@mx.example>")
        self.assertEqual((sender, found["Date"]), ("joe@q.example", "d"))

    def test_matching_from(self) -> None:
        found, sender = self.submit(["From: J <Joe@q.example>"], "a@b", Submission())
        self.assertNotIn("Sender", found)
        self.assertEqual(sender, "a@b")

    def test_retained(self) -> None:
        found, sender = self.submit(["Sender: y@z"], "a@b", Submission(sender_retain=True))
        self.assertEqual((found["Sender"], found["From"], sender), ("y@z", "a@b", "a@b"))

    def test_null_sender(self) -> None:
        found, sender = self.submit(["From: x@y"], "", Submission(domain="d.example"))
        self.assertEqual((found["Sender"], sender), ("joe@d.example", ""))

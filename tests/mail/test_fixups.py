"""Tests of mailsrv.mail.fixups."""

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.mail import fixups
from mailsrv.mail.header import Header


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

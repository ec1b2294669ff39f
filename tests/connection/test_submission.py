"""Tests of mailsrv.connection.submission; the expected texts are what Exim 4.96 made."""

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.connection.submission import Submitter, message_id, qualified, submitted
from mailsrv.mail.header import Header
from mailsrv.mail.message import Submission

DATE = "Date: Thu, 01 Jan 1970"


def mend(
    headers: list[str],
    sender: str = "a@b.c",
    submission: Submission | None = None,
    who: str = "joe",
) -> tuple[list[str], str]:
    """Submit, as ``joe`` if authenticated; a date of ours is cut to its day."""
    found, sender = submitted(
        [Header(text) for text in headers],
        sender,
        submission or Submission(),
        Submitter(who, "example.com", "<id@x>", "pre-*:*=", "-suf : +*"),
        43200,
    )
    return [header.text.partition(" 1970")[0] for header in found], sender


class SubmittedTests(SynchronousTestCase):
    def test_all_is_missing(self) -> None:
        self.assertEqual(
            mend(["Subject: x"]),
            (
                [
                    "Subject: x",
                    "Message-Id: <id@x>",
                    "From: a@b.c",
                    "Sender: joe@example.com",
                    "Date: Thu, 01 Jan",
                ],
                "joe@example.com",
            ),
        )

    def test_senders(self) -> None:
        """From: of another author gets a Sender:, the envelope's sender is forced in any case."""
        head = ["Date: d", "Message-ID: m"]
        for field, submission, sender in (
            ("From: x@y", None, "joe@example.com"),
            ("From: x@y, joe@example.com", None, "joe@example.com"),
            ('From: "joe@example.com," <x@y>', None, "joe@example.com"),
            ("From: joe@example.com (x), <x@y>", None, "joe@example.com"),
            ("From: x@y", Submission(domain="d.example"), "joe@d.example"),
            ("From: x@y", Submission(domain=""), "joe"),
        ):
            self.assertEqual(
                mend([*head, field, "Sender: q@r"], submission=submission),
                ([*head, field, f"Sender: {sender}"], sender),
            )
        for field in (
            "From: Joe <Joe@example.com>",
            "From: joe-suf@example.com",
            "From: joe+tag@example.com",
            "From: any=joe@example.com",
        ):
            self.assertEqual(mend([*head, field]), ([*head, field], "joe@example.com"))

    def test_null_sender(self) -> None:
        """A bounce of a client stays one."""
        found, sender = mend(["X: y"], sender="")
        self.assertEqual((found[2], sender), ("From: joe@example.com", ""))

    def test_not_authenticated(self) -> None:
        """Sender: is removed, and nobody's address stands in for it."""
        self.assertEqual(
            mend(["From: x@y", "Sender: q@r", "Date: d", "Message-Id: m"], who=""),
            (["From: x@y", "Date: d", "Message-Id: m"], "a@b.c"),
        )

    def test_retained(self) -> None:
        submission = Submission(sender_retain=True)
        self.assertEqual(
            mend(["Sender: q@r", "From: x@y", "Date: d"], submission=submission),
            (["Sender: q@r", "From: x@y", "Date: d", "Message-Id: <id@x>"], "a@b.c"),
        )

    def test_resent(self) -> None:
        self.assertEqual(
            mend(["From: x@y", "Resent-To: z"]),
            (
                [
                    "Resent-Date: Thu, 01 Jan",
                    "Resent-Message-Id: <id@x>",
                    "From: x@y",
                    "Resent-To: z",
                    "Resent-From: a@b.c",
                    "Resent-Sender: joe@example.com",
                ],
                "joe@example.com",
            ),
        )

    def test_name_is_quoted(self) -> None:
        found, _ = mend(["From: x@y"], submission=Submission(name='J "o\nBcc: x'))
        self.assertIn('Sender: "J \\"o Bcc: x" <joe@example.com>', found)

    def test_message_id(self) -> None:
        self.assertEqual(
            message_id("1xVG7N-0004lj-0j", "foo_bar.com", "t 20:1>"),
            "<E1xVG7N-0004lj-0j.t-20-1-@foo-bar.com>",
        )


class QualifiedTests(SynchronousTestCase):
    def qualify(self, text: str) -> str:
        (header,) = qualified([Header(text)], "s.example", "r.example")
        return header.text

    def test_addresses(self) -> None:
        for text, wanted in (
            (
                "From: a, b@c, Foo <d>,\n (x) e",
                "From: a@s.example, b@c, Foo <d@s.example>,\n (x) e@s.example",
            ),
            ("To: u, Grp: v, w@x;", "To: u@r.example, Grp: v@r.example, w@x;"),
            ("Resent-Bcc: p", "Resent-Bcc: p@r.example"),
            ('Reply-To: "a@b"', 'Reply-To: "a@b"@s.example'),
            ("Subject: a", "Subject: a"),
            ("To: undisclosed-recipients:;", "To: undisclosed-recipients:;"),
            ("To: <>", "To: <>"),
            ("To: two words", "To: two words"),
            ("To:", "To:"),
        ):
            self.assertEqual(self.qualify(text), wanted)

    def test_what_cannot_be_understood_stays(self) -> None:
        for text in ('To: "a', "To: (a", "To: <a", "To: a>"):
            self.assertEqual(self.qualify(text), text)

    def test_long_and_nasty(self) -> None:
        """A field of a megabyte is read in one pass."""
        for piece in ('"\\', '"', "[", "<", "(", "x "):
            text = "To: " + piece * 300_000
            self.assertEqual(self.qualify(text), text)
        colons = "To: " + "a " * 100_000 + "@" + ":" * 100_000
        self.assertEqual(self.qualify(colons), colons)

    def test_only_what_is_asked_for(self) -> None:
        (header,) = qualified([Header("To: a")], "s.example", "")
        self.assertEqual(header.text, "To: a")

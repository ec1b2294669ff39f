"""Reports whose every field comes from somebody who means harm: their form is kept."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message as Mail

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.mail.header import Header, render
from mailsrv.mail.message import InlineBody, Message, Recipient
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Host
from mailsrv.queue.bounce import Item, Kind, Report, ReportSettings, build
from mailsrv.queue.notice import failure

PIECES = ["a@b.example", "\r\n", "\n", "\r", "\r\n\r\n", "\0", "--", "1rrrrr-000001-00-mailsrvdsn",
          "Bcc: all@example.com", "Content-Type: text/html", "Final-Recipient: rfc822; x", "\xe9",
          "\x1b[2J", " ", "\t", ":", ";", "%0d%0a", "+0D+0A", "=?utf-8?q?x?=", "x" * 2000, "\u2028",
          "\x85", ".", "\\n", "{$x}", "<", ">", '"']  # fmt: skip
TEXT = st.lists(st.sampled_from(PIECES), max_size=5).map("".join)
OCTETS = TEXT.map(lambda text: text.encode("latin-1", "replace").decode("latin-1"))
ALLOWED = {"x-failed-recipients", "auto-submitted", "from", "to", "message-id", "date", "subject",
           "references", "mime-version", "content-type", "received", "reply-to"}  # fmt: skip
ONCE = ("from", "to", "subject", "message-id", "date")
SETTINGS = ReportSettings("mx.example", qualify_domain="example.com")


def parsed(report: Message) -> tuple[Mail, bytes]:
    assert isinstance(report.body, InlineBody)
    octets = render(report.headers) + b"\r\n" + report.body.inline
    return message_from_bytes(octets), octets


class HostileReportTests(SynchronousTestCase):
    def check(self, report: Message, own: bytes) -> Mail:
        """The header has what it should, each once; ``own`` has no octet or line of theirs."""
        mail, octets = parsed(report)
        names = [name.lower() for name in mail]
        self.assertLessEqual(set(names), ALLOWED)
        for name in ONCE:
            self.assertEqual(names.count(name), 1, name)
        head = octets.partition(b"\r\n\r\n")[0]
        for part in (head, own):
            part = part.replace(b"\r\n", b"")
            self.assertNotRegex(part, rb"[\r\n\0\x1b\x80-\xff]")
        for line in octets.split(b"\r\n"):
            if line in own or line in head:
                self.assertLessEqual(len(line), 998)
        self.assertEqual(report.sender, "")
        return mail

    @given(OCTETS, OCTETS, OCTETS, OCTETS, OCTETS, OCTETS, st.sampled_from(Kind))
    def test_reports(
        self, sender: str, to: str, dsn: str, said: str, header: str, body: str, kind: Kind
    ) -> None:
        """Three parts, of which the second has a group for each recipient, whatever they hold."""
        message = Message(
            "1mmmmm-000001-00", sender or "s", (), Origin(),
            [Header(f"Subject: {header}".replace("\r", "").replace("\n", "\n ")),
             Header("Message-ID: " + header.replace("\r", "").replace("\n", " "))],
            InlineBody(body.encode("latin-1")), 0.0, envid=dsn,
        )  # fmt: skip
        recipient = Recipient(to or "r", orcpt=f"rfc822;{dsn}")
        items = [
            Item(recipient, to or "r", kind, said, None, Host(to or "h", dsn), said, output=said)
            for _ in range(2)
        ]
        report = Report("1rrrrr-000001-00", to or "r", items, 0.0)
        made = build(report, message, body.encode("latin-1"), SETTINGS)
        mail, _ = parsed(made)
        text, status, original = mail.get_payload()  # type: ignore[misc]
        own = f"{text.get_payload()}{status.as_string()}".encode("utf-8", "surrogateescape")
        self.check(made, own.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        self.assertEqual(len(mail.get_all("Content-Type") or ()), 1)
        self.assertEqual(status.get_content_type(), "message/delivery-status")
        groups = status.get_payload()
        self.assertEqual(len(groups), 3)
        for group in groups[1:]:
            self.assertEqual(len(group.get_all("Final-Recipient")), 1)
            self.assertEqual(group["Action"], kind.value)
        self.assertTrue(original.get_content_type().startswith(("message/", "text/rfc822")))

    @given(OCTETS, st.lists(OCTETS, max_size=3), st.binary(max_size=200))
    def test_failures(self, to: str, lines: list[str], original: bytes) -> None:
        """A local user is told of a message that was not taken, in one part of text."""
        made = failure("1rrrrr-000001-00", to, "Mail failure - x", lines, original, SETTINGS, 0.0)
        assert isinstance(made.body, InlineBody)
        own = made.body.inline.partition(b"------ This is a copy")[0]
        mail = self.check(made, own)
        self.assertFalse(mail.is_multipart())
        self.assertTrue(made.body.inline.endswith(b"\r\n"))

"""Rewriting at reception (chapter 31): what exim 4.96 made of the same sessions."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import Position
from mailsrv.expansion.rewrite import Rewriter, RewriteRules, parse_rule
from mailsrv.interfaces import AclPhase
from mailsrv.lookup import registry
from mailsrv.mail.message import Message
from tests.connection.server import Client, Server

WHERE = Position("test.conf", 1)
RULES = (
    "*@old.example $1@new.example",
    "^(?i)<s-(.*)>  <$1@old.example> S",
    'j@new.example  "J. Doe <jd@new.example>" fw',
)
HEADER = (
    'From: Joe <j@old.example>\r\nTo: "K, L" <k@old.example> (c),\r\n  m@old.example\r\n'
    "Cc: grp: n@old.example, o@x.example;\r\nSubject: x@old.example\r\nResent-To: y@old.example"
)


class RewritingTests(SynchronousTestCase):
    def serve(self, *rules: str) -> Server:
        self.server = Server()
        parts = self.server.parts
        parts.services = replace(
            parts.services,
            lookup=registry(),
            log=self.server.log,
            settings={"qualify_recipient": "q.example"},
        )
        parts.rewriter = Rewriter(RewriteRules(tuple(parse_rule(each, WHERE) for each in rules)))
        return self.server

    def send(self, client: Client, header: str) -> Message:
        self.assertTrue(client.say("DATA").startswith("354"))
        reply = client.say(f"{header}\r\n\r\nbody\r\n.")
        self.assertTrue(reply.startswith("250 OK id="), reply)
        return self.server.spool.messages[-1]

    def test_what_rules_see(self) -> None:
        """The header, and for recipients the sender as it came: as exim4 does it."""
        client = self.serve(
            "*@old.example $1@new.example",
            '*@sa.example "${if eq{$sender_address}{s@old.example}{$1@was.example}fail}"',
            '*@hh.example "${if def:header_subject:{$1@subject.example}{$1@none.example}}"',
        ).connect()
        client.say("EHLO x")
        client.say("MAIL FROM:<s@old.example>")
        for to in ("x@sa.example", "x@hh.example"):
            client.say(f"RCPT TO:<{to}>")
        message = self.send(client, "From: y@sa.example\r\nSubject: s\r\nCc: z@hh.example")
        self.assertEqual(message.sender, "s@new.example")
        self.assertEqual(
            [each.address for each in message.recipients], ["x@was.example", "x@subject.example"]
        )
        shown = [each.text for each in message.headers]
        self.assertIn("From: y@sa.example", shown)
        self.assertIn("Cc: z@subject.example", shown)

    def test_no_such_field(self) -> None:
        """Resent-Reply-To is none of RFC 5322."""
        client = self.serve("*@old.example $1@new.example").connect()
        client.say("EHLO x")
        client.say("MAIL FROM:<>")
        client.say("RCPT TO:<x@y.example>")
        message = self.send(client, "Resent-Reply-To: a@old.example\r\nReply-To: a@old.example")
        shown = [each.text for each in message.headers]
        self.assertIn("Resent-Reply-To: a@old.example", shown)
        self.assertIn("Reply-To: a@new.example", shown)

    def test_session(self) -> None:
        """S comes first, ACLs see the addresses as given, all is rewritten at the end of data."""
        client = self.serve(*RULES).connect()
        client.say("EHLO x")
        self.assertEqual(client.say("MAIL FROM:<a@old.example> SIZE=100"), "250 OK")
        for to in ("<s-vs> NOTIFY=NEVER", "<vr@old.example>", "<x@old.example>"):
            self.assertEqual(client.say(f"RCPT TO:{to}"), "250 Accepted")
        asked = [to for phase, to in self.server.policy.calls if phase is AclPhase.RCPT]
        self.assertEqual(asked, ["vs@old.example", "vr@old.example", "x@old.example"])
        message = self.send(client, HEADER)
        self.assertEqual(message.sender, "a@new.example")
        self.assertEqual(
            [each.address for each in message.recipients],
            ["vs@new.example", "vr@new.example", "x@new.example"],
        )
        self.assertEqual(message.recipients[0].notify, frozenset({"NEVER"}))
        self.assertEqual(
            [each.text for each in message.headers if not each.called("Received")],
            [
                'From: "J. Doe" <jd@new.example>',
                'To: "K, L" <k@new.example> (c),\n  m@new.example',
                "Cc: grp: n@new.example, o@x.example;",
                "Subject: x@old.example",
                "Resent-To: y@new.example",
            ],
        )
        log = "\n".join(text for _, text in self.server.log.events)
        for line in (
            '"<s-vs>" from smtp recipient rewritten as "<vs@old.example>" by rule 2',
            '"a@old.example" from env-from rewritten as "a@new.example" by rule 1',
            '"j@new.example" from from: rewritten as "J. Doe <jd@new.example>" by rule 3',
            '"y@old.example" from to: rewritten as "y@new.example" by rule 1',
        ):
            self.assertIn(line, log)

    def test_hide_machine_name(self) -> None:
        """The article's rule: all places, or with F the sender of the envelope alone."""
        for flags, sender, recipient, author in (
            ("", "me@mydomain", "you@mydomain", "From: Me <me@mydomain>"),
            (" F", "me@mydomain", "you@machine.mydomain", "From: Me <me@machine.mydomain>"),
        ):
            client = self.serve(f"*@machine.mydomain $1@mydomain{flags}").connect()
            client.say("EHLO x")
            client.say("MAIL FROM:<me@machine.mydomain>")
            client.say("RCPT TO:<you@machine.mydomain>")
            message = self.send(client, "From: Me <me@machine.mydomain>")
            self.assertEqual(message.sender, sender)
            self.assertEqual(message.recipients[0].address, recipient)
            self.assertIn(author, [each.text for each in message.headers])

    def test_null_sender(self) -> None:
        """The null sender is no address."""
        client = self.serve("* x@y.example").connect()
        client.say("EHLO x")
        client.say("MAIL FROM:<>")
        client.say("RCPT TO:<b@d.example>")
        self.assertEqual(self.send(client, "Subject: x").sender, "")

    def test_unreachable_lookup(self) -> None:
        """What cannot be looked up now is refused for now, and not sent as it is."""
        client = self.serve("*@lsearch;/nonexistent/file x@y.example").connect()
        client.envelope()
        client.say("DATA")
        self.assertTrue(client.say("Subject: x\r\n\r\n.").startswith("451"))
        self.assertFalse(self.server.spool.messages)

    def test_header_of_many_addresses(self) -> None:
        """A field of 5,000 addresses, open comments and groups is read once."""
        client = self.serve("*@old.example $1@new.example").connect()
        client.envelope()
        field = "To: " + ",\r\n ".join(f'"n, {i}" (c\\)) <u{i}@old.example>' for i in range(5000))
        message = self.send(client, field)
        text = next(each.text for each in message.headers if each.called("To"))
        self.assertEqual(text.count("@new.example"), 5000)
        self.assertNotIn("@old.example", text)

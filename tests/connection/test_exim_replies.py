"""Replies to MAIL and RCPT beside those that Exim 4.96 gave (``exim -bh``).

``exim_replies.json`` holds lines of [command, Exim's reply] or, where mailsrv
differs on purpose, [command, Exim's reply, ours].  mailsrv is stricter: no
comments, phrases, blanks or tabs around an address and no backslash outside
quotes (RFC 5321 has none of them, and what two readers may understand
differently is a way around an ACL); octets above 127 need SMTPUTF8 (RFC 6531);
parameters must have the values that their RFCs give them (ENVID and ORCPT end up
in reports).  Exim 4.96 shows "=" for the blank before a parameter of RCPT.
"""

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.connection.server import Client, Server

REPLIES = json.loads(Path(__file__).with_name("exim_replies.json").read_text("ascii"))


class EximReplyTests(SynchronousTestCase):
    def client(self, **settings: object) -> Client:
        many = {"smtp_max_synprot_errors": 10_000, "smtp_accept_max_nonmail": 10_000}
        client = Server(message_size_limit="5000", **many, **settings).connect()
        client.say("EHLO c.example")
        return client

    def test_mail(self) -> None:
        client = self.client()
        for command, *replies in REPLIES["mail"]:
            self.assertEqual(client.say(command), replies[-1], command)
            client.say("RSET")

    def test_rcpt(self) -> None:
        client = self.client()
        client.say("MAIL FROM:<a@b.c>")
        for command, *replies in REPLIES["rcpt"]:
            self.assertEqual(client.say(command), replies[-1], command)

    def test_never_more_lenient(self) -> None:
        """What Exim refuses is refused here too, whatever the words."""
        for command, exim, *ours in REPLIES["mail"] + REPLIES["rcpt"]:
            if exim.startswith("5") and ours:
                self.assertTrue(ours[0].startswith("5"), command)

    def test_options_about_addresses(self) -> None:
        """strip_trailing_dot, strip_excess_angle_brackets, allow_domain_literals, unqualified."""
        client = self.client(
            strip_trailing_dot=True,
            strip_excess_angle_brackets=True,
            allow_domain_literals=True,
            sender_unqualified_hosts="*",
            recipient_unqualified_hosts="*",
        )
        transaction = client.protocol.dialogue.begin_transaction()
        for address, found in (
            ("<a@[1.2.3.4]>", "a@[1.2.3.4]"),
            ("<a@[IPv6:::1]>", "a@[IPv6:::1]"),
            ("<a@b.c.>", "a@b.c"),
            ("a@b.c.", "a@b.c"),
            ("<@x.y:a@b.c.>", "a@b.c"),
            ("<<a@b.c>>", "a@b.c"),
            ("<<<a@b.c.>>> NOTIFY=NEVER", "a@b.c"),
            ("<a>", "a@example.com"),
            ("<a%b.c>", "a%b.c@example.com"),
            ("<b!a>", "b!a@example.com"),
            ('<"a."@b.c>', '"a."@b.c'),
        ):
            self.assertEqual(client.say(f"RCPT TO:{address}"), "250 Accepted", address)
            self.assertEqual(transaction.recipients.pop().address, found)
        for address, wrong in (
            ("<a@b..>", "domain missing or malformed"),
            ("<a@[x]>", "malformed domain literal"),
            ("<<a@b.c>", "missing or malformed local part"),
            ("<a@b.c>>", "malformed address: > may not follow <a@b.c>"),
            ("<a@[1.2.3.4].>", "malformed address: .> may not follow <a@[1.2.3.4]"),
        ):
            reply = client.say(f"RCPT TO:{address}")
            self.assertTrue(reply.startswith("501 ") and reply.endswith(wrong), reply)

"""Clients that are slowed down, the percent hack, and replies that controls change."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.mail.status import Status
from tests.connection.server import Server


class PaceTests(SynchronousTestCase):
    def test_mail(self) -> None:
        """From the third MAIL on a client waits, ever longer, to a limit."""
        server = Server(smtp_ratelimit_hosts="*", smtp_ratelimit_mail="2,0.5s,3,2s")
        client = server.connect()
        client.say("EHLO me.example")
        for seconds in (0.0, 0.0, 0.5, 1.5, 2.0, 2.0):
            reply = client.say("MAIL FROM:<a@c.example>")
            if seconds:
                self.assertEqual(reply, "")
                server.clock.advance(seconds - 0.01)
                self.assertEqual(client.read(), b"")
                server.clock.advance(0.02)
                reply = client.read().decode().strip()
            self.assertEqual(reply, "250 OK")
            client.say("RSET")

    def test_rcpt_counts_in_each_message(self) -> None:
        server = Server(smtp_ratelimit_hosts="192.0.2.1", smtp_ratelimit_rcpt="1,1s,1,1s")
        client = server.connect()
        for _ in range(2):
            client.envelope()
            self.assertEqual(client.say("RCPT TO:<c@d.example>"), "")
            server.clock.advance(1)
            self.assertEqual(client.read(), b"250 Accepted\r\n")
            client.say("RSET")

    def test_other_hosts(self) -> None:
        server = Server(smtp_ratelimit_hosts="192.0.2.77", smtp_ratelimit_mail="0,1s,1,1s")
        server.connect().envelope()

    def test_a_client_that_goes_while_it_waits(self) -> None:
        server = Server(smtp_ratelimit_hosts="*", smtp_ratelimit_mail="0,1m,1,1m")
        client = server.connect()
        client.say("EHLO me.example")
        client.say("MAIL FROM:<a@c.example>")
        client.transport.loseConnection()
        server.clock.advance(61)
        self.assertEqual(client.read(), b"")


class PercentTests(SynchronousTestCase):
    def test_domains_of_the_list(self) -> None:
        server = Server(percent_hack_domains="here.example : also.example")
        client = server.connect()
        client.say("EHLO me.example")
        client.say("MAIL FROM:<a@c.example>")
        for address in ("u%o.example@here.example", "u%x%o.example@else.example"):
            client.say(f"RCPT TO:<{address}>")
        client.say("RCPT TO:<u%o.example%also.example@here.example>")
        client.say("DATA")
        client.raw(b"A: b\r\n\r\nx\r\n.\r\n")
        (message,) = server.spool.messages
        self.assertEqual(
            [each.address for each in message.recipients],
            ["u@o.example", "u%x%o.example@else.example", "u@o.example"],
        )


class ControlTests(SynchronousTestCase):
    def test_a_refusal_that_is_none(self) -> None:
        """The client reads 550, and the message is kept."""
        server = Server()
        client = server.connect()
        client.envelope()
        transaction = client.protocol.dialogue.connection.transaction
        transaction.feigned = Status(550, 0, 0, "one\ntwo")
        client.say("DATA")
        self.assertEqual(client.raw(b"A: b\r\n\r\nx\r\n.\r\n"), b"550-one\r\n550 two\r\n")
        self.assertEqual(len(server.spool.messages), 1)

    def test_no_pipelining(self) -> None:
        server = Server()
        client = server.connect()
        self.assertIn("PIPELINING", client.say("EHLO me.example"))
        client.protocol.dialogue.connection.no_pipelining = True
        self.assertNotIn("PIPELINING", client.say("EHLO me.example"))

    def test_auth_that_was_not_advertised(self) -> None:
        server = Server(auth_advertise_hosts="")
        server.auth.mechanisms = ["PLAIN"]
        client = server.connect()
        client.say("EHLO me.example")
        self.assertEqual(client.say("AUTH PLAIN"), "503 AUTH command used when not advertised")
        client.protocol.dialogue.connection.auth_unadvertised = True
        self.assertNotIn("not advertised", client.say("AUTH PLAIN"))

"""What a session writes to the log, in the lines that Exim 4.96 wrote for the same dialogues."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.interfaces import AclPhase, Action, Verdict
from mailsrv.mail.connection import Connection
from mailsrv.mail.status import Status
from tests.connection.server import Client, Server

REFUSE = Verdict(Action.DENY, Status(550, 0, 0, "no"))
WHO = "H=(c.example) [192.0.2.1]"


class LogTestCase(SynchronousTestCase):
    def client(self, **settings: object) -> Client:
        """Return a client that has said EHLO, with nothing in the log."""
        client = Server(**settings).connect()
        client.read()
        client.say("EHLO c.example")
        client.server.log.events.clear()
        return client

    def message(self, client: Client, *recipients: str) -> str:
        """Send a message; return the last reply."""
        client.say("MAIL FROM:<a@x.example>")
        for recipient in recipients:
            client.say(f"RCPT TO:<{recipient}>")
        client.say("DATA")
        return client.raw(b"Subject: x\r\n\r\nhello\r\n.\r\n").decode("latin-1")

    def discards(self, client: Client, phase: AclPhase, address: str = "", log: str = "") -> None:
        """Make the ACL of a phase discard, as the real one does."""
        verdict = Verdict(Action.DISCARD, log_message=log)
        client.server.policy.verdicts[(phase, address) if address else phase] = verdict


class ProtocolTests(LogTestCase):
    """P= and $received_protocol."""

    def test_utf8_belongs_to_one_message(self) -> None:
        client = self.client()
        for parameter, protocol in (" SMTPUTF8", "utf8esmtp"), ("", "esmtp"):
            client.say(f"MAIL FROM:<a@x.example>{parameter}")
            self.assertEqual(client.protocol.dialogue.connection.origin.protocol, protocol)
            client.say("RSET")


class DelayTests(LogTestCase):
    """A message that waits has a line that says why."""

    def events(self, **effects: bool) -> list[tuple[str, str]]:
        client = self.client()

        def effect(phase: AclPhase, connection: Connection) -> None:
            if phase is AclPhase.DATA:
                for name, value in effects.items():
                    setattr(connection.transaction, name, value)

        client.server.policy.effect = effect
        self.message(client, "r@d")
        return client.server.log.events

    def test_frozen(self) -> None:
        self.assertEqual(
            self.events(frozen=True),
            [("received", "1aaaaa-000001-00"), ("main", "frozen by ACL")],
        )

    def test_queue_only(self) -> None:
        line = "no immediate delivery: queued by ACL"
        self.assertEqual(self.events(queue_only=True)[1:], [("main", line)])

    def test_neither(self) -> None:
        self.assertEqual(self.events()[1:], [])


class DiscardTests(LogTestCase):
    """A discarded message has the lines of one that came and went, so that reports add up."""

    def thrown_away(self, reason: str) -> list[tuple[str, str]]:
        return [
            ("received", "1aaaaa-000001-00"),
            ("main", f"=> blackhole ({reason}"),
            ("completed", "1aaaaa-000001-00"),
        ]

    def test_by_mail_acl(self) -> None:
        """Each recipient has its line; the RCPT ACL is not asked."""
        client = self.client()
        self.discards(client, AclPhase.MAIL, log="spammer")
        client.server.policy.effect = lambda phase, connection: (
            setattr(connection.transaction, "discarded", True) if phase is AclPhase.MAIL else None
        )
        self.assertTrue(self.message(client, "r1@d", "r2@d").startswith("250 OK id="))
        self.assertEqual(
            client.server.log.events,
            [
                ("reject", f"{WHO} F=<a@x.example> RCPT <r1@d>: discarded by MAIL ACL: spammer"),
                ("reject", f"{WHO} F=<a@x.example> RCPT <r2@d>: discarded by MAIL ACL: spammer"),
                *self.thrown_away("MAIL ACL discarded recipients)"),
            ],
        )
        self.assertNotIn(AclPhase.RCPT, [phase for phase, _ in client.server.policy.calls])
        self.assertEqual((client.server.spool.messages, client.server.spool.open), ([], 0))

    def test_by_rcpt_acl(self) -> None:
        """All recipients are discarded: so is the message."""
        client = self.client()
        self.discards(client, AclPhase.RCPT, log="trap")
        self.message(client, "r1@d")
        self.assertEqual(
            client.server.log.events,
            [
                ("reject", f"{WHO} F=<a@x.example> RCPT <r1@d>: discarded by RCPT ACL: trap"),
                *self.thrown_away("RCPT ACL discarded recipients)"),
            ],
        )

    def test_one_of_two(self) -> None:
        """The other recipient gets the message."""
        client = self.client()
        self.discards(client, AclPhase.RCPT, "r1@d")
        self.message(client, "r1@d", "r2@d")
        self.assertEqual(
            client.server.log.events,
            [
                ("reject", f"{WHO} F=<a@x.example> RCPT <r1@d>: discarded by RCPT ACL"),
                ("received", "1aaaaa-000001-00"),
            ],
        )
        (message,) = client.server.spool.messages
        self.assertEqual([each.address for each in message.recipients], ["r2@d"])

    def test_by_data_acl(self) -> None:
        client = self.client()
        self.discards(client, AclPhase.DATA, log="virus")
        self.assertTrue(self.message(client, "r1@d").startswith("250 OK id="))
        self.assertEqual(
            client.server.log.events, self.thrown_away("DATA ACL discarded recipients): virus")
        )
        self.assertEqual((client.server.spool.messages, client.server.spool.open), ([], 0))

    def test_reply_of_data_acl(self) -> None:
        """The ACL's own message is the reply."""
        client = self.client()
        client.server.policy.verdicts[AclPhase.DATA] = Verdict(
            Action.DISCARD, Status(250, 0, 0, "thank you")
        )
        self.assertEqual(self.message(client, "r1@d"), "250 thank you\r\n")


class IncompleteTransactionTests(LogTestCase):
    """smtp_incomplete_transaction: a message that was begun and is given up."""

    def begun(self, *recipients: str, **settings: object) -> Client:
        client = self.client(**settings)
        client.say("MAIL FROM:<a@x.example>")
        for recipient in recipients:
            client.say(f"RCPT TO:<{recipient}>")
        return client

    def incomplete(self, client: Client) -> list[str]:
        lines = [text for _, text in client.server.log.events if "incomplete" in text]
        for line in lines:
            self.assertTrue(line.startswith(f"{WHO} incomplete transaction "), line)
        return [line.removeprefix(f"{WHO} incomplete transaction ") for line in lines]

    def test_rset(self) -> None:
        client = self.begun()
        client.say("RSET")
        client.say("RSET")
        self.assertEqual(self.incomplete(client), ["(RSET) from <a@x.example>"])

    def test_recipients(self) -> None:
        """Those that were accepted are named."""
        client = self.client()
        client.server.policy.verdicts[AclPhase.RCPT, "bad@d"] = REFUSE
        client.say("MAIL FROM:<>")
        for recipient in ("r1@d", "bad@d", "r2@d"):
            client.say(f"RCPT TO:<{recipient}>")
        client.say("RSET")
        self.assertEqual(self.incomplete(client), ["(RSET) from <> for r1@d r2@d"])

    def test_quit(self) -> None:
        client = self.begun("r@d")
        client.say("QUIT")
        self.assertEqual(self.incomplete(client), ["(QUIT) from <a@x.example> for r@d"])

    def test_connection_lost(self) -> None:
        client = self.begun("r@d")
        client.server.clock.advance(65)
        client.transport.loseConnection()
        self.assertEqual(
            [text for _, text in client.server.log.events[-2:]],
            [
                f"{WHO} incomplete transaction (connection lost) from <a@x.example> for r@d",
                f"unexpected disconnection while reading SMTP command from {WHO[2:]} D=1m5s",
            ],
        )

    def test_connection_lost_between_messages(self) -> None:
        """Many clients end so: that is no more than the end of a connection (smtp_connection)."""
        client = self.client()
        client.transport.loseConnection()
        self.assertEqual(
            client.server.log.events, [("main", f"SMTP connection from {WHO[2:]} lost D=0s")]
        )

    def test_unknown_commands(self) -> None:
        client = self.begun(smtp_max_unknown_commands=1)
        client.say("X1")
        client.say("X2")
        self.assertEqual(self.incomplete(client), ["(unrecognized command) from <a@x.example>"])
        self.assertEqual(client.server.log.events[1][1][:27], 'SMTP syntax error in "X2" H')

    def test_nonmail_commands(self) -> None:
        client = self.begun(smtp_accept_max_nonmail=0)
        client.say("NOOP")
        self.assertEqual(
            self.incomplete(client), ["(too many non-mail commands) from <a@x.example>"]
        )

    def test_synchronization(self) -> None:
        client = self.begun()
        client.raw(b"NOOP\r\nNOOP\r\n")
        self.assertEqual(self.incomplete(client), ["(sync failure) from <a@x.example>"])

    def test_complete(self) -> None:
        """A message that was taken, one whose MAIL was refused, and EHLO leave no line."""
        client = self.client()
        self.message(client, "r@d")
        client.server.policy.verdicts[AclPhase.MAIL] = REFUSE
        client.say("MAIL FROM:<a@x.example>")
        client.say("RSET")
        client.server.policy.verdicts.clear()
        client.say("MAIL FROM:<a@x.example>")
        client.say("EHLO c.example")
        client.say("QUIT")
        self.assertEqual(self.incomplete(client), [])


class ReceiveTimeTests(LogTestCase):
    def test_from_data_to_its_end(self) -> None:
        """receive_time: how long the message took, without the waits before DATA."""
        client = self.client()
        client.envelope()
        client.server.clock.advance(10)
        client.say("DATA")
        client.server.clock.advance(2.5)
        client.raw(b".\r\n")
        self.assertEqual(client.server.log.receptions, [2.5])


class HeloTests(LogTestCase):
    def test_bad_name(self) -> None:
        """A bad HELO has one line, and counts as a syntax error."""
        client = self.client(smtp_max_synprot_errors=1)
        client.say("HELO a_b c")
        self.assertEqual(
            client.server.log.events,
            [
                (
                    "reject",
                    f"rejected HELO from {WHO[2:]}: syntactically invalid argument(s): a_b c",
                )
            ],
        )
        client.say("HELO")
        self.assertTrue(client.closed)


class SizeTests(LogTestCase):
    """A message's size is counted as Exim counts it."""

    def test_line_ends_are_one_octet(self) -> None:
        """Header with what is added, the line between, and the body without its dots."""
        client = self.client(received_header_text="Received: x")
        sizes = []
        client.server.policy.effect = lambda phase, connection: (
            sizes.append(connection.transaction.size) if phase is AclPhase.DATA else None
        )
        client.say("MAIL FROM:<a@x.example>")
        client.say("RCPT TO:<r@d>")
        client.say("DATA")
        client.raw(b"Subject: size\r\n\r\nhello\r\n..x\r\n.\r\n")
        (message,) = client.server.spool.messages
        self.assertEqual(sizes, [len("Subject: size\n\nhello\n.x\n")])
        received = message.headers[0].text
        self.assertRegex(received, r"^Received: x;\n\t\w{3}, ")
        self.assertEqual(message.size, sizes[0] + len(received) + 1)

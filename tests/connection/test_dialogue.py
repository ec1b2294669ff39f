"""Tests of mailsrv.connection: dialogues in memory."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.interfaces import AclPhase, Action, Verdict
from mailsrv.mail.message import Submission
from mailsrv.mail.status import Status
from tests.connection.server import Client, Server

REFUSE = Verdict(Action.DENY, Status(550, 0, 0, "no"))


class DialogueTests(SynchronousTestCase):
    def test_greeting_and_ehlo(self) -> None:
        client = Server(message_size_limit="1000").connect()
        self.assertEqual(client.read(), b"220 mx.example.com ESMTP\r\n")
        self.assertEqual(
            client.say("EHLO c.example"),
            "250-mx.example.com Hello c.example [192.0.2.1]|250-SIZE 1000|250-8BITMIME|250-DSN|"
            "250-PIPELINING|250-CHUNKING|250-SMTPUTF8|250 HELP",
        )

    def test_helo_takes_back_what_ehlo_offered(self) -> None:
        """After HELO there is no extension: neither AUTH nor CHUNKING, nor parameters of MAIL."""
        server = Server()
        server.auth.mechanisms = ["PLAIN"]
        client = server.connect()
        client.read()
        self.assertIn("AUTH", client.say("EHLO c.example"))
        client.say("HELO c.example")
        for line, code in (
            ("AUTH PLAIN", "503"),
            ("MAIL FROM:<a@b> RET=HDRS", "501"),
            ("BDAT 0 LAST", "503"),
        ):
            self.assertEqual(client.say(line)[:3], code, line)

    def test_errors_in_exims_words(self) -> None:
        client = Server(message_size_limit="1000").connect()
        client.read()
        for line, reply in (
            ("MAIL FROM:<a@b>", "503 HELO or EHLO required"),
            ("EHLO", "501 Syntactically invalid EHLO argument(s)"),
            ("EHLO a_b", "501 Syntactically invalid EHLO argument(s)"),
            ("HELO c.example", "250 mx.example.com Hello c.example [192.0.2.1]"),
            ("RCPT TO:<a@b>", "503 sender not yet given"),
            ("DATA", "503 valid RCPT command must precede DATA"),
            ("MAIL", "500 unrecognized command"),
            ("MAIL FROM:", "501 MAIL must have an address operand"),
            ("MAIL FROM:<a@b> SIZE=1", "501 <a@b> SIZE=1: malformed address: SIZE=1 may not follow <a@b> "),  # noqa: E501
            ("STARTTLS", "503 STARTTLS command used when not advertised"),
            ("AUTH PLAIN", "503 AUTH command used when not advertised"),
            ("DATA foo", "501 unexpected argument data"),
            ("FOO", "500 unrecognized command"),
            ("NO\0OP", "500 unrecognized command"),
            ("NOOP \0", "501 NUL characters are not allowed in SMTP commands"),
            ("RSET", "250 Reset OK"),
            ("HELP", "214-Commands supported:|214 HELO EHLO MAIL RCPT DATA NOOP QUIT RSET HELP"),
            ("VRFY", "501 empty address"),
        ):  # fmt: skip
            got = client.say(line)
            if line == "NO\0OP":
                self.assertTrue(got.startswith("50"))
            else:
                self.assertEqual(got, reply, line)
        client.say("EHLO c.example")
        for line, reply in (
            ("MAIL FROM:<a@b> SIZE=5000", "552 Message size exceeds maximum permitted"),
            ("MAIL FROM:<a>", "501 <a>: sender address must contain a domain"),
            ("MAIL FROM:<a@[1.2.3.4]>", "501 <a@[1.2.3.4]>: domain literals not allowed"),
            ("MAIL FROM:<\xc3\xa9@b>", "533 no support for internationalised mailbox name"),
            ("MAIL FROM:<a@b> BODY=FOO", "501 invalid data for BODY"),
            ("MAIL FROM:<a@b>", "250 OK"),
            ("MAIL FROM:<a@b>", "503 sender already given"),
            ("RCPT TO:<>", "501 <>: missing or malformed local part"),
            ("RCPT TO:<a>", "501 <a>: recipient address must contain a domain"),
            ("RCPT TO:<a@b> NOTIFY=FOO", "501 Invalid value for NOTIFY parameter"),
            ("RCPT TO:<postmaster>", "250 Accepted"),
            ("QUIT", "221 mx.example.com closing connection"),
        ):
            self.assertEqual(client.say(line), reply, line)
        self.assertTrue(client.closed)

    def test_message(self) -> None:
        """A message is stored whole, with its envelope, before 250 names its id."""
        server = Server(received_header_text="Received: from x")
        client = server.connect()
        client.say("EHLO client.example")
        client.say("MAIL FROM:<a@c.example> RET=HDRS ENVID=e1 BODY=8BITMIME")
        client.say("RCPT TO:<b@d.example> NOTIFY=FAILURE ORCPT=rfc822;z@d.example")
        self.assertTrue(client.say("DATA").startswith("354 "))
        reply = client.raw(b"Subject: x\r\n y\r\nReturn-Path: <q>\r\n\r\n..body\r\n.\r\n")
        self.assertEqual(reply, b"250 OK id=1aaaaa-000001-00\r\n")
        (message,) = server.spool.messages
        texts = [header.text for header in message.headers]
        self.assertTrue(texts[0].startswith("Received: from x;\n\t"))
        self.assertEqual(texts[1:], ["Subject: x\n y"])
        self.assertEqual(message.body.inline, b".body\r\n")
        self.assertEqual(
            (message.sender, message.ret, message.envid), ("a@c.example", "HDRS", "e1")
        )
        self.assertEqual(message.recipients[0].orcpt, "rfc822;z@d.example")
        self.assertEqual(server.queue.ids, [message.id])
        self.assertEqual(server.spool.open, 0)

    def test_text_without_header(self) -> None:
        """A first line that is no header field begins the body; nothing is lost."""
        server = Server()
        client = server.connect()
        client.envelope()
        client.say("DATA")
        client.raw(b"A: b\r\nhello\r\n\r\nthere\r\n.\r\n")
        (message,) = server.spool.messages
        self.assertEqual([h.text for h in message.headers], ["A: b"])
        self.assertEqual(message.body.inline, b"hello\r\n\r\nthere\r\n")

    def test_cut_at_every_byte(self) -> None:
        """A session gives the same replies and message wherever its octets are cut."""
        octets = (
            b"EHLO c.example\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nA: b\r\n\r\n..x\r\n.\r\n"  # noqa: E501
            b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 9\r\nA: b\r\n\r\n.BDAT 4 LAST\r\nab\r\nQUIT\r\n"  # noqa: E501
        )
        results = []
        for cut in range(0, len(octets), 1):
            server = Server(smtp_enforce_sync=False)
            client = server.connect()
            replies = client.read() + client.raw(octets[:cut]) + client.raw(octets[cut:])
            results.append((replies, [m.body.inline for m in server.spool.messages]))
        self.assertEqual(results[0][1], [b".x\r\n", b".ab\r\n"])
        for result in results:
            self.assertEqual(result, results[0])

    def test_pipelined_replies_stay_in_order(self) -> None:
        """While an ACL waits nothing further is parsed, and replies keep their order."""
        server = Server(smtp_enforce_sync=False)
        client = server.connect()
        client.say("EHLO c.example")
        server.policy.waits = {AclPhase.MAIL, AclPhase.RCPT}
        self.assertEqual(
            client.raw(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx: y\r\n\r\n.\r\nNOOP\r\n"),
            b"",
        )
        server.policy.waiting.pop().callback(None)
        self.assertEqual(client.read(), b"250 OK\r\n")
        server.policy.waiting.pop().callback(None)
        codes = [line[:3] for line in client.read().split(b"\r\n")[:-1]]
        self.assertEqual(codes, [b"250", b"354", b"250", b"250"])

    def test_reading_stops_while_a_command_waits(self) -> None:
        server = Server(smtp_enforce_sync=False, smtp_accept_max_nonmail=100000)
        client = server.connect()
        client.say("EHLO c.example")
        server.policy.waits = {AclPhase.MAIL}
        client.raw(b"MAIL FROM:<a@b>\r\n")
        client.raw(b"NOOP\r\n" * 20000)
        self.assertFalse(client.transport.reading)
        server.policy.waiting.pop().callback(None)
        self.assertTrue(client.transport.reading)

    def test_slow_reader(self) -> None:
        """A client that does not read is not answered further until it does."""
        server = Server(smtp_enforce_sync=False)
        client = server.connect()
        client.read()
        client.protocol.pauseProducing()
        self.assertFalse(client.transport.reading)
        self.assertEqual(client.raw(b"HELP\r\n" * 5), b"")
        client.protocol.resumeProducing()
        self.assertEqual(client.read().count(b"214 "), 5)
        self.assertTrue(client.transport.reading)

    def test_refusals(self) -> None:
        server = Server()
        server.policy.verdicts = {
            (AclPhase.RCPT, "no@d"): REFUSE,
            (AclPhase.RCPT, "drop@d"): Verdict(Action.DROP, Status(550, 7, 1, "gone")),
        }
        client = server.connect()
        client.say("EHLO c.example")
        client.say("MAIL FROM:<a@b>")
        self.assertEqual(client.say("RCPT TO:<no@d>"), "550 no")
        self.assertIn(("rejected", "rejected RCPT <no@d>: no"), server.log.events)
        self.assertEqual(
            client.say("DATA"),
            "503-All RCPT commands were rejected with this error:|503-550 no|"
            "503 valid RCPT command must precede DATA",
        )
        self.assertEqual(client.say("RCPT TO:<drop@d>"), "550 5.7.1 gone")
        self.assertTrue(client.closed)

    def test_discard(self) -> None:
        """A discarded message is answered with 250 and stored nowhere."""
        server = Server()
        server.policy.verdicts = {AclPhase.RCPT: Verdict(Action.DISCARD)}
        client = server.connect()
        client.envelope()
        client.say("DATA")
        self.assertTrue(client.say(".").startswith("250 OK id="))
        self.assertEqual((server.spool.messages, server.spool.open), ([], 0))

    def test_unexpected_error_costs_one_command(self) -> None:
        server = Server()
        client = server.connect()
        client.say("EHLO c.example")
        server.policy.error = RuntimeError("bug")
        self.assertEqual(
            client.say("MAIL FROM:<a@b>"), "451 Temporary local problem - please try later"
        )
        self.assertEqual(len(server.log.failures), 1)
        self.assertEqual(client.say("MAIL FROM:<a@b>"), "250 OK")

    def test_disk_full(self) -> None:
        """A full disk is 452 behind the message's end; nothing is left, the session goes on."""
        server = Server()
        client = server.connect()
        client.envelope()
        client.say("DATA")
        server.spool.full = Status(452, 3, 1, "Space shortage, please try later")
        self.assertEqual(
            client.raw(b"A: b\r\n\r\nRSET\r\n.\r\n"), b"452 Space shortage, please try later\r\n"
        )
        self.assertEqual((server.spool.messages, server.spool.open), ([], 0))
        server.spool.full = None
        client.envelope()

    def test_early_close_leaves_nothing(self) -> None:
        server = Server()
        client = server.connect()
        client.envelope()
        client.say("DATA")
        client.raw(b"A: b\r\n\r\nhalf")
        client.transport.loseConnection()
        self.assertEqual((server.spool.messages, server.spool.open), ([], 0))
        self.assertTrue(any("lost while reading message data" in t for _, t in server.log.events))

    def test_close_while_storing_keeps_the_message(self) -> None:
        """The client goes after the dot: the message that is being stored is delivered."""
        server = Server()
        client = server.connect()
        client.envelope()
        client.say("DATA")
        server.spool.gate = Deferred()
        client.raw(b"A: b\r\n\r\nx\r\n.\r\n")
        client.transport.loseConnection()
        server.spool.gate.callback(None)
        self.assertEqual(len(server.spool.messages), 1)
        self.assertEqual(len(server.queue.ids), 1)
        self.assertEqual(server.log.failures, [])

    def test_close_that_an_acl_does_not_notice_stores_nothing(self) -> None:
        """The client went while the DATA ACL ran: the body is given up, so nothing is stored."""
        server = Server()
        client = server.connect()
        client.envelope()
        client.say("DATA")

        def leaves(phase: AclPhase, connection: object) -> None:
            if phase is AclPhase.DATA:
                client.transport.loseConnection()

        server.policy.effect = leaves
        client.raw(b"A: b\r\n\r\nx\r\n.\r\n")
        self.assertEqual((server.spool.messages, server.spool.open), ([], 0))
        self.assertEqual((server.queue.ids, server.log.failures), ([], []))

    def test_close_cancels_an_acl(self) -> None:
        server = Server()
        client = server.connect()
        client.say("EHLO c.example")
        server.policy.waits = {AclPhase.MAIL}
        client.raw(b"MAIL FROM:<a@b>\r\n")
        client.transport.loseConnection()
        self.assertTrue(server.policy.waiting[0].called)
        self.assertEqual(server.log.failures, [])

    def test_submission(self) -> None:
        server = Server()

        def effect(phase: AclPhase, connection: object) -> None:
            if phase is AclPhase.RCPT:
                connection.transaction.submission = Submission()
                connection.transaction.added_headers.append(":after_received:X-A: 1")

        server.policy.effect = effect
        client = server.connect()
        client.envelope()
        client.say("DATA")
        client.raw(b"Subject: s\r\n\r\nx\r\n.\r\n")
        names = [h.name for h in server.spool.messages[0].headers]
        self.assertEqual(names, ["X-A", "Subject", "Message-Id", "From", "Date"])


class LimitTests(SynchronousTestCase):
    def test_command_timeout_is_total(self) -> None:
        """Dripping octets does not prolong a command's time."""
        server = Server()
        client = server.connect()
        client.read()
        for _ in range(5):
            client.raw(b"N")
            server.clock.advance(59)
        self.assertFalse(client.closed)
        server.clock.advance(10)
        self.assertEqual(
            client.read(),
            b"421 mx.example.com: SMTP command timeout - closing connection\r\n",
        )
        self.assertTrue(client.closed)

    def test_data_timeout_is_total(self) -> None:
        server = Server()
        client = server.connect()
        client.envelope()
        client.say("DATA")
        replies = b""
        for _ in range(11):
            replies += client.raw(b"A: b\r\n")
            server.clock.advance(30)
        self.assertEqual(replies, b"421 SMTP incoming data timeout\r\n")
        self.assertEqual(server.spool.open, 0)
        self.assertTrue(client.closed)

    def test_each_command_has_its_time(self) -> None:
        server = Server()
        client = server.connect()
        for _ in range(10):
            server.clock.advance(200)
            self.assertEqual(client.say("NOOP").removeprefix("220 mx.example.com ESMTP|"), "250 OK")

    def test_errors_end_the_session(self) -> None:
        client = Server(smtp_max_synprot_errors=2, smtp_max_unknown_commands=2).connect()
        client.read()
        client.say("DATA")
        client.say("DATA")
        self.assertEqual(
            client.say("DATA"),
            "503-valid RCPT command must precede DATA|503 Too many syntax or protocol errors",
        )
        self.assertTrue(client.closed)

    def test_endless_line(self) -> None:
        client = Server(smtp_max_synprot_errors=2).connect()
        client.read()
        self.assertEqual(client.raw(b"A" * 100000), b"500 command line too long\r\n")
        self.assertEqual(client.raw(b"B" * 100000), b"")
        self.assertEqual(client.raw(b"\r\nNOOP\r\n"), b"250 OK\r\n")

    def test_recipients_max(self) -> None:
        """10,000 recipients: the excess is 452, one log line tells it."""
        server = Server(recipients_max=5)
        client = server.connect()
        client.envelope()
        replies = client.raw(b"RCPT TO:<x@y>\r\n" * 10000)
        self.assertEqual(replies.count(b"250 Accepted"), 4)
        self.assertEqual(replies.count(b"452 too many recipients"), 9996)
        lines = [text for _, text in server.log.events if text.startswith("too many recipients")]
        self.assertEqual(len(lines), 1)

    def test_connections(self) -> None:
        server = Server(smtp_accept_max=3, smtp_accept_max_per_host="2")
        first, second = server.connect(), server.connect()
        self.assertTrue(first.read().startswith(b"220"))
        self.assertTrue(second.read().startswith(b"220"))
        third = server.connect()
        self.assertIn(b"421 Too many concurrent SMTP connections from this IP", third.read())
        Client(server, "192.0.2.2")
        last = Client(server, "192.0.2.3")
        self.assertEqual(
            last.read(), b"421 Too many concurrent SMTP connections; please try again later.\r\n"
        )
        first.transport.loseConnection()
        self.assertTrue(server.connect().read().startswith(b"220"))

    def test_message_size(self) -> None:
        server = Server(message_size_limit="100")
        client = server.connect()
        client.envelope()
        client.say("DATA")
        reply = client.raw(b"A: b\r\n\r\n" + b"x" * 200 + b"\r\n.\r\n")
        self.assertEqual(reply, b"552 Message size exceeds maximum permitted\r\n")
        self.assertEqual((server.spool.messages, server.spool.open), ([], 0))
        client.envelope()

    def test_header_limits(self) -> None:
        server = Server(header_maxsize=200, received_headers_max=2)
        client = server.connect()
        for text, reply in (
            (
                b"A: " + b"x" * 300 + b"\r\n\r\n.\r\n",
                b"552 Message header is ridiculously long\r\n",
            ),
            (b"A: " + b"x" * 300 + b"\r\n.\r\n", b"552 Message header is ridiculously long\r\n"),
            (
                b"Received: x\r\n" * 3 + b"\r\n.\r\n",
                b'550 Too many "Received" headers - suspected mail loop\r\n',
            ),
        ):
            client.envelope()
            client.say("DATA")
            self.assertEqual(client.raw(text), reply)
        self.assertEqual((server.spool.messages, server.spool.open), ([], 0))

    def test_early_talker(self) -> None:
        """Input behind a command that ends a group is refused."""
        client = Server().connect()
        client.read()
        self.assertEqual(
            client.raw(b"EHLO c.example\r\nMAIL FROM:<a@b>\r\n"),
            b"554 SMTP synchronization error\r\n",
        )
        self.assertTrue(client.closed)

    def test_drain(self) -> None:
        """Idle sessions hear 421; a message under way is finished first."""
        server = Server()
        idle, busy = server.connect(), server.connect()
        busy.envelope()
        busy.say("DATA")
        idle.read()
        done = server.factory.drain()
        self.assertTrue(idle.read().startswith(b"421 mx.example.com: Service not available"))
        self.assertNoResult(done)
        reply = busy.raw(b"A: b\r\n\r\nx\r\n.\r\n")
        self.assertTrue(reply.startswith(b"250 OK id="))
        self.assertIn(b"421 ", reply)
        self.successResultOf(done)

    def test_drain_grace(self) -> None:
        server = Server()
        busy = server.connect()
        busy.envelope()
        busy.say("DATA")
        done = server.factory.drain(grace=5)
        server.clock.advance(5)
        self.successResultOf(done)
        self.assertTrue(busy.transport.aborted)


class AuthTests(SynchronousTestCase):
    def login(self, **settings: object) -> Client:
        server = Server(**settings)
        server.auth.mechanisms = ["PLAIN", "LOGIN"]
        client = server.connect()
        self.assertIn("250-AUTH PLAIN LOGIN", client.say("EHLO c.example"))
        return client

    def test_plain(self) -> None:
        client = self.login()
        self.assertEqual(client.say("AUTH PLAIN AHVzZXIAcGFzcw=="), "235 Authentication succeeded")
        self.assertEqual(client.protocol.dialogue.connection.origin.protocol, "esmtpa")
        self.assertEqual(client.say("AUTH PLAIN AHVzZXIAcGFzcw=="), "503 already authenticated")

    def test_login(self) -> None:
        client = self.login()
        self.assertEqual(client.say("AUTH LOGIN"), "334 VXNlciBOYW1l")
        self.assertEqual(client.say("dXNlcg=="), "334 UGFzc3dvcmQ=")
        self.assertEqual(client.say("cGFzcw=="), "235 Authentication succeeded")

    def test_faults(self) -> None:
        client = self.login()
        server = client.server
        for line, reply in (
            ("AUTH", "504  authentication mechanism not supported"),
            ("AUTH FOO", "504 FOO authentication mechanism not supported"),
            ("AUTH PLAIN !!!", "501 Invalid base64 data"),
            ("AUTH PLAIN AHVzZXIAcGFzcw", "501 Invalid base64 data"),
            ("AUTH PLAIN AHVzZXIAcGFzdw==", "535 Incorrect authentication data"),
            ("AUTH PLAIN", "334 "),
            ("*", "501 Authentication cancelled"),
            ("AUTH PLAIN", "334 "),
            ("A" * 12000, "535 Incorrect authentication data"),
            ("AUTH PLAIN", "334 "),
            ("A" * 17000, "500 command line too long"),
            ("NOOP", "250 OK"),
            ("MAIL FROM:<a@b>", "250 OK"),
            ("AUTH PLAIN", "503 not permitted in mail transaction"),
        ):
            self.assertEqual(client.say(line), reply, line[:40])
        self.assertIn(
            (
                "reject",
                "fake authenticator failed for (c.example) [192.0.2.1]: "
                "535 Incorrect authentication data (set_id=user)",
            ),
            server.log.events,
        )
        self.assertFalse(any("AHVzZX" in text for _, text in server.log.events))

    def test_backend_away(self) -> None:
        client = self.login()
        client.server.auth.away = True
        self.assertTrue(client.say("AUTH PLAIN AHVzZXIAcGFzcw==").startswith("454 "))

    def test_lost_connection_cancels(self) -> None:
        client = self.login()
        client.say("AUTH PLAIN")
        client.transport.loseConnection()
        self.assertEqual(client.server.auth.cancelled, 1)

    def test_failures_end_the_session(self) -> None:
        client = self.login()
        for _ in range(10):
            client.say("AUTH PLAIN AHVzZXIAcGFzdw==")
        self.assertTrue(client.closed)

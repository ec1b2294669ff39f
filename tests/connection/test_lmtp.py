"""LMTP (RFC 2033): dialogues in memory."""

from twisted.internet.address import UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.connection.lmtp import LmtpFactory
from mailsrv.interfaces import AclPhase, Action, Verdict
from mailsrv.mail.status import Status
from tests.connection.server import Client, Server, Transport
from tests.doubles.policy import FakePolicy

REFUSE = Verdict(Action.DENY, Status(550, 0, 0, "no"))


def connect(server: Server) -> Client:
    client = Client(server, factory=LmtpFactory(server.factory))
    client.read()
    return client


def begun(server: Server, *recipients: str) -> Client:
    """A client that has said all up to its RCPTs."""
    client = connect(server)
    client.say("LHLO c.example")
    assert client.say("MAIL FROM:<a@c.example>") == "250 2.1.0 OK"
    for recipient in recipients:
        client.say(f"RCPT TO:<{recipient}>")
    return client


class LmtpTests(SynchronousTestCase):
    def test_hello(self) -> None:
        """LHLO is the only greeting; what RFC 2033 5 asks for is offered."""
        server = Server(message_size_limit="1000")
        client = Client(server, factory=LmtpFactory(server.factory))
        self.assertEqual(client.read(), b"220 mx.example.com ESMTP\r\n")
        for word in ("EHLO", "HELO"):
            self.assertEqual(client.say(f"{word} c.example"), "500 5.5.2 unrecognized command")
        self.assertEqual(client.say("MAIL FROM:<a@b>"), "503 5.5.1 LHLO required")
        self.assertEqual(
            client.say("LHLO c.example"),
            "250-mx.example.com Hello c.example [192.0.2.1]|250-SIZE 1000|250-8BITMIME|250-DSN|"
            "250-PIPELINING|250-ENHANCEDSTATUSCODES|250-CHUNKING|250-SMTPUTF8|250 HELP",
        )
        self.assertEqual(
            client.say("HELP"),
            "214-2.0.0 Commands supported:|214 2.0.0 LHLO MAIL RCPT DATA BDAT NOOP QUIT RSET HELP",
        )
        self.assertEqual(client.say("QUIT"), "221 2.0.0 mx.example.com closing connection")

    def test_smtp_has_no_lhlo(self) -> None:
        client = Server().connect()
        client.read()
        self.assertEqual(client.say("LHLO c.example"), "500 unrecognized command")

    def test_a_reply_for_each_recipient(self) -> None:
        """The refused one has none, a repeated one has two (RFC 2033 4.2)."""
        server = Server()
        server.policy.verdicts[AclPhase.RCPT, "no@d.example"] = REFUSE
        client = begun(server)
        self.assertEqual(client.say("RCPT TO:<one@d.example>"), "250 2.1.5 Accepted")
        self.assertEqual(client.say("RCPT TO:<no@d.example>"), "550 5.0.0 no")
        client.say("RCPT TO:<two@d.example>")
        client.say("RCPT TO:<one@d.example>")
        client.say("DATA")
        self.assertEqual(
            client.raw(b"Subject: x\r\n\r\ntext\r\n.\r\n"),
            b"250 2.0.0 OK id=1aaaaa-000001-00\r\n" * 3,
        )
        (message,) = server.spool.messages
        self.assertEqual(message.origin.protocol, "lmtp")
        self.assertEqual(client.say("NOOP"), "250 2.0.0 OK")

    def test_pipelined_messages_keep_their_order(self) -> None:
        client = connect(Server())
        client.say("LHLO c.example")
        one = b"MAIL FROM:<>\r\nRCPT TO:<a@d.example>\r\nRCPT TO:<b@d.example>\r\nDATA\r\n"
        replies = client.raw(one)
        replies += client.raw(b"\r\n.\r\n" + one)
        replies += client.raw(b"\r\n.\r\nQUIT\r\n")
        codes = [line[:3] for line in replies.decode().splitlines()]
        each = ["250", "250", "250", "354", "250", "250"]
        self.assertEqual(codes, [*each, *each, "221"])

    def test_chunks(self) -> None:
        """Each BDAT has one reply, BDAT LAST one for each recipient (RFC 2033 4.3)."""
        client = begun(Server(), "one@d.example", "two@d.example")
        self.assertEqual(client.raw(b"BDAT 4\r\n\r\nab"), b"250 2.0.0 4 byte chunk received\r\n")
        chunk = b"250-2.0.0  2 byte chunk, total 6\r\n250 2.0.0 OK id=1aaaaa-000001-00\r\n"
        self.assertEqual(client.raw(b"BDAT 2 LAST\r\n\r\n"), chunk * 2)

    def test_refusals_of_the_message(self) -> None:
        """Whatever refuses it: as many replies as recipients, and the session goes on."""
        two = ("one@d.example", "two@d.example")

        def answer(server: Server, octets: bytes) -> list[str]:
            client = begun(server, *two)
            client.say("DATA")
            lines = client.raw(octets + b"\r\n.\r\n").decode().splitlines()
            self.assertEqual(client.say("RSET"), "250 2.0.0 Reset OK")
            self.assertEqual(server.spool.open, 0)
            return lines

        acl = Server()
        acl.policy.verdicts[AclPhase.DATA] = Verdict(Action.DENY, Status(550, 7, 1, "spam"))
        self.assertEqual(answer(acl, b""), ["550 5.7.1 spam"] * 2)
        broken = Server()

        def fail(phase: AclPhase, connection: object) -> None:
            if phase is AclPhase.DATA:
                raise RuntimeError("a bug")

        broken.policy.effect = fail
        problem = "451 4.3.0 Temporary local problem - please try later"
        self.assertEqual(answer(broken, b""), [problem] * 2)
        size = "552 5.3.4 Message size exceeds maximum permitted"
        self.assertEqual(answer(Server(message_size_limit="10"), b"\r\n" * 10), [size] * 2)
        full = Server()
        full.spool.full = Status(452, 0, 0, "disk full")
        self.assertEqual(answer(full, b"\r\ntext"), ["452 4.3.1 disk full"] * 2)
        thrown = Server()
        thrown.policy.verdicts[AclPhase.DATA] = Verdict(Action.DISCARD)
        self.assertEqual(answer(thrown, b""), ["250 2.0.0 OK id=1aaaaa-000001-00"] * 2)
        dropping = Server()
        dropping.policy.verdicts[AclPhase.DATA] = Verdict(Action.DROP, Status(554, 0, 0, "go"))
        client = begun(dropping, *two)
        client.say("DATA")
        self.assertEqual(client.raw(b"\r\n.\r\n"), b"554 5.0.0 go\r\n" * 2)
        self.assertTrue(client.closed)

    def test_discarded_recipients_have_their_replies(self) -> None:
        """An ACL that takes a recipient to throw it away has said 250 for it."""
        server = Server()
        server.policy.verdicts[AclPhase.RCPT, "gone@d.example"] = Verdict(Action.DISCARD)
        client = begun(server, "gone@d.example", "one@d.example")
        client.say("DATA")
        self.assertEqual(client.raw(b"\r\n.\r\n").count(b"250 2.0.0 OK id="), 2)

    def test_last_chunk_that_may_not_come(self) -> None:
        """The ACL for DATA refuses BDAT LAST: a reply for each recipient, none for its octets."""
        server = Server()
        server.policy.verdicts[AclPhase.PREDATA] = REFUSE
        client = begun(server, "one@d.example", "two@d.example")
        self.assertEqual(client.raw(b"BDAT 3 LAST\r\nabc"), b"550 5.0.0 no\r\n" * 2)
        self.assertEqual(client.say("NOOP"), "250 2.0.0 OK")

    def test_the_server_stops_in_the_middle(self) -> None:
        """A message that is coming is answered for each recipient; before it there is a 421."""
        server = Server()
        idle, recipients, data = (begun(server, "a@d.example", "b@d.example") for _ in range(3))
        idle.say("RSET")
        self.assertTrue(data.say("DATA").startswith("354 "))
        done = server.factory.drain()
        for client in (idle, recipients):
            self.assertRegex(client.read().decode(), r"^421 4\.[0-9]\.[0-9] ")
            self.assertFalse(client.transport.connected)
        self.assertNoResult(done)
        replies = data.say("Subject: s\r\n\r\nx\r\n.").split("|")
        self.assertRegex(replies[0], r"^250 2\.0\.0 OK id=")
        self.assertEqual(replies[0], replies[1])
        self.assertRegex(replies[2], r"^421 4\.")
        self.successResultOf(done)
        self.assertEqual(len(server.spool.messages), 1)

    def test_one_refused_among_pipelined(self) -> None:
        """Replies come in order: one for each command, then one for each that was taken."""
        server = Server()
        server.policy.verdicts[AclPhase.RCPT, "no@d.example"] = REFUSE
        client = connect(server)
        client.say("LHLO c.example")
        octets = b"".join(b"RCPT TO:<%s@d.example>\r\n" % name for name in (b"a", b"no", b"b"))
        said = client.raw(b"MAIL FROM:<>\r\n" + octets + b"DATA\r\n").decode()
        codes = [line[:10] for line in said.split("\r\n")]
        self.assertEqual(codes[:4], ["250 2.1.0 ", "250 2.1.5 ", "550 5.0.0 ", "250 2.1.5 "])
        self.assertTrue(codes[4].startswith("354"))
        said = client.raw(b"Subject: s\r\n\r\nx\r\n.\r\nMAIL FROM:<>\r\n").decode()
        self.assertEqual([line[:10] for line in said.split("\r\n")[:3]],
                         ["250 2.0.0 ", "250 2.0.0 ", "250 2.1.0 "])  # fmt: skip

    def test_no_recipient_no_message(self) -> None:
        server = Server()
        server.policy.verdicts[AclPhase.RCPT] = REFUSE
        client = begun(server, "one@d.example")
        lines = client.say("DATA").split("|")
        self.assertEqual({line[:4] + line[4:9] for line in lines}, {"503-5.5.1", "503 5.5.1"})

    def test_local_socket(self) -> None:
        """A client on a Unix socket has no address; STARTTLS would protect nothing."""
        server = Server(tls=object())
        transport = Transport()
        transport.peerAddr = UNIXAddress("")
        transport.hostAddr = UNIXAddress("/run/lmtp")
        protocol = transport.protocol = LmtpFactory(server.factory).buildProtocol(None)
        protocol.makeConnection(transport)
        protocol.dataReceived(b"LHLO here\r\n")
        self.assertNotIn(b"STARTTLS", transport.value())
        self.assertEqual(protocol.dialogue.host, "local process")

    def test_names_of_the_protocol(self) -> None:
        """``$received_protocol`` is that of RFC 3848."""
        client = connect(Server())
        client.say("LHLO c.example")
        dialogue = client.protocol.dialogue
        origin = dialogue.connection.origin
        for cipher, authenticator, name in (
            ("", "", "lmtp"),
            ("TLS1.3:X:256", "", "lmtps"),
            ("", "plain", "lmtpa"),
            ("TLS1.3:X:256", "plain", "lmtpsa"),
        ):
            origin.tls_cipher, origin.authenticator = cipher, authenticator
            dialogue.name_protocol()
            self.assertEqual(origin.protocol, name)


class PolicyTests(SynchronousTestCase):
    def test_the_acls_are_those_of_smtp(self) -> None:
        """Each command asks the ACL that it has in SMTP, LHLO that of HELO."""
        server = Server()
        policy: FakePolicy = server.policy
        client = begun(server, "one@d.example", "one@d.example")
        client.say("DATA")
        client.raw(b"\r\n.\r\n")
        client.say("QUIT")
        self.assertEqual(
            [phase.name for phase, _ in policy.calls],
            ["CONNECT", "HELO", "MAIL", "RCPT", "RCPT", "PREDATA", "DATA", "QUIT"],
        )

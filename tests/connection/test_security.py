"""Tests of mailsrv.connection: relay tricks, policies that hang, half chunks, mutations."""

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.acl.run import _routed
from mailsrv.connection.protocol import WORK_LIMIT
from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import AclPhase
from mailsrv.mail.message import Recipient
from mailsrv.mail.status import LOCAL_PROBLEM
from mailsrv.routing.route import begin
from tests.connection.mutate import Mutator
from tests.connection.server import Client, Server, Transport

# Everything that has made some server relay: percent hack, bang path, source route, quoting ...
DOMAIN = r"^(?:[a-z0-9.\x80-\xff-]+|\[[0-9a-f.:]+\])$"
TRICKS = [
    "<a%evil.example@local.example>", "<evil.example!a@local.example>", "<a%evil.example>",
    "<@local.example:a@evil.example>", "<@local.example,@x:a@evil.example>",
    '<"a@evil.example"@local.example>', '<"a@evil.example">', "<a@evil.example@local.example>",
    "<a@local.example@evil.example>", "<%evil.example%a@local.example>",
    '<"a@evil.example>"@x.y>', "<a@[192.0.2.7]>", "<a@[127.0.0.1]>", "<a@evil.example.>",
    "<a@local.example.evil.example>", "<a@sub.local.example>", "<a@xlocal.example>",
    "<a@LOCAL.example>", "<a@local.example\t>", "<a@local.example \t@evil.example>",
    "<a@local.example\x00@evil.example>", "<a(@evil.example)@x.y>",
    "<a@local.example(>)@evil.example>", "<a\\@evil.example@local.example>",
    "<a@l\xd0\xbecal.example>", "<a\xef\xbc\xa0evil.example@local.example>",
    "<a@local\xe3\x80\x82example>", "<a@local\xe2\x80\x8b.example>",
    "<a@local.example;@evil.example>", "<a@local.example,b@evil.example>",
    "<a@local.example><b@evil.example>", "<>", "<postmaster>", "<postmaster@>", "<a>",
    "a@evil.example", "<<a@evil.example>", "<a@evil.example>>",
    '<"a"@local.example@evil.example>', '<"\\"@evil.example"@x.y>',
    '<"a\\">@evil.example,\\""@local.example>', "<:include:/etc/passwd@local.example>",
    "<|/bin/sh@local.example>", "</etc/passwd@local.example>", "<;id@local.example>",
]  # fmt: skip


class RelayTests(SynchronousTestCase):
    def test_checked_is_routed(self) -> None:
        """The address and domain that the ACL saw are those that are stored and routed."""
        for options in (
            {},
            {"strip_trailing_dot": True, "strip_excess_angle_brackets": True,
             "allow_domain_literals": True, "recipient_unqualified_hosts": "*"},
        ):  # fmt: skip
            server = Server(**options)
            client = server.connect()
            client.say("EHLO c")
            for utf8 in ("", " SMTPUTF8"):
                client.say("MAIL FROM:<s@x.y>" + utf8)
                for trick in TRICKS:
                    server.policy.calls.clear()
                    transaction = client.protocol.dialogue.connection.transaction
                    transaction.recipients.clear()
                    taken = client.say(f"RCPT TO:{trick}") == "250 Accepted"
                    checked = [a for phase, a in server.policy.calls if phase is AclPhase.RCPT]
                    kept = [recipient.address for recipient in transaction.recipients]
                    self.assertEqual(checked, kept, trick)
                    self.assertEqual(len(kept), taken, trick)
                    for address in kept:
                        acl, routed = _routed(address), begin(Recipient(address), address)
                        self.assertEqual(
                            (acl.local_part, acl.domain), (routed.local_part, routed.domain)
                        )
                        self.assertNotIn("@", routed.domain)
                        self.assertRegex(
                            routed.domain, r"^(?:[a-z0-9.\x80-\xff-]+|\[[0-9a-f.:]+\])$"
                        )
                        self.assertFalse(routed.domain.endswith("."))
                client.say("RSET")

    def test_source_route_names_its_end(self) -> None:
        server = Server()
        client = server.connect()
        client.envelope()
        client.say("RCPT TO:<@local.example:a@evil.example>")
        self.assertEqual(server.policy.calls[-1], (AclPhase.RCPT, "a@evil.example"))


class HungPolicyTests(SynchronousTestCase):
    def hang(self, phase: AclPhase) -> tuple[Server, Client]:
        server = Server(smtp_enforce_sync=False)
        server.policy.waits.add(phase)
        return server, server.connect()

    def test_command(self) -> None:
        """A command that waits for ever is answered 451 in the end, and the session goes on."""
        server, client = self.hang(AclPhase.RCPT)
        client.say("EHLO c")
        client.say("MAIL FROM:<a@b>")
        self.assertEqual(client.say("RCPT TO:<a@b>"), "")
        for _ in range(3):
            server.clock.advance(WORK_LIMIT / 4)
            client.raw(b"NOOP\r\n")  # a client that sends on does not make it longer
        self.assertEqual(client.read(), b"")
        server.clock.advance(WORK_LIMIT / 4)
        self.assertEqual(
            client.read(), f"451 {LOCAL_PROBLEM.text}\r\n".encode() + b"250 OK\r\n" * 3
        )
        server.clock.advance(301)
        self.assertIn(b"421 ", client.read())  # the client's own time counts again

    def test_connection(self) -> None:
        server, client = self.hang(AclPhase.CONNECT)
        server.clock.advance(WORK_LIMIT)
        self.assertEqual(client.read()[:4], b"451 ")
        self.assertTrue(client.closed)

    def test_one_that_cannot_be_cancelled(self) -> None:
        """If even the cancelled command waits on, the connection is dropped."""
        server, client = self.hang(AclPhase.RCPT)
        client.say("EHLO c")
        client.say("MAIL FROM:<a@b>")

        async def check(phase: AclPhase, connection: object, address: str = "") -> None:
            while True:
                try:
                    await Deferred()
                except BaseException:
                    if client.closed:
                        raise

        server.parts.policy.check = check
        client.say("RCPT TO:<a@b>")
        server.clock.advance(WORK_LIMIT)
        self.assertTrue(client.closed)

    def test_storing_is_left_alone(self) -> None:
        server = Server()
        gate = server.spool.gate = Deferred()
        client = server.connect()
        client.envelope()
        client.say("DATA")
        client.raw(b"A: b\r\n\r\nx\r\n.\r\n")
        server.clock.advance(2 * WORK_LIMIT)
        gate.callback(None)
        self.assertIn(b"250 OK id=", client.read())
        self.assertEqual(len(server.spool.messages), 1)


class ChunkTests(SynchronousTestCase):
    def test_failing_chunk_that_is_not_the_last(self) -> None:
        """After it only RSET helps; what was received is gone, further chunks are swallowed."""
        server = Server(message_size_limit="20")
        client = server.connect()
        client.envelope()
        self.assertEqual(client.raw(b"BDAT 6\r\nA: b\r\n"), b"250 6 byte chunk received\r\n")
        self.assertEqual(
            client.raw(b"BDAT 30\r\n" + b"QUIT\r\n" * 5),
            b"552 Message size exceeds maximum permitted\r\n",
        )
        self.assertEqual(server.spool.open, 0)
        reply = client.raw(b"BDAT 12 LAST\r\nQUIT\r\nNOOP\r\n")
        self.assertTrue(reply.startswith(b"503 "), reply)
        self.assertFalse(client.closed)
        client.say("RSET")
        client.envelope()

    def test_full_disk_within_chunks(self) -> None:
        server = Server()
        client = server.connect()
        client.envelope()
        client.raw(b"BDAT 9\r\nA: b\r\n\r\nx")
        server.spool.full = LOCAL_PROBLEM
        self.assertEqual(client.raw(b"BDAT 5\r\nQUITx")[:4], b"451 ")
        self.assertEqual((server.spool.open, server.spool.messages), (0, []))
        server.spool.full = None
        client.say("RSET")
        client.envelope()


class UnixPeerTests(SynchronousTestCase):
    def test_session(self) -> None:
        """A peer on a Unix socket has no address; nothing that needs one breaks."""
        server = Server(smtp_accept_max_per_host="1", host_lookup="*", helo_try_verify_hosts="*")
        for _ in range(2):
            transport = Transport()
            transport.peerAddr = transport.hostAddr = UNIXAddress("/run/x")
            protocol = server.factory.buildProtocol(None)
            transport.protocol = protocol
            protocol.makeConnection(transport)
            self.assertTrue(transport.value().startswith(b"220 "))
            protocol.dataReceived(b"EHLO c\r\n")
            protocol.dataReceived(b"MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\n")
            protocol.dataReceived(b"A: b\r\n\r\nx\r\n.\r\nQUIT\r\n")
            self.assertIn(b"250 OK id=", transport.value())
        self.assertEqual([m.origin.host_address for m in server.spool.messages], ["", ""])
        self.assertEqual(server.log.failures, [])


class MutationTests(SynchronousTestCase):
    def test_sessions(self) -> None:
        """Mutated sessions: no unexpected error, nothing left behind, no reply that is none."""
        Mutator(seed=1).run(20_000)

    def test_finds_faults(self) -> None:
        """The test is able to fail."""
        mutator = Mutator(seed=2)
        mutator.server.policy.error = TypeError("a bug")
        self.assertRaises(AssertionError, mutator.run, 50)
        mutator = Mutator(seed=3)
        mutator.server.policy.error = TemporaryFailure()
        mutator.run(50)

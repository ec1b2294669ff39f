"""The socket of local submission against those who mean harm, or are slow: who costs what."""

from __future__ import annotations

import json
import pwd

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.connection.local.frames import END, FRAME_LIMIT, REQUEST_LIMIT, Request, frame
from mailsrv.connection.local.protocol import IDLE, MOST, MOST_OF_USER, WHOLE, LocalFactory
from tests.connection.server import Server, Transport

UID = pwd.getpwnam("daemon").pw_uid
REQUEST = Request(recipients=("bob",))
MESSAGE = frame(b"Subject: s\n\nbody\n") + END


class Caller:
    """A program that is connected."""

    def __init__(self, factory: LocalFactory) -> None:
        self.transport = Transport()
        self.protocol = factory.buildProtocol(None)
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)

    def send(self, octets: bytes) -> bytes:
        self.protocol.dataReceived(octets)
        return self.said()

    def said(self) -> bytes:
        octets = self.transport.value()
        self.transport.clear()
        return octets.removeprefix(b"220 mailsrv\r\n")

    def go(self) -> None:
        self.transport.loseConnection()


class ProtocolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.server.factory.clock = self.server.clock

        self.who: tuple[int, int] | None = (UID, UID)
        self.factory = LocalFactory(self.server.factory, lambda transport: self.who)

    def call(self) -> Caller:
        return Caller(self.factory)

    def submit(self, request: Request = REQUEST) -> bytes:
        return self.call().send(request.octets() + MESSAGE)

    def test_the_kernel_says_who(self) -> None:
        """Whatever the request says of a sender, the message is the caller's."""
        lie = {"uid": 0, "login": "root", "trusted": True, "caller": "root"}
        told = json.loads(Request(recipients=("b",), sender="root@example.com").octets()[4:])
        answer = self.call().send(frame(json.dumps(told | lie).encode()) + MESSAGE)
        self.assertTrue(answer.startswith(b"250 OK"), answer)
        (message,) = self.server.spool.messages
        self.assertEqual(message.sender, "daemon@example.com")
        self.assertEqual(message.origin.ident, "daemon")

    def test_nobody_without_credentials(self) -> None:
        self.who = None
        self.assertTrue(self.submit().startswith(b"421 "))
        self.who = (4_000_000, 4_000_000)
        self.assertTrue(self.submit().startswith(b"550 no user name found for uid 4000000"))
        self.assertEqual(self.server.spool.messages, [])

    def test_a_user_has_so_many_connections(self) -> None:
        """Others can submit, and root always; what is closed is free again."""
        mine = [self.call() for _ in range(MOST_OF_USER)]
        self.assertTrue(self.call().said().startswith(b"421 "))
        self.who = (pwd.getpwnam("games").pw_uid, 0)
        self.assertTrue(self.submit().startswith(b"250 "))
        mine.pop().go()
        self.who = (UID, UID)
        self.assertTrue(self.submit().startswith(b"250 "))

    def test_all_users_together_have_so_many(self) -> None:
        for user in range(MOST // MOST_OF_USER):
            self.who = (10_000 + user, 0)
            for _ in range(MOST_OF_USER):
                self.call()
        self.who = (UID, UID)
        self.assertTrue(self.submit().startswith(b"421 "))
        self.who = (0, 0)
        self.assertTrue(self.submit().startswith(b"250 "))

    def test_what_is_no_request(self) -> None:
        """It is refused, told in the log, and holds nothing."""
        good = json.loads(REQUEST.octets()[4:])
        for octets in (
            b"GET / HTTP/1.0\r\n\r\n",
            frame(b"{"),
            frame(b"[" * 100_000),
            frame(b"[]"),
            frame(b"null"),
            (REQUEST_LIMIT + 1).to_bytes(4, "big"),
            frame(json.dumps(good | {"recipients": "bob"}).encode()) + frame(b"\xff"),
            frame(json.dumps(good | {"recipients": [1]}).encode()),
            frame(json.dumps(good | {"recipients": ["\u2028"]}).encode()),
            frame(json.dumps(good | {"sender": 1}).encode()),
            frame(json.dumps(good | {"extract": "yes"}).encode()),
            frame(json.dumps(good | {"protocol": None}).encode()),
            REQUEST.octets() + (FRAME_LIMIT + 1).to_bytes(4, "big"),
        ):
            caller = self.call()
            answer = caller.send(octets)
            self.assertRegex(answer, rb"^500 not understood\r\n$", octets[:40])
            caller.go()
        self.assertEqual((self.server.spool.messages, self.server.spool.open), ([], 0))
        self.assertEqual(self.server.log.failures, [])

    def test_a_request_of_another_version(self) -> None:
        """What is not said is as by default; what is not known is not heard."""
        answer = self.call().send(frame(b'{"recipients": ["bob"], "new": [1]}') + MESSAGE)
        self.assertTrue(answer.startswith(b"250 "), answer)

    def test_the_slow_are_cut(self) -> None:
        """One who says nothing, and one who says an octet now and then for an hour."""
        silent, drip = self.call(), self.call()
        drip.send(REQUEST.octets() + frame(b"x")[:4])
        self.server.clock.advance(IDLE - 1)
        drip.send(b"")
        self.assertTrue(silent.transport.connected)
        self.server.clock.advance(2)
        self.assertFalse(silent.transport.connected)
        self.assertTrue(drip.transport.connected)
        for _ in range(int(WHOLE // 100) + 1):
            drip.send(frame(b"x\n"))
            self.server.clock.advance(100)
        self.assertFalse(drip.transport.connected)
        self.assertEqual((self.server.spool.messages, self.server.spool.open), ([], 0))

    def test_half_a_message_is_none(self) -> None:
        caller = self.call()
        caller.send(REQUEST.octets() + frame(b"Subject: s\n\nhalf\n"))
        caller.protocol.readConnectionLost()
        caller.go()
        self.assertEqual((self.server.spool.messages, self.server.spool.open), ([], 0))

    def test_what_follows_the_answer_is_nothing(self) -> None:
        """No second message, and no SMTP, comes over one connection."""
        caller = self.call()
        caller.send(REQUEST.octets() + MESSAGE)
        self.assertEqual(caller.send(REQUEST.octets() + MESSAGE), b"")
        self.assertEqual(caller.send(b"QUIT\r\n"), b"")
        self.assertEqual(len(self.server.spool.messages), 1)

    def test_smtp_of_a_user(self) -> None:
        """``-bs``: MAIL names no other sender; AUTH= and XCLIENT make nobody else."""
        caller = self.call()
        caller.send(Request(smtp=True).octets())
        for command in (b"EHLO me", b"MAIL FROM:<root@example.com> AUTH=root@example.com",
                        b"RCPT TO:<bob@example.com>", b"DATA"):  # fmt: skip
            answer = caller.send(command + b"\r\n")
            self.assertIn(answer[:1], (b"2", b"3"), (command, answer))
        self.assertTrue(caller.send(b"Subject: s\r\n\r\nx\r\n.\r\n").startswith(b"250 OK"))
        (message,) = self.server.spool.messages
        self.assertEqual(message.sender, "daemon@example.com")
        self.assertEqual(message.origin.authenticated_sender, "")
        self.assertTrue(caller.send(b"XCLIENT NAME=x ADDR=1.2.3.4\r\n").startswith(b"5"))

    def test_options_of_smtp(self) -> None:
        """-F, and -odq; an untrusted user's null sender is theirs, as exim4 has it."""
        caller = self.call()
        caller.send(Request(smtp=True, name="Full Name", queue_only=True).octets())
        for command in (b"EHLO me", b"MAIL FROM:<>", b"RCPT TO:<bob@example.com>", b"DATA"):
            caller.send(command + b"\r\n")
        caller.send(b"Subject: s\r\n\r\nx\r\n.\r\n")
        (message,) = self.server.spool.messages
        self.assertEqual((message.sender, message.queue_only), ("daemon@example.com", True))
        (shown,) = [each.value.strip() for each in message.headers if each.called("From")]
        self.assertEqual(shown, "Full Name <daemon@example.com>")

    def test_draining(self) -> None:
        """A server that stops takes nobody; one whose message is not whole is cut."""
        half = self.call()
        half.send(REQUEST.octets() + frame(b"Subject: s\n"))
        done = self.factory.drain()
        self.assertFalse(half.transport.connected)
        self.successResultOf(done)
        self.assertTrue(self.submit().startswith(b"421 "))

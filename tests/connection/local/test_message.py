"""Messages of local programs: who is the sender, what the header says, what the ACLs may do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.connection.local.frames import Request
from mailsrv.connection.local.message import LocalMessage
from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import AclPhase, Action, Verdict
from mailsrv.mail.caller import Caller
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import InlineBody, Message
from mailsrv.mail.status import Status
from mailsrv.wire import command as wire
from tests.connection.server import Server

ALICE = Caller(1001, "alice", "Alice A")
ROOT = Caller(0, "root", "root", trusted=True)
BODY = b"\nhello\n"


class LocalMessageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()

    def submit(
        self,
        text: bytes = BODY,
        caller: Caller = ALICE,
        to: tuple[str, ...] = ("bob",),
        **more: object,
    ) -> str:
        """Submit; returns the reply."""
        session = LocalMessage(
            self.server.parts,
            caller,
            Request(recipients=to, **more),  # type: ignore[arg-type]
        )

        async def run() -> None:
            await session.begin()
            for octet in (text[i : i + 1] for i in range(len(text))):
                if session.reception is not None:
                    await session.take(octet)
            if session.reception is not None:
                await session.take(b"")

        self.successResultOf(Deferred.fromCoroutine(run()))
        return session.answer.decode("latin-1")

    def header(self) -> dict[str, str]:
        return {h.name: h.value.strip() for h in self.server.spool.messages[-1].headers}

    def sender(self, **more: object) -> str:
        self.assertTrue(self.submit(**more).startswith("250 OK id="))  # type: ignore[arg-type]
        return self.server.spool.messages[-1].sender

    def test_message_is_qualified_and_completed(self) -> None:
        self.assertTrue(self.submit().startswith("250 OK id="))
        (message,) = self.server.spool.messages
        self.assertEqual(message.sender, "alice@example.com")
        self.assertEqual([r.address for r in message.recipients], ["bob@example.com"])
        self.assertEqual(self.header()["From"], "Alice A <alice@example.com>")
        self.assertIn("Date", self.header())
        self.assertIn("Message-Id", self.header())
        self.assertEqual(message.origin.ident, "alice")
        self.assertEqual(message.origin.protocol, "local")
        self.assertEqual(message.body.inline, b"hello\r\n")  # type: ignore[attr-defined]
        self.assertEqual(self.server.queue.ids, [message.id])

    def test_untrusted_caller_sets_no_sender_but_the_null_one(self) -> None:
        self.assertEqual(self.sender(sender="boss@example.com"), "alice@example.com")
        self.assertEqual(self.sender(sender="<>"), "")
        self.assertEqual(self.sender(sender=""), "")

    def test_trusted_caller_sets_any_sender(self) -> None:
        self.assertEqual(self.sender(sender="x@y.example", caller=ROOT), "x@y.example")
        self.assertEqual(self.sender(sender="x", caller=ROOT), "x@example.com")

    def test_untrusted_set_sender_allows_what_it_lists(self) -> None:
        self.server = Server(untrusted_set_sender="*@lists.example")
        self.assertEqual(self.sender(sender="a@lists.example"), "a@lists.example")
        self.assertEqual(self.sender(sender="a@other.example"), "alice@example.com")

    def test_spoofed_from_gets_a_sender_field(self) -> None:
        self.submit(b"From: boss@example.com\nSender: boss@example.com\n\nx\n")
        self.assertEqual(self.header()["Sender"], "Alice A <alice@example.com>")

    def test_trusted_caller_gets_no_sender_field(self) -> None:
        self.submit(b"From: boss@example.com\n\nx\n", ROOT)
        self.assertNotIn("Sender", self.header())

    def test_local_from_check_off_and_sender_retained(self) -> None:
        self.server = Server(local_from_check=False, local_sender_retain=True)
        self.submit(b"From: boss@example.com\nSender: other@example.com\n\nx\n")
        self.assertEqual(self.header()["Sender"], "other@example.com")

    def test_name_injects_no_field(self) -> None:
        caller = Caller(1001, "alice", "A\nBcc: all@example.com\r\nX: y")
        self.submit(caller=caller)
        self.assertNotIn("Bcc", self.header())
        self.assertNotIn("X", self.header())

    def test_sender_injects_nothing(self) -> None:
        for bad in ("a@b\nBcc: x@y", "a b c", "a@b> SIZE=1", "x" * 5000 + "@y", "a@b,c@d", "a@b\0"):
            reply = self.submit(sender=bad, caller=ROOT)
            if reply.startswith("250"):
                self.assertNotRegex(self.server.spool.messages[-1].sender, r"[\r\n\0 >]")
            else:
                self.assertEqual(reply[:3], "501")

    def test_recipients_are_taken_from_the_header_and_bcc_goes(self) -> None:
        text = b"To: b, c@x.example\nCc: (it) D <d@x.example>\nBcc: e\n\nx\n"
        self.submit(text, to=(), extract=True)
        (message,) = self.server.spool.messages
        wanted = ["b@example.com", "c@x.example", "d@x.example", "e@example.com"]
        self.assertEqual([r.address for r in message.recipients], wanted)
        self.assertNotIn("Bcc", self.header())

    def test_bcc_stays_without_extraction(self) -> None:
        self.submit(b"Bcc: e@x.example\n\nx\n")
        self.assertIn("Bcc", self.header())

    def test_resent_fields_are_those_that_count(self) -> None:
        text = b"Resent-To: r@x.example\nTo: t@x.example\nBcc: s@x.example\n\nx\n"
        self.submit(text, to=(), extract=True)
        (message,) = self.server.spool.messages
        self.assertEqual([r.address for r in message.recipients], ["r@x.example"])

    def test_arguments_are_taken_out_of_what_the_header_says(self) -> None:
        self.submit(b"To: b@x.example, c@x.example\n\nx\n", to=("b@X.example",), extract=True)
        (message,) = self.server.spool.messages
        self.assertEqual([r.address for r in message.recipients], ["c@x.example"])

    def test_arguments_are_added_if_the_configuration_says_so(self) -> None:
        self.server = Server(extract_addresses_remove_arguments=False)
        self.submit(b"To: c@x.example\n\nx\n", to=("b@x.example",), extract=True)
        (message,) = self.server.spool.messages
        self.assertEqual({r.address for r in message.recipients}, {"b@x.example", "c@x.example"})

    def test_without_recipients_nothing_is_taken(self) -> None:
        reply = self.submit(b"Subject: x\n\nx\n", to=(), extract=True)
        self.assertTrue(reply.startswith("550 no recipients"), reply)
        self.assertEqual((self.server.spool.messages, self.server.spool.open), ([], 0))

    def test_too_many_recipients_and_octets_are_refused(self) -> None:
        self.server = Server(recipients_max=2, message_size_limit="1K")
        self.assertEqual(self.submit(to=("a", "b", "c"))[:3], "552")
        self.assertEqual(self.submit(b"\n" + b"x" * 2000)[:3], "552")
        self.assertEqual(self.server.spool.messages, [])

    def test_acl_denies_local_submission(self) -> None:
        refused = Verdict(Action.DENY, Status(550, 0, 0, "AL01"))
        self.server.policy.verdicts = {AclPhase.NOT_SMTP: refused}
        self.assertEqual(self.submit(), "550 AL01\r\n")
        self.assertEqual((self.server.spool.messages, self.server.spool.open), ([], 0))
        # what the one at the start says is ignored (44.3)
        self.server.policy.verdicts = {AclPhase.NOT_SMTP_START: refused}
        self.assertTrue(self.submit().startswith("250 OK"))

    def test_batch(self) -> None:
        """It is no SMTP: the same ACLs; its null sender is the caller unless they are trusted."""
        for caller, sender, wanted in (
            (ALICE, "<>", "alice@example.com"),
            (ALICE, "x@y.example", "alice@example.com"),
            (ROOT, "<>", ""),
            (ROOT, "x@y.example", "x@y.example"),
        ):
            self.submit(
                b"From me Mon Jan  1 00:00:00 2020\n\nx\n", caller, batch=True, sender=sender
            )
            message = self.server.spool.messages[-1]
            self.assertEqual((message.sender, message.origin.protocol), (wanted, "local-bsmtp"))
            assert isinstance(message.body, InlineBody)
            self.assertTrue(message.body.inline.startswith(b"From me "))  # no line of UUCP

    def test_no_qualification(self) -> None:
        """-bnq: an unqualified recipient is refused (5.2), the header stays as it is."""
        self.assertEqual(self.submit(qualify=False)[:3], "501")
        self.submit(b"To: b\n\nx\n", to=("b@x.example",), qualify=False)
        self.assertEqual(self.header()["To"], "b")

    def test_acls_run_in_their_order(self) -> None:
        self.submit()
        phases = [phase for phase, _ in self.server.policy.calls]
        self.assertEqual(phases, [AclPhase.NOT_SMTP_START, AclPhase.NOT_SMTP])

    def test_protocol_is_set_by_trusted_callers_alone(self) -> None:
        for caller, wanted in ((ALICE, "local"), (ROOT, "uucp")):
            self.submit(caller=caller, protocol="uucp")
            self.assertEqual(self.server.spool.messages[-1].origin.protocol, wanted)

    def test_held_message_is_not_given_to_the_queue(self) -> None:
        session = LocalMessage(
            self.server.parts, ALICE, Request(recipients=("b",)), id="1bbbbb-000001-00", hold=60.0
        )

        async def run() -> None:
            await session.begin()
            await session.take(b"\nx\n")
            await session.take(b"")

        self.successResultOf(Deferred.fromCoroutine(run()))
        assert session.stored is not None
        self.assertEqual(session.stored.id, "1bbbbb-000001-00")
        self.assertEqual(self.server.queue.ids, [])

    # --- what exim4 does with the same (compared with the real program) -----------------

    def test_bad_recipients_of_the_header_are_told(self) -> None:
        """The others get the message; the sender gets one about what is no address."""
        told: list[tuple[str, ...]] = []

        async def failure(
            to: str, subject: str, lines: Sequence[str], original: bytes
        ) -> Message | None:
            told.append((to, subject, "\n".join(lines), original.decode()))
            return None

        self.server.parts.failure = failure
        text = b"To: t@x.example, broken@@x\nSubject: s\n\nbody\n"
        reply = self.submit(text, to=(), extract=True)
        self.assertIn("250-broken@@x: domain missing or malformed\r\n250 OK id=", reply)
        (message,) = self.server.spool.messages
        self.assertEqual([r.address for r in message.recipients], ["t@x.example"])
        ((to, subject, lines, original),) = told
        self.assertEqual(to, "alice@example.com")
        self.assertEqual(subject, "Mail failure - malformed recipient address")
        self.assertIn("\n  broken@@x: domain missing or malformed\n", lines)
        self.assertEqual(original.partition("\r\n\r\n")[2], "body\r\n")
        reply = self.submit(b"To: broken@@x, a b@c\n\nx\n", to=(), extract=True)
        self.assertTrue(reply.startswith("550-bad addresses found in headers\r\n"), reply)
        self.assertIn("550 a b@c: missing or malformed local part", reply)

    def test_a_message_that_is_delivered_while_its_sender_is_told(self) -> None:
        """It was taken: that its body is gone by then makes no failure of it."""
        told: list[bytes] = []

        async def failure(to: str, subject: str, lines: Sequence[str], original: bytes) -> None:
            told.append(original)

        async def gone(body: object) -> AsyncIterator[bytes]:
            raise TemporaryFailure(reason="no such file")
            yield b""

        self.server.parts.failure = failure
        with mock.patch.object(InlineBody, "chunks", gone):
            text = b"To: t@x.example, broken@@x\n\nbody\n"
            self.assertIn("250 OK id=", self.submit(text, to=(), extract=True))
        self.assertIn(b"not there any more", told[0])

    def test_very_many_recipients_are_read_once(self) -> None:
        """Each costs the same, however many there are: one call cannot hold up the server."""
        text = b"To: " + b",".join(b"u%d@b.c" % number for number in range(2_000)) + b"\n\nx\n"
        session = LocalMessage(self.server.parts, ALICE, Request(extract=True, notify="NEVER"))

        async def run() -> None:
            await session.begin()
            await session.take(text)
            await session.take(b"")

        with mock.patch.object(wire, "parse_notify", wraps=wire.parse_notify) as read:
            self.successResultOf(Deferred.fromCoroutine(run()))
        self.assertEqual(len(self.server.spool.messages[-1].recipients), 2_000)
        self.assertLessEqual(read.call_count, 2)  # once for all of them

    def test_a_bad_argument_is_no_silence(self) -> None:
        for bad in ("y@a.example, x@@b", "x@@a.example", "", "a b@c.example"):
            reply = self.submit(to=("good@x.example", bad))
            self.assertEqual(reply[:3], "501", bad)
            self.assertIn("malformed recipient address", reply)
        self.assertEqual(self.server.spool.messages, [])

    def test_from_of_a_trusted_caller_has_their_name_only_if_they_give_it(self) -> None:
        """A list manager's own name is not its subscribers'."""
        for named, wanted in ((False, "x@y.example"), (True, "root <x@y.example>")):
            caller = Caller(0, "root", "root", trusted=True, named=named)
            self.submit(caller=caller, sender="x@y.example")
            self.assertEqual(self.header()["From"], wanted)
        self.submit(caller=ROOT, sender="<>")
        self.assertNotIn("From", self.header())
        self.submit(sender="<>")
        self.assertEqual(self.header()["From"], "Alice A <alice@example.com>")

    def test_resent_fields_of_the_caller_stay(self) -> None:
        text = b"Resent-From: r@x.example\nResent-Sender: no@x.example\nSender: z@x.example\n\nx\n"
        self.submit(text)
        names = [h.name for h in self.server.spool.messages[-1].headers]
        self.assertEqual(names.count("Resent-From"), 1)
        self.assertEqual(self.header()["Sender"], "z@x.example")
        self.assertEqual(self.header()["Resent-Sender"], "Alice A <alice@example.com>")

    def test_from_without_a_domain_is_the_caller(self) -> None:
        self.submit(b"From: alice\n\nx\n")
        self.assertNotIn("Sender", self.header())

    def test_no_fixups_if_an_acl_says_so(self) -> None:
        def no_fixups(phase: AclPhase, connection: Connection) -> None:
            assert connection.transaction is not None
            connection.transaction.no_fixups = True

        self.server.policy.effect = no_fixups
        self.submit(b"From: boss\n\nx\n")
        self.assertEqual(self.header(), {"From": "boss@example.com"})

    def test_a_line_of_uucp(self) -> None:
        """It goes; of a trusted caller without -f it names the sender.  Others are kept."""
        line = b"From me@uucp.example Mon Jan  1 00:00:00 2020\n"
        for caller, more, wanted in (
            (ALICE, {}, "alice@example.com"),
            (ROOT, {}, "me@uucp.example"),
            (ROOT, {"sender": "x@y.example"}, "x@y.example"),
        ):
            self.submit(line + b"Subject: s\n\nb\n", caller, **more)
            self.assertEqual(self.server.spool.messages[-1].sender, wanted)
            self.assertEqual(self.header()["Subject"], "s")
        for kept in (b"From : me@x.example\n", b"From nobody\n", b">From me\n"):
            self.submit(kept + b"Subject: s\n\nb\n")
            (*_, message) = self.server.spool.messages
            assert isinstance(message.body, InlineBody)
            whole = "".join(h.text + "\n" for h in message.headers).encode() + message.body.inline
            self.assertIn(kept.strip(), whole)

    def test_origin_is_set_by_trusted_callers_alone(self) -> None:
        """-oM: with a host it is no local message, and gets nothing that it lacks."""
        given = {"host_address": "192.0.2.7.25", "host_name": "h.example", "ident": "me",
                 "interface": "192.0.2.1", "authenticator": "a", "authenticated_id": "i",
                 "authenticated_sender": "s@x.example"}  # fmt: skip
        self.submit(b"Subject: s\n\nx\n", ROOT, **given)
        origin = self.server.spool.messages[-1].origin
        self.assertEqual((origin.host_address, origin.host_port), ("192.0.2.7", 25))
        self.assertEqual((origin.host_name, origin.ident), ("h.example", "me"))
        self.assertEqual((origin.authenticated_id, origin.authenticator), ("i", "a"))
        self.assertEqual(list(self.header()), ["Subject"])
        self.submit(**given)
        origin = self.server.spool.messages[-1].origin
        self.assertEqual((origin.host_address, origin.ident), ("", "alice"))
        self.assertIn("From", self.header())
        for name, bad in (("host_address", "x"), ("ident", "a\nb"), ("protocol", "p q"),
                          ("host_name", "h\r\n"), ("interface", "1.2.3.4.5.6")):  # fmt: skip
            self.assertEqual(self.submit(caller=ROOT, **{name: bad})[:3], "501", name)

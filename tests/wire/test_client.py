"""The client's conversation, dot-stuffing and reply parsing, with octets alone."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.wire.client import Answers, Receive, Refused, SendContent, Session
from mailsrv.wire.envelope import Envelope, EnvelopeRecipient, UnsafeValue, path
from mailsrv.wire.outgoing import DotStuffer
from mailsrv.wire.replies import Phase, ProtocolError, Reply, ReplyParser

ODD = st.lists(st.sampled_from([b"\r", b"\n", b".", b"\0", b"a", b"\r\n", b"\x0b", b"\x85"]))


def stuffed(pieces: list[bytes]) -> bytes:
    stuffer = DotStuffer()
    return b"".join([*(stuffer.feed(piece) for piece in pieces), stuffer.end()])


def model(text: bytes) -> bytes:
    """Dot-stuffing, line by line."""
    lines = re.split(rb"\r\n|\r|\n", text)
    if lines[-1] == b"":
        lines.pop()
    return b"".join((b"." if x.startswith(b".") else b"") + x + b"\r\n" for x in lines) + b".\r\n"


@given(ODD, st.lists(st.integers(0, 60)))
def test_stuffing_does_not_depend_on_where_pieces_end(parts: list[bytes], cuts: list[int]) -> None:
    text = b"".join(parts)
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    assert stuffed(pieces) == model(text)
    assert stuffed([text[i : i + 1] for i in range(len(text))]) == model(text)


@given(ODD)
def test_only_the_end_of_data_looks_like_the_end_of_data(parts: list[bytes]) -> None:
    sent = b"\r\n" + stuffed([b"".join(parts)])
    assert sent.find(b"\r\n.\r\n") == len(sent) - 5
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", sent)


SMUGGLING = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r.\n"]


@pytest.mark.parametrize("sequence", SMUGGLING)
def test_nothing_is_smuggled_out(sequence: bytes) -> None:
    sent = stuffed([b"a" + sequence + b"MAIL FROM:<ceo@example>\r\n"])
    assert sent.count(b"\r\n.\r\n") == 1
    assert sent.endswith(b"\r\n.\r\n")


class Replies(SynchronousTestCase):
    def test_cut_at_every_octet(self) -> None:
        text = b"250-a\r\n250-b\r\n250 c\r\n354 go\r\n"
        for cut in range(len(text)):
            parser = ReplyParser()
            replies = [*parser.feed(text[:cut]), *parser.feed(text[cut:])]
            self.assertEqual(replies, [Reply(250, ("a", "b", "c")), Reply(354, ("go",))])

    def test_what_is_no_reply_is_an_error(self) -> None:
        bad = [
            b"999 x\r\n",
            b"250 x\n",
            b"25\r\n",
            b"250x\r\n",
            b"250-a\r\n251 b\r\n",
            b"250 a\0b\r\n",
            b"250 a\rb\r\n",
            b"\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"250 " + b"x" * 5000 + b"\r\n",
            b"x" * 1_000_000,
            b"250-x\r\n" * 100_000,
        ]
        for text in bad:
            with self.assertRaises(ProtocolError, msg=repr(text[:40])):
                list(ReplyParser().feed(text))

    def test_a_code_alone_is_a_reply(self) -> None:
        self.assertEqual(list(ReplyParser().feed(b"250\r\n")), [Reply(250, ("",))])

    def test_enhanced_status_code_is_taken_out_of_the_text(self) -> None:
        status = Reply(550, ("5.1.1 no", "5.1.1 such user")).status
        self.assertEqual((status.enhanced, status.text), ("5.1.1", "no\nsuch user"))

    def test_enhanced_status_code_of_another_class_is_text(self) -> None:
        status = Reply(550, ("2.1.1 fine",)).status
        self.assertEqual((status.enhanced, status.text), ("5.0.0", "2.1.1 fine"))

    def test_a_reply_is_one_printable_line_in_a_log(self) -> None:
        self.assertEqual(str(Reply(250, ("a\x1b[2J", "b"))), "250-a\\033[2J\\n250 b")

    def test_a_very_long_enhanced_code_is_text(self) -> None:
        self.assertEqual(Reply(550, ("5.1.1000 x",)).status.enhanced, "5.0.0")


def converse(session: Session, steps: object, replies: list[Reply]) -> list[object]:
    """Run steps with replies at hand; return what was to be written."""
    done: list[object] = []
    answers = iter(replies)
    step = next(steps)  # type: ignore[call-overload]
    try:
        while True:
            if isinstance(step, Receive):
                step = steps.send(next(answers))  # type: ignore[attr-defined]
            else:
                done.append(step if isinstance(step, bytes) else "content")
                assert isinstance(step, bytes | SendContent)
                step = next(steps)  # type: ignore[call-overload]
    except StopIteration:
        return done


def ok(text: str = "ok") -> Reply:
    return Reply(250, (text,))


class Conversation(SynchronousTestCase):
    def opened(self, *extensions: str, lmtp: bool = False) -> Session:
        session = Session("me.example", lmtp=lmtp)
        converse(session, session.open(), [Reply(220, ("hi",)), Reply(250, ("hop", *extensions))])
        return session

    def test_keywords_are_taken_in_any_case_and_the_first_line_is_none(self) -> None:
        session = Session("me.example")
        hello = Reply(250, ("SIZE", "pipelining", "size 100", "", " dsn"))
        written = converse(session, session.open(), [Reply(220, ("hi",)), hello])
        self.assertEqual(written, [b"EHLO me.example\r\n"])
        self.assertEqual(session.extensions, {"PIPELINING": "", "SIZE": "100", "DSN": ""})

    def test_helo_when_ehlo_is_not_known(self) -> None:
        session = Session("me.example")
        replies = [Reply(220, ("hi",)), Reply(502, ("what",)), ok()]
        written = converse(session, session.open(), replies)
        self.assertEqual(written[-1], b"HELO me.example\r\n")

    def test_refused_greeting(self) -> None:
        session = Session("me.example")
        with self.assertRaises(Refused) as caught:
            converse(session, session.open(), [Reply(554, ("no",))])
        self.assertIs(caught.exception.phase, Phase.GREETING)

    def envelope(self, *addresses: str, sender: str = "s@e") -> Envelope:
        return Envelope(sender, tuple(EnvelopeRecipient(a) for a in addresses), size=10)

    def test_one_write_with_pipelining(self) -> None:
        session, answers = self.opened("PIPELINING", "SIZE"), Answers()
        written = converse(
            session,
            session.transaction(self.envelope("a@e", "b@e"), answers),
            [ok(), ok(), Reply(550, ("no",)), Reply(354, ("go",)), ok("done")],
        )
        self.assertEqual(
            written,
            [b"MAIL FROM:<s@e> SIZE=10\r\nRCPT TO:<a@e>\r\nRCPT TO:<b@e>\r\nDATA\r\n", "content"],
        )
        self.assertEqual(answers.settled(0), (Phase.FINAL, ok("done")))
        self.assertEqual(answers.settled(1), (Phase.RCPT, Reply(550, ("no",))))
        self.assertTrue(session.usable)

    def test_one_command_at_a_time_without_it(self) -> None:
        session, answers = self.opened(), Answers()
        written = converse(
            session,
            session.transaction(self.envelope("a@e"), answers),
            [ok(), ok(), Reply(354, ("go",)), ok()],
        )
        self.assertEqual(
            written, [b"MAIL FROM:<s@e>\r\n", b"RCPT TO:<a@e>\r\n", b"DATA\r\n", "content"]
        )

    def test_lmtp_has_a_reply_for_each_accepted_recipient_duplicates_too(self) -> None:
        session, answers = self.opened("PIPELINING", lmtp=True), Answers()
        replies = [ok(), ok(), Reply(550, ("x",)), ok(), Reply(354, ("go",))]
        final = [ok("first"), Reply(452, ("full",))]
        converse(
            session,
            session.transaction(self.envelope("a@e", "b@e", "a@e"), answers),
            replies + final,
        )
        self.assertEqual(answers.settled(0), (Phase.FINAL, final[0]))
        self.assertEqual(answers.settled(1), (Phase.RCPT, Reply(550, ("x",))))
        self.assertEqual(answers.settled(2), (Phase.FINAL, final[1]))

    def test_an_accepted_recipient_is_not_settled_before_the_end(self) -> None:
        answers = Answers({0: (Phase.RCPT, ok())})
        self.assertIsNone(answers.settled(0))

    def test_a_message_for_nobody_is_not_sent(self) -> None:
        session, answers = self.opened("PIPELINING"), Answers()
        written = converse(
            session,
            session.transaction(self.envelope("a@e"), answers),
            [ok(), Reply(550, ("x",)), Reply(354, ("go",))],
        )
        self.assertNotIn("content", written)
        self.assertFalse(session.usable)
        self.assertTrue(session.midway)

    def test_250_to_data_is_a_lie(self) -> None:
        session, answers = self.opened("PIPELINING"), Answers()
        with self.assertRaises(ProtocolError):
            converse(session, session.transaction(self.envelope("a@e"), answers), [ok()] * 3)
        self.assertIsNone(answers.settled(0))

    def test_421_ends_the_use_of_the_connection(self) -> None:
        session, answers = self.opened("PIPELINING"), Answers()
        bye = Reply(421, ("bye",))
        converse(session, session.transaction(self.envelope("a@e"), answers), [bye, bye, bye])
        self.assertFalse(session.usable)

    def test_dsn_parameters_go_where_dsn_is_offered(self) -> None:
        envelope = Envelope(
            "s@e", (EnvelopeRecipient("a@e", "NEVER", "rfc822;a@e"),), ret="HDRS", envid="x+20y"
        )
        for offered in (True, False):
            session = self.opened(*(["PIPELINING", "DSN"] if offered else ["PIPELINING"]))
            steps = session.transaction(envelope, Answers())
            first = next(steps)
            assert isinstance(first, bytes)
            self.assertEqual(b"RET=HDRS ENVID=x+20y" in first, offered)
            self.assertEqual(b"NOTIFY=NEVER ORCPT=rfc822;a@e" in first, offered)

    def test_an_unsafe_recipient_is_left_out_and_nothing_of_it_is_sent(self) -> None:
        session, answers = self.opened("PIPELINING"), Answers()
        written = converse(
            session,
            session.transaction(self.envelope("a@e>\r\nRSET", "b@e"), answers),
            [ok(), ok(), Reply(354, ("go",)), ok()],
        )
        self.assertNotIn(b"RSET", b"".join(w for w in written if isinstance(w, bytes)))
        self.assertIn(0, answers.unsafe)
        self.assertEqual(answers.settled(1), (Phase.FINAL, ok()))


@pytest.mark.parametrize(
    "address",
    ["a@b\r\nX", "a b@c", "a@b>", "<a@b", "a\0@b", 'a"b@c', "a\\ b@c", '"a\r\n"@b', "a@b\x7f"],
)
def test_unsafe_addresses_are_refused(address: str) -> None:
    with pytest.raises(UnsafeValue):
        path(address)


@pytest.mark.parametrize(
    "address", ["", "a@b", '"a b"@c', '"a\\"b>"@c', "a@[1.2.3.4]", "\xc3\xa9@b"]
)
def test_safe_addresses_are_sent(address: str) -> None:
    assert path(address) == f"<{address}>"

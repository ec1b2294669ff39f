"""Dovecot's protocol: events from any cut of the stream, and lines that nothing can inject into."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.wire import dovecot
from mailsrv.wire.dovecot import Continue, Done, Fail, Mechanism, Ok, Reader, ServerPid, Version

STREAM = (
    b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tcram-md5\tdictionary\tactive\nSPID\t31\nCUID\t7\n"
    b"COOKIE\tab12\nDONE\nCONT\t3\tPDFAeD4=\nCONT\t4\t\nOK\t3\tuser=a\x01tb\tnologin\n"
    b"FAIL\t4\tuser=x\tcode=temp_fail\nFAIL\t5\ttemp\nFAIL\t6\tcode=user_disabled\n"
)
EVENTS = [
    Version(1, 2),
    Mechanism("PLAIN", frozenset({"plaintext"})),
    Mechanism("CRAM-MD5", frozenset({"dictionary", "active"})),
    ServerPid("31"),
    Done(),
    Continue(3, b"<1@x>"),
    Continue(4, b""),
    Ok(3, {"user": "a\tb", "nologin": ""}),
    Fail(4, {"user": "x", "code": "temp_fail"}),
    Fail(5, {"temp": ""}),
    Fail(6, {"code": "user_disabled"}),
]


class ReaderTests(SynchronousTestCase):
    def test_events_do_not_depend_on_the_cut(self) -> None:
        for cut in range(len(STREAM) + 1):
            reader = Reader()
            self.assertEqual(reader.feed(STREAM[:cut]) + reader.feed(STREAM[cut:]), EVENTS)

    def test_byte_by_byte(self) -> None:
        reader = Reader()
        events = [event for byte in STREAM for event in reader.feed(bytes([byte]))]
        self.assertEqual(events, EVENTS)

    def test_temporary_failures(self) -> None:
        self.assertEqual(
            [event.temporary for event in EVENTS if isinstance(event, Fail)], [True, True, False]
        )

    def test_line_limit_holds_with_and_without_an_end(self) -> None:
        self.assertEqual(Reader().feed(b"X" * 16384 + b"\n"), [])
        for data in (b"X" * 16385, b"X" * 16385 + b"\n"):
            self.assertRaises(dovecot.DovecotProtocolError, Reader().feed, data)

    def test_malformed_lines(self) -> None:
        for line in (b"OK", b"OK\t", b"OK\t-1", b"OK\t+1", b"OK\t1_0", b"OK\t 1", b"FAIL\tx",
                     b"FAIL\t12345678901", b"CONT\t1\t!!", b"CONT\t\xb2\tAA==", b"VERSION",
                     b"VERSION\t1", b"VERSION\tone\t2", b"CONT"):  # fmt: skip
            with self.subTest(line=line):
                self.assertRaises(dovecot.DovecotProtocolError, dovecot.parse, line)

    def test_unknown_commands_are_ignored(self) -> None:
        self.assertEqual(Reader().feed(b"NEW\tthing\n\nok\t1\n"), [])

    @given(st.lists(st.binary(max_size=50), max_size=8))
    def test_random_input_gives_events_or_the_one_error(self, pieces: list[bytes]) -> None:
        reader = Reader()
        try:
            for piece in pieces:
                reader.feed(b"OK\t1\t" + piece)
        except dovecot.DovecotProtocolError:
            pass


class BuildTests(SynchronousTestCase):
    def test_hello(self) -> None:
        self.assertEqual(dovecot.hello(42), b"VERSION\t1\t2\nCPID\t42\n")

    def test_response_is_last_and_none_differs_from_empty(self) -> None:
        parameters = [("service", "smtp"), ("secured", None)]
        self.assertEqual(
            dovecot.auth(1, "PLAIN", parameters, b"\0u\0p"),
            b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\tresp=AHUAcA==\n",
        )
        self.assertEqual(dovecot.auth(1, "PLAIN", [], b""), b"AUTH\t1\tPLAIN\tresp=\n")
        self.assertEqual(dovecot.auth(1, "PLAIN", []), b"AUTH\t1\tPLAIN\n")

    def test_continue_and_cancel(self) -> None:
        self.assertEqual(dovecot.proceed(9, b"x"), b"CONT\t9\teA==\n")
        self.assertEqual(dovecot.cancel(9), b"CANCEL\t9\n")

    @given(st.text(st.characters(max_codepoint=255), max_size=40))
    def test_no_value_can_leave_its_field(self, value: str) -> None:
        line = dovecot.auth(1, "PLAIN", [("local_name", value)], b"r")
        self.assertEqual(line.count(b"\n"), 1)
        self.assertNotIn(b"\0", line)
        self.assertNotIn(b"\r", line)
        words = line[:-1].split(b"\t")
        self.assertEqual(len(words), 5)
        self.assertEqual(dovecot.unescape(words[3].decode("latin-1")), f"local_name={value}")

    def test_impossible_names_are_refused(self) -> None:
        for name in ("", "A\tresp=x", "A\nOK", "A\0", "Ä", "A" * 65, "A=B"):
            with self.subTest(name=name):
                self.assertRaises(dovecot.DovecotProtocolError, dovecot.auth, 1, name, [])
                self.assertRaises(
                    dovecot.DovecotProtocolError, dovecot.auth, 1, "PLAIN", [(name, "v")]
                )

    def test_over_long_request_is_refused(self) -> None:
        self.assertRaises(dovecot.DovecotProtocolError, dovecot.proceed, 1, b"x" * 16384)

"""Tests of mailsrv.wire.command and .session."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.wire import command as wire
from mailsrv.wire.session import Input, Line, LongLine, Piece


class PathTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        for given_, address in (
            ("<a@b.c>", "a@b.c"), ("a@b.c", "a@b.c"), ("<>", ""), ('<"a b"@x>', '"a b"@x'),
            ("<@x,@y:a@b>", "a@b"), ("<a@[1.2.3.4]>", "a@[1.2.3.4]"), ("<a..b@c>", "a..b@c"),
            ('<"a\\"b"@x>', '"a\\"b"@x'), ("<postmaster>", "postmaster"),
        ):  # fmt: skip
            self.assertEqual(wire.parse_path(given_).address, address)

    def test_refused(self) -> None:
        """What is no path is refused: blanks, two addresses, control characters, line ends."""
        for bad in ("<a b@c>", "<a@b", "a@b>", "<a@b>>", "<a@b@c>", "<a@b>x", "<a@b\n>", "<a\0@b>",
                    "<a@b> X=\x01", "<a@b> =", "Foo <a@b>", "<" + "a" * 5000 + "@b>", "<a@>",
                    "<a@b..c>", "<a@-b>", "<@b>", "<a@b> SIZE=1 size=2"):  # fmt: skip
            self.assertRaises(wire.SyntaxProblem, wire.parse_path, bad)

    @given(st.text(alphabet=st.characters(max_codepoint=255), max_size=60))
    def test_never_a_line_end(self, text: str) -> None:
        """No accepted path or parameter holds a control character."""
        try:
            path = wire.parse_path(text)
        except wire.SyntaxProblem:
            return
        values = [path.address, *(value or "" for _, value in path.parameters)]
        self.assertFalse(any(c < " " or c == "\x7f" for value in values for c in value))


class ParameterTests(SynchronousTestCase):
    def test_xtext(self) -> None:
        """Hidden ends of line, bad hex and unescaped octets are no xtext."""
        for good in ("abc", "a+2Bb", "a+3Db"):
            self.assertEqual(wire.parse_envid(good), good)
        for bad in ("", "a+0Ab", "a+0D+0A", "a+zz", "a+2", "a=b", "é", "a b", "x" * 101):
            self.assertRaises(wire.SyntaxProblem, wire.parse_envid, bad)

    def test_notify(self) -> None:
        self.assertEqual(wire.parse_notify("success,FAILURE"), {"SUCCESS", "FAILURE"})
        for bad in (None, "", "NEVER,DELAY", "FOO", "SUCCESS,", "DELAY,DELAY"):
            self.assertRaises(wire.SyntaxProblem, wire.parse_notify, bad)

    def test_orcpt(self) -> None:
        self.assertEqual(wire.parse_orcpt("rfc822;b+2B@c"), "rfc822;b+2B@c")
        for bad in (None, "rfc822", "rfc822;", ";x", "rfc822;a+0Ab", "rfc822;" + "x" * 600):
            self.assertRaises(wire.SyntaxProblem, wire.parse_orcpt, bad)

    def test_bdat(self) -> None:
        self.assertEqual(wire.parse_bdat("10 LAST"), (10, True))
        for bad in ("", "x", "-1", "1 FOO", "1 LAST x", "9" * 30):
            self.assertRaises(wire.SyntaxProblem, wire.parse_bdat, bad)


class InputTests(SynchronousTestCase):
    def test_only_crlf_ends_a_line(self) -> None:
        input = Input()
        input.receive(b"NOOP\nRSET\rX\r\nQ")
        self.assertEqual(input.next(), Line(b"NOOP\nRSET\rX"))
        self.assertIsNone(input.next())

    def test_long_line_is_thrown_away(self) -> None:
        """A line without end is one event, costs no memory, and the next line is read."""
        input = Input()
        events = []
        for _ in range(100):
            input.receive(b"x" * 1000)
            while (event := input.next()) is not None:
                events.append(event)
            self.assertLess(len(input.waiting), 3000)
        input.receive(b"\r\nNOOP\r\n")
        self.assertEqual(events, [LongLine()])
        self.assertEqual(input.next(), Line(b"NOOP"))

    def test_cut_at_every_byte(self) -> None:
        """Commands, data and chunks are the same however they come."""
        octets = b"DATA\r\nab\r\n..c\r\n.\r\nBDAT 5\r\n.\r\nxyNOOP\r\n"
        for cut in range(1, len(octets)):
            input, seen = Input(), []
            for piece in (octets[:cut], octets[cut:]):
                input.receive(piece)
                while (event := input.next()) is not None:
                    if isinstance(event, Piece) and seen and isinstance(seen[-1], bytes):
                        seen[-1] += event.data
                    else:
                        seen.append(event.data if isinstance(event, Piece) else event)
                    if event == Line(b"DATA"):
                        input.begin_data()
                    elif event == Line(b"BDAT 5"):
                        input.begin_chunk(5)
            expected = [Line(b"DATA"), b"ab\r\n.c\r\n", Line(b"BDAT 5"), b".\r\nxy", Line(b"NOOP")]
            self.assertEqual(seen, expected)

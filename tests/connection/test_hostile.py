"""Tests of mailsrv.connection: SMTP smuggling, BDAT faults, random octets."""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.connection.server import Server

# security.md's table: what some server somewhere takes for the end of data.
BARE = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r.\n",
    b"\r\n.\r\r\n", b"\n.\r\r\n", b"\r\0\n.\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n",
    b"\n\n.\n\n", b"\r\r\n.\r\r\n", b"\n.\0\n",
]  # fmt: skip
HARMLESS = [
    b"\r\n" + left + b"." + right + b"\r\n"
    for left, right in (
        (b"\x0b", b""), (b"\x0c", b""), (b"\x1c", b""), (b"\x1e", b""), (b"\x85", b""),
        (b"\xe2\x80\xa8", b""), (b"\xe2\x80\xa9", b""), (b"", b"\x0b"), (b"", b" "), (b" ", b""),
        (b"", b"\t"), (b"\t", b""), (b"", b"\x08"), (b"\xa0", b""), (b"", b"\xa0"),
    )
] + [b"\r\n\xef\xbc\x8e\r\n"]  # fmt: skip


def cuts(octets: bytes) -> list[list[bytes]]:
    middle = len(octets) // 2
    return [[octets], [octets[i : i + 1] for i in range(len(octets))],
            [octets[:middle], octets[middle:]]]  # fmt: skip


class SmugglingTests(SynchronousTestCase):
    def test_data_and_bdat(self) -> None:
        """Nothing but CRLF.CRLF ends a message; one with bare CR, LF or NUL is refused whole."""
        for sequence, chunked in product(BARE + HARMLESS, (False, True)):
            text = b"A: b\r\n\r\nx" + sequence + b"MAIL FROM:<evil@x>\r\n"
            octets = text if chunked else text + b".\r\n"
            for pieces in cuts(octets):
                server = Server()
                client = server.connect()
                client.envelope()
                if chunked:
                    client.raw(b"BDAT %d LAST\r\n" % len(octets))
                else:
                    client.say("DATA")
                reply = b"".join(client.raw(piece) for piece in pieces)
                wanted = b"550 " if sequence in BARE else b"250"
                self.assertTrue(reply.startswith(wanted), (sequence, chunked, reply))
                self.assertEqual(len(server.spool.messages), sequence in HARMLESS)
                self.assertEqual(client.say("RSET"), "250 Reset OK")

    def test_first_line_dot_lf(self) -> None:
        client = Server().connect()
        client.envelope()
        client.say("DATA")
        self.assertEqual(client.raw(b".\nMAIL FROM:<evil@x>\r\n"), b"")
        self.assertTrue(client.raw(b".\r\n").startswith(b"550 "))

    def test_mend(self) -> None:
        server = Server(smtp_bare_newline="mend")
        client = server.connect()
        client.envelope()
        client.say("DATA")
        client.raw(b"A: b\r\n\r\nx\n.\ny\r.\r\0\r\n.\r\n")
        self.assertEqual(server.spool.messages[0].body.inline, b"x\r\n.\r\ny\r\n.\r\n\r\n")


class BdatTests(SynchronousTestCase):
    def test_refused_chunk_is_swallowed(self) -> None:
        """The octets of a chunk that is refused are never run as commands."""
        client = Server().connect()
        client.say("EHLO c.example")
        self.assertEqual(
            client.raw(b"BDAT 6\r\nQUIT\r\nNOOP\r\n"),
            b"503 valid RCPT command must precede BDAT\r\n250 OK\r\n",
        )

    def test_chunks(self) -> None:
        server = Server()
        client = server.connect()
        client.envelope()
        self.assertEqual(client.raw(b"BDAT 5\r\nA: b\r"), b"250 5 byte chunk received\r\n")
        self.assertEqual(client.raw(b"BDAT 4\r\n\n\r\nx"), b"250 4 byte chunk received\r\n")
        self.assertEqual(
            client.raw(b"BDAT 0 LAST\r\n"),
            b"250- 0 byte chunk, total 9\r\n250 OK id=1aaaaa-000001-00\r\n",
        )
        self.assertEqual(server.spool.messages[0].body.inline, b"x")

    def test_only_bdat_within_chunks(self) -> None:
        server = Server()
        client = server.connect()
        client.envelope()
        client.raw(b"BDAT 3\r\nA: ")
        self.assertEqual(
            client.say("MAIL FROM:<a@b>"), "503 only BDAT permissible after non-LAST BDAT"
        )
        self.assertEqual(client.say("NOOP"), "503 only RSET accepted now")
        self.assertEqual(client.say("RSET"), "250 Reset OK")
        self.assertEqual(server.spool.open, 0)
        client.envelope()

    def test_oversize_chunk(self) -> None:
        server = Server(message_size_limit="10")
        client = server.connect()
        client.envelope()
        reply = client.raw(b"BDAT 26 LAST\r\n" + b"A: b\r\n\r\n" + b"RSET\r\n" * 3)
        self.assertEqual(reply, b"552 Message size exceeds maximum permitted\r\n")
        self.assertEqual(server.spool.open, 0)


class RandomTests(SynchronousTestCase):
    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=40),
                st.sampled_from([
                    b"EHLO c\r\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<a@b>\r\n", b"DATA\r\n",
                    b".\r\n", b"BDAT 5\r\n", b"BDAT 0 LAST\r\n", b"\r\n.\r\n", b"AUTH PLAIN\r\n",
                    b"AUTH PLAIN =\r\n", b"*\r\n", b"STARTTLS\r\n", b"RSET\r\n", b"VRFY \xff\r\n",
                ]),
            ),
            max_size=25,
        )
    )  # fmt: skip
    def test_random_octets(self, pieces: list[bytes]) -> None:
        """Whatever comes, each line has a reply or a close, and nothing is left behind."""
        server = Server(smtp_enforce_sync=False)
        server.auth.mechanisms = ["PLAIN"]
        client = server.connect()
        client.read()
        for piece in pieces:
            if not client.closed:
                client.raw(piece)
        if not client.closed:
            reply = client.raw(b"\r\n.\r\n*\r\n" + b"x" * 10 + b"\r\nNOOP\r\n")
            self.assertTrue(reply or client.closed)
            client.transport.loseConnection()
        self.assertEqual(server.log.failures, [])
        self.assertEqual(server.spool.open, 0)

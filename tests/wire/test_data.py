"""Tests of mailsrv.wire.data: the end of data, stuffed dots, ends of line."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.wire.data import DotReader, LineEnds


def read(pieces: list[bytes]) -> tuple[bytes, bytes | None]:
    reader, content = DotReader(), b""
    for place, piece in enumerate(pieces):
        more, rest = reader.feed(piece)
        content += more
        if rest is not None:
            return content, rest + b"".join(pieces[place + 1 :])
    return content, None


def slow(octets: bytes) -> tuple[bytes, bytes | None]:
    """The same by the book: line by line."""
    content, at = b"", 0
    while True:
        end = octets.find(b"\r\n", at)
        if end < 0:
            return content, None
        line, at = octets[at : end + 2], end + 2
        if line == b".\r\n":
            return content, octets[at:]
        content += line[1:] if line.startswith(b".") else line


class DotReaderTests(SynchronousTestCase):
    def test_cut_at_every_byte(self) -> None:
        """Wherever a message is cut, its content and what follows are the same."""
        octets = b"..a\r\n.b\r\n\r\n...\r\nc\r.\r\n\n.\r\n.\r\nQUIT\r\n"
        whole = read([octets])
        self.assertEqual(whole, slow(octets))
        for first in range(len(octets) + 1):
            for second in range(first, len(octets) + 1):
                pieces = [octets[:first], octets[first:second], octets[second:]]
                self.assertEqual(read(pieces), whole)
        self.assertEqual(read([octets[i : i + 1] for i in range(len(octets))]), whole)

    def test_empty_message(self) -> None:
        self.assertEqual(read([b".\r\nX"]), (b"", b"X"))

    @given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\0", b"a"]), max_size=30))
    def test_as_line_by_line(self, pieces: list[bytes]) -> None:
        """The search in buffers finds what reading lines finds."""
        octets = b"".join(pieces) + b"\r\n.\r\nZ"
        self.assertEqual(read([*pieces, b"\r\n.\r\nZ"]), slow(octets))


class LineEndsTests(SynchronousTestCase):
    @given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b".", b"\0"]), max_size=20))
    def test_mended(self, pieces: list[bytes]) -> None:
        """What is mended has CRLF only, however it is cut, and is noted."""
        octets, ends = b"".join(pieces), LineEnds(mend=True)
        mended = b"".join(map(ends.feed, pieces)) + ends.finish()
        rest = mended.replace(b"\r\n", b"")
        self.assertFalse(set(rest) & set(b"\r\n\0"))
        bare = set(octets.replace(b"\r\n", b"")) & set(b"\r\n\0")
        self.assertEqual(ends.bad, bool(bare))

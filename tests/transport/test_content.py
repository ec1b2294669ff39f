"""What a delivery sends: the length of its lines (message_linelength_limit)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion.tree import drive
from mailsrv.transport.headers import Content

LIMIT = 4
TEXT = st.text(alphabet="ab\r\n", max_size=40).map(str.encode)


class Pieces:
    """A body that comes in pieces."""

    inline = None
    lines = 0

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.size = sum(map(len, pieces))

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give them."""
        for piece in self.pieces:
            yield piece


def is_long(head: bytes, body: list[bytes]) -> bool:
    """Ask a content."""
    return drive(Content(head, Pieces(body)).longest_line(LIMIT))


class LongestLineTests(SynchronousTestCase):
    """Lines are measured without their ends."""

    @given(TEXT)
    def test_one_piece(self, text: bytes) -> None:
        """A piece is searched in jumps; a plain split gives the same."""
        lines = text.split(b"\n")
        wanted = any(len(line.removesuffix(b"\r")) > LIMIT for line in lines)
        self.assertEqual(is_long(text, []), wanted)

    def test_across_pieces(self) -> None:
        """A line that is cut is one line."""
        self.assertTrue(is_long(b"ab", [b"cd", b"e\r\n"]))
        self.assertFalse(is_long(b"ab", [b"cd", b"\r\n", b"abcd\r\n"]))

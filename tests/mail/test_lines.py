"""Ends of line in large pieces: the quick way gives what the plain one gives, or nothing."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.mail.lines import LARGE, count_lines, even_lines

_ALONE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
OCTETS = st.text(alphabet="ab\r\n\0", max_size=30).map(lambda text: text.encode())


class EvenLinesTests(SynchronousTestCase):
    """Lines that are equally long, and others."""

    @given(OCTETS, st.integers(0, 5), st.integers(0, 12), OCTETS)
    def test_never_wrong(self, before: bytes, width: int, count: int, behind: bytes) -> None:
        """Where it answers, each CR and LF is of a pair, and the number is right."""
        piece = before + (b"x" * width + b"\r\n") * count + behind
        lines = even_lines(piece)
        if lines is not None:
            self.assertIsNone(_ALONE.search(piece))
            self.assertEqual(lines, piece.count(b"\n"))

    @given(st.integers(0, 20), st.integers(1, 20), st.integers(0, 20), st.integers(3, 30))
    def test_answers(self, first: int, width: int, last: int, count: int) -> None:
        """Base64 is recognised wherever a piece of it is cut."""
        piece = b"x" * min(first, width) + b"\r\n" + (b"y" * width + b"\r\n") * count
        piece += b"z" * min(last, width)
        self.assertEqual(even_lines(piece), count + 1)

    def test_one_of_many(self) -> None:
        """A single octet that is out of place is found among thousands of lines."""
        whole = (b"x" * 76 + b"\r\n") * 1000
        self.assertEqual(even_lines(whole), 1000)
        for octet in (b"\r", b"\n", b"\0"):
            for place in (0, 5, 76, 40_000, 77_999):
                spoilt = whole[:place] + octet + whole[place + 1 :]
                if spoilt != whole:
                    self.assertIsNone(even_lines(spoilt))

    @given(st.binary(max_size=50))
    def test_count(self, some: bytes) -> None:
        """Lines are counted the same way, large pieces too."""
        for piece in (some, (b"x" * 76 + b"\r\n") * (LARGE // 70) + some):
            self.assertEqual(count_lines(piece), piece.count(b"\n"))

"""Lines of a SASL exchange are read strictly, and errors hold no credentials."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.wire import sasl


class DecodeTests(SynchronousTestCase):
    @given(st.binary(max_size=300))
    def test_round_trip(self, raw: bytes) -> None:
        self.assertEqual(sasl.decode(sasl.encode(raw)), raw)

    @given(st.binary(max_size=60))
    def test_only_canonical_base64_is_taken(self, line: bytes) -> None:
        try:
            raw = sasl.decode(line)
        except sasl.SaslError:
            return
        self.assertEqual(base64.b64encode(raw), line)

    def test_refused(self) -> None:
        for line in (b"!!!", b"A", b"AB", b"ABC", b"AA=A", b"AA==AA==", b"AB==", b"AA ==",
                     b"AA\r==", b"=", b"====", b"*", b"\xff\xfe==", b"A_-A"):  # fmt: skip
            with self.subTest(line=line):
                self.assertRaises(sasl.SaslError, sasl.decode, line)

    def test_length_limit_is_that_of_the_rfc(self) -> None:
        self.assertEqual(len(sasl.decode(b"A" * 12288)), 9216)
        self.assertRaises(sasl.SaslError, sasl.decode, b"A" * 12292)

    def test_error_does_not_show_the_line(self) -> None:
        error = self.assertRaises(sasl.SaslError, sasl.decode, b"c2VjcmV0!")
        self.assertNotIn("c2VjcmV0", repr(error))
        self.assertIsNone(error.__cause__)

"""Tests of mailsrv.expansion.operators_utf8, and of a NUL that an escape writes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion.errors import ExpansionError
from tests.expansion.test_outside import expanded

CAFE = "café".encode().decode("latin-1")


class Utf8Tests(SynchronousTestCase):
    def test_as_exim(self) -> None:
        """What exim4 answers."""
        for text, wanted in (
            ("${utf8_domain_to_alabel:abc}", "abc"),
            ("${utf8_domain_to_alabel:%s.example}", "xn--caf-dma.example"),
            ("${utf8_domain_from_alabel:xn--caf-dma.example}", CAFE + ".example"),
            ("${utf8_localpart_to_alabel:%s.example}", "xn--caf.example-dbb"),
            ("${utf8_localpart_from_alabel:xn--caf-dma}", CAFE),
            ("a\\x00b", "a"),
            ("<${uc:a\\x00b}>", "<A>"),
            ("${strlen:\\x00a}", "0"),
        ):
            self.assertEqual(expanded(text.replace("%s", CAFE)), wanted, text)

    def test_errors(self) -> None:
        with self.assertRaisesRegex(ExpansionError, "bad alabel prefix"):
            expanded("${utf8_localpart_from_alabel:abc}")
        with self.assertRaisesRegex(ExpansionError, r"\\351\\377.*bad UTF-8 input"):
            expanded("${utf8_localpart_to_alabel:\xe9\xff}")

"""``$h_…`` in its four kinds; encoded words."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion import rfc2047
from mailsrv.mail.header import Header
from mailsrv.mail.message import Transaction
from tests.expansion.setting import expand, make_scope

HEADERS = [
    Header("Subject: =?iso-8859-1?Q?a=E4b?=  =?utf-8?B?w6Q=?= c "),
    Header("To: a@b (x:y)"),
    Header("X-One:  first\n  folded "),
    Header("x-one: second"),
    Header("X-One:   "),
    Header("TO: c@d"),
]


class HeaderTests(SynchronousTestCase):
    def value(self, text: str) -> str:
        return expand(text, make_scope(message=Transaction(headers=HEADERS)))

    def test_decoded(self) -> None:
        """``h_`` decodes and translates, ``bh_`` only decodes, ``rh_`` is raw."""
        self.assertEqual(self.value("$h_subject:"), "a\xc3\xa4b\xc3\xa4 c")
        self.assertEqual(self.value("$bh_subject:"), "a\xe4b\xc3\xa4 c")
        self.assertEqual(self.value("$rh_subject:"), f"{HEADERS[0].value}\n")

    def test_joined(self) -> None:
        """Fields of one name are joined by newlines, address fields by comma and newline."""
        self.assertEqual(self.value("$h_x-one:"), "first\n  folded\nsecond")
        self.assertEqual(self.value("$header_to:"), "a@b (x:y),\nc@d")

    def test_list(self) -> None:
        """``lh_`` is a list, colons doubled."""
        self.assertEqual(self.value("$lh_to:"), " a@b (x::y): c@d")

    def test_existence(self) -> None:
        """``def:h_`` asks whether there is such a field."""
        self.assertEqual(self.value("${if def:h_to:{y}{n}}${if def:h_cc:{y}{n}}"), "yn")

    def test_long_words(self) -> None:
        """An encoded word of more than 75 octets is left as it is."""
        word = f"=?utf-8?Q?{'a' * 70}?="
        self.assertEqual(rfc2047.decode(word), word)

    def test_python_codecs_that_are_no_character_sets(self) -> None:
        for name in ("idna", "punycode", "unicode_escape", "RAW-Unicode-Escape", "rot13"):
            self.assertEqual(rfc2047.decode(f"=?{name}?q?xn--\\n?="), "xn--\\n")

    def test_encode_and_decode(self) -> None:
        """Long text becomes several words that decode to it."""
        text = "gr\xc3\xbc\xc3\x9fe = " * 20
        encoded = rfc2047.encode(text)
        self.assertTrue(all(len(word) <= 75 for word in encoded.split(" ")))
        self.assertEqual(rfc2047.decode(encoded), text)

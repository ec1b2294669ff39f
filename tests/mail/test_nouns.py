"""The nouns that have behaviour: marked values, addresses, headers, statuses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.mail.address import split, unquoted
from mailsrv.mail.header import Header, render
from mailsrv.mail.origin import Origin
from mailsrv.mail.status import Status
from mailsrv.mail.taint import Tainted, is_harmless_component, is_tainted, like, octets, tainted


class TaintTests(SynchronousTestCase):
    @given(st.binary())
    def test_octets_survive(self, raw: bytes) -> None:
        """Each octet is one character, marked or not, and comes back as it was."""
        self.assertEqual(octets(raw).encode("latin-1"), raw)
        self.assertEqual(tainted(raw).encode("latin-1"), raw)
        self.assertTrue(is_tainted(tainted(raw)))

    def test_a_value_made_from_a_marked_one_is_marked(self) -> None:
        """``like`` marks what was made from marked parts, and only that."""
        self.assertTrue(is_tainted(like("ab", "a", Tainted("b"))))
        self.assertFalse(is_tainted(like("ab", "a", "b")))

    def test_only_harmless_components_may_be_in_a_path(self) -> None:
        """No slash, leading dot, control character, nothing, or too much."""
        for good in ("alice", "a.b", "a b", "\xe9", "x" * 255):
            self.assertTrue(is_harmless_component(good), good)
        for bad in ("", ".", "..", ".ssh", "a/b", "/", "a\0", "a\n", "\x7f", "x" * 256):
            self.assertFalse(is_harmless_component(bad), bad)


class AddressTests(SynchronousTestCase):
    def test_the_last_at_divides(self) -> None:
        """A quoted local part may hold an @ of its own."""
        self.assertEqual(split('"a@b"@c.example'), ('"a@b"', "c.example"))
        self.assertEqual(split("alice"), ("alice", ""))
        self.assertEqual(split(""), ("", ""))

    def test_the_mark_stays_on_both_parts(self) -> None:
        """The parts of a marked address are marked."""
        self.assertTrue(all(map(is_tainted, split(Tainted("a@b")))))
        self.assertTrue(is_tainted(unquoted(Tainted('"a b"'))))

    def test_quotes_and_backslashes_go(self) -> None:
        """Routers see the local part without its quoting."""
        self.assertEqual(unquoted('"a \\"b\\" c"'), 'a "b" c')
        self.assertEqual(unquoted("a\\@b"), "a@b")
        self.assertEqual(unquoted('"trailing\\'), "trailing")


class HeaderTests(SynchronousTestCase):
    def test_name_and_value(self) -> None:
        """The name ends at the colon, blanks before it do not count."""
        header = Header("Subject : one\n two")
        self.assertEqual((header.name, header.value), ("Subject", " one\n two"))
        self.assertTrue(header.called("SUBJECT"))
        self.assertFalse(header.called("Subj"))

    def test_letter(self) -> None:
        """The fields that Exim treats specially have their letter, in any case; others a blank."""
        letters = [
            Header(text).letter for text in ("TO: a", "Received: x", "Subject: to", "Too: x")
        ]
        self.assertEqual(letters, ["T", "P", " ", " "])

    def test_wire_form(self) -> None:
        """Folded lines and fields end in CRLF; no header is no octet."""
        self.assertEqual(
            render([Header("A: 1\n 2"), Header("B: \xe9")]), b"A: 1\r\n 2\r\nB: \xe9\r\n"
        )
        self.assertEqual(render([]), b"")


class StatusTests(SynchronousTestCase):
    def test_the_class_digit_is_derived(self) -> None:
        """The enhanced code's class follows the reply code."""
        status = Status(451, 3, 0, "later")
        self.assertEqual(status.enhanced, "4.3.0")
        self.assertTrue(status.temporary)
        self.assertFalse(status.permanent)
        self.assertEqual(status.saying("x").text, "x")


class OriginTests(SynchronousTestCase):
    def test_a_snapshot_does_not_change(self) -> None:
        """A message's origin keeps the ACL variables that it was received with."""
        origin = Origin(acl_c={"c0": "1"})
        kept = origin.snapshot()
        origin.acl_c["c0"] = "2"
        self.assertEqual(kept.acl_c, {"c0": "1"})

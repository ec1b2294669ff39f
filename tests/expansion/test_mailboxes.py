"""Tests of mailsrv.expansion.mailboxes."""

from __future__ import annotations

import json
import os
import re
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion import mailboxes
from mailsrv.expansion.mailboxes import Bad, Place, address_of, addresses_of, places_of

PIECES = ["a", "b.c", "@", "d.example", '"q"', " ", "\n ", ",", ":", ";", "<", ">", "(c)"]
PIECES += ["[192.0.2.1]", "\\", "\xe9", ".", '"', "("]


class PlacesTests(SynchronousTestCase):
    def test_as_exim(self) -> None:
        """Each text has the addresses that exim4 finds in it: as one, and as a list."""
        with open(os.path.join(os.path.dirname(__file__), "data", "mailboxes.json")) as file:
            recorded = json.load(file)
        self.assertGreater(len(recorded), 80)
        for text, one, several in recorded:
            self.assertEqual((address_of(text) or "", addresses_of(text)), (one, several), text)

    def test_long(self) -> None:
        """What has no end is read once."""
        for piece in ('"\\', "(", "<", "a@", "@a:", ".", '"a"', "a:;", "\\", "<@a,"):
            list(mailboxes.mailboxes(piece * 100_000))

    def test_why_not(self) -> None:
        """What is no address is told with the reason, and the next one is read."""
        bad, good = mailboxes.mailboxes("a b@c.example (x), d@e.example")
        assert isinstance(bad, Bad) and isinstance(good, Place)
        self.assertEqual(bad.text, "a b@c.example (x)")
        self.assertEqual(bad.why, 'missing or malformed local part (expected word or "<")')
        self.assertEqual(good.address, "d@e.example")

    def test_addresses(self) -> None:
        for text, wanted in (
            ("a@b.example", ["a@b.example"]),
            (" a , b@c.example ,\n d", ["a", "b@c.example", "d"]),
            ("a@b.example, X Y <c@d.example>, e", ["a@b.example", "c@d.example", "e"]),
            ("g: a@b.example, c;, d (x) , @, e@f@g", ["a@b.example", "c", "d"]),
        ):
            self.assertEqual(addresses_of(text), wanted)

    @given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
    def test_the_quick_way_finds_the_same(self, text: str) -> None:
        """Addresses that are no more than that have a shorter way; it changes nothing."""
        quick = places_of(text)
        with mock.patch.object(mailboxes, "_PLAIN", re.compile("(?!)")):
            self.assertEqual(places_of(text), quick)

    def test_places(self) -> None:
        text = "a@b.example, X <c> (y)"
        first, second = places_of(text)
        self.assertEqual(text[first.start : first.end], "a@b.example")
        self.assertEqual(text[second.start : second.end], "X <c> (y)")
        self.assertEqual(text[second.first : second.last], "c")
        self.assertEqual((first.qualified, second.qualified), (True, False))

"""PCRE2's semantics on octets, and bounded searches."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.regex import compile_regex, groups


class RegexTests(SynchronousTestCase):
    def test_perl(self) -> None:
        """What only Perl-compatible expressions have."""
        for pattern, subject, wanted in (
            (r"\Qa.b\E", "xa.b", "a.b"),
            (r"foo\Kbar", "foobar", "bar"),
            (r"(?>a+)b", "aab", "aab"),
            (r"\((?:[^()]|(?R))*\)", "x(a(b)c)", "(a(b)c)"),
            (r"[[:alpha:]]+$", "1ab\n", "ab"),
            (r"a(?i)B", "ab", "ab"),
            (r"^.\xe9$", "\xff\xe9", "\xff\xe9"),
        ):
            match = compile_regex(pattern).search(subject)
            assert match is not None, pattern
            self.assertEqual(match[0], wanted)

    def test_groups(self) -> None:
        """A group without a part is empty; those after the last with one are not there."""
        match = compile_regex("(a)|(b)|(c)").search("b")
        assert match is not None
        self.assertEqual(groups(match), ("b", "", "b"))
        self.assertEqual(match[3], "")

    def test_all(self) -> None:
        """After an empty match comes one that is not empty, or the next place."""
        found = [match[0] for match in compile_regex("b*").finditer("abba")]
        self.assertEqual(found, ["", "bb", "", ""])

    def test_error(self) -> None:
        """Exim's words."""
        error = self.assertRaises(ExpansionError, compile_regex, "(")
        self.assertEqual(
            error.reason,
            'regular expression error in "(": missing closing parenthesis at offset 1',
        )

    def test_catastrophic(self) -> None:
        """A search without end ends, and says which expression it was."""
        start = time.monotonic()
        error = self.assertRaises(
            ExpansionError, compile_regex("^(?:(a+))+$").search, "a" * 60 + "b"
        )
        self.assertIn("^(?:(a+))+$", error.reason)
        self.assertLess(time.monotonic() - start, 2)

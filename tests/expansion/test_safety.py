"""Expansion of data is identity; marked values stay marked."""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion import lists
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.paths import as_path
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import compile_string
from mailsrv.expansion.tree import drive
from mailsrv.mail.header import Header
from mailsrv.mail.message import Transaction
from mailsrv.mail.origin import Origin
from mailsrv.mail.taint import Tainted, is_tainted
from tests.expansion.setting import expand, failure, make_scope

HOSTILE = "${run{/bin/sh}} $primary_hostname \\N ${expand:x} }{ ${lc:A}"


class FakeLookup:
    """Finds HOSTILE for every key."""

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find (ILookup)."""
        return HOSTILE


def hostile_scope(text: str = HOSTILE) -> Scope:
    """A scope in which everything that a peer chooses is ``text``."""
    message = Transaction(sender=text, headers=[Header(f"Subject: {text}")])
    origin = Origin(helo_name=text, ident=text, host_address="192.0.2.1", host_name=text)
    return make_scope(message=message, origin=origin, lookup=lambda name: FakeLookup())


class IdentityTests(SynchronousTestCase):
    def test_variables(self) -> None:
        """Values of a peer come out as they went in."""
        scope = hostile_scope()
        for name in ("sender_address", "sender_helo_name", "sender_ident", "h_subject:"):
            self.assertEqual(expand(f"${name}", scope), HOSTILE)

    def test_items_do_not_expand_data(self) -> None:
        """Items hand data on without expanding it."""
        scope = hostile_scope()
        for text in (
            "${if eq{1}{1}{$h_subject:}}",
            "${sg{$h_subject:}{nothing}{x}}",
            "${reduce{a}{$h_subject:}{$value}}",
            "${if def:h_subject:{$h_subject:}}",
            "${tr{$h_subject:}{}{}}",
        ):
            self.assertEqual(expand(text, scope), HOSTILE)

    def test_lookup_data(self) -> None:
        """What a lookup finds is not expanded."""
        self.assertEqual(expand("${lookup{k}lsearch{/f}}", hostile_scope()), HOSTILE)
        self.assertEqual(expand("${lookup{k}lsearch{/f}{$value}}", hostile_scope()), HOSTILE)

    def test_sort_does_not_expand_items(self) -> None:
        """The items of a sorted list are not expanded again (CVE-2019-13917)."""
        scope = hostile_scope("${eval:1+1}")
        self.assertEqual(expand("${sort{$h_subject:}{lt}{$item}}", scope).count("eval"), 1)

    def test_numbers_expand_once(self) -> None:
        """The operands of a comparison of numbers are not expanded again (CVE-2014-2972)."""
        scope = hostile_scope("${eval:1+1}")
        self.assertIn("integer expected", failure("${if >{$h_subject:}{1}{y}{n}}", scope))

    def test_expand_refuses_marked(self) -> None:
        """``expand`` takes no text of a peer."""
        self.assertIn(
            "attempt to expand tainted", failure("${expand:$h_subject:}", hostile_scope())
        )

    def test_replacement_refuses_marked(self) -> None:
        """A replacement is expanded, so that it may not be a peer's if it could do something."""
        self.assertIn("tainted", failure("${sg{abc}{b}{$h_subject:}}", hostile_scope()))
        self.assertEqual(expand("${sg{abc}{b}{$h_subject:}}", hostile_scope("x")), "axc")

    @settings(max_examples=60, deadline=None)
    @given(st.text(st.characters(max_codepoint=255), max_size=60))
    def test_any_sender(self, text: str) -> None:
        """Whatever the sender is, its expansion is itself."""
        self.assertEqual(expand("$sender_address", hostile_scope(text)), text)


class TaintTests(SynchronousTestCase):
    def test_marks_survive(self) -> None:
        """What is made from a marked value is marked."""
        scope = hostile_scope("abc")
        for text in (
            "$sender_address",
            "x$sender_address",
            "${lc:$sender_address}",
            "${map{a}{$sender_address}}",
            "${map{$sender_address}{$item}}",
            "${if match{$sender_address}{(b)}{$1}}",
            "${sg{$sender_address}{b}{x}}",
            "${extract{1}{:}{$sender_address}{$value}}",
            "${reduce{a}{$sender_address}{$value}}",
        ):
            self.assertIsInstance(expand(text, scope), Tainted, text)

    def test_marks_end(self) -> None:
        """Literal results, digests and lookups' data are not marked."""
        scope = hostile_scope("abc")
        for text in (
            "${if eq{$sender_address}{abc}{yes}}",
            "${md5:$sender_address}",
            "${strlen:$sender_address}",
            "${lookup{$sender_address}lsearch{/f}}",
            "${if match_address{abc}{abc}{x}}",
        ):
            self.assertFalse(isinstance(expand(text, scope), Tainted), text)

    def test_list_data_is_clean(self) -> None:
        """$local_part_data is the list's own text."""
        found = drive(
            lists.match_local_part(compile_string("alice:bob"), Tainted("bob"), make_scope())
        )
        assert found is not None
        self.assertEqual(found.data, "bob")
        self.assertNotIsInstance(found.data, Tainted)

    def test_file_names(self) -> None:
        """A peer's value names no file; the message names the mend."""
        scope = hostile_scope("/etc/passwd")
        for text in (
            "${readfile{$sender_address}}",
            "${lookup{x}lsearch{$sender_address}}",
            "${if exists{$sender_address}}",
            "${readfile{/etc/$sender_address}}",
        ):
            reason = failure(text, scope)
            self.assertIn("tainted file name", reason)
            self.assertIn("$local_part_data", reason)

    def test_harmless_component(self) -> None:
        """A marked value may be one harmless component of a configured path."""
        with TemporaryDirectory() as folder:
            with open(os.path.join(folder, "abc"), "w", encoding="ascii") as file:
                file.write("inside")
            text = f"${{readfile{{{folder}/$sender_address}}}}"
            self.assertEqual(expand(text, hostile_scope("abc")), "inside")
            for bad in ("..", ".abc", "a/b", "../abc", "abc\0", "a" * 256):
                self.assertIn("tainted", failure(text, hostile_scope(bad)))

    def test_composed_keeps_its_mark(self) -> None:
        """Such a path is still marked: only as_path takes it."""
        value = expand("/var/mail/$sender_address", hostile_scope("abc"))
        self.assertIsInstance(value, Tainted)
        self.assertEqual(as_path(value, "test"), "/var/mail/abc")
        self.assertNotIsInstance(as_path(value, "test"), Tainted)
        self.assertRaises(ExpansionError, as_path, Tainted("abc"), "test")

    def test_list_of_a_peer_opens_no_file(self) -> None:
        """A list that a peer wrote cannot look into files."""
        for text in ("lsearch;/etc/passwd", "/etc/passwd"):
            scope = hostile_scope(text)
            with self.assertRaises(ExpansionError):
                drive(lists.match_domain(compile_string("$sender_address"), "root", scope))


class MarkTests(SynchronousTestCase):
    def test_a_composed_text_keeps_its_mark(self) -> None:
        """What is made of a text with a value of a peer in it is marked, like the value itself."""
        scope = make_scope(origin=Origin(helo_name=Tainted("|rm")))
        value = "x$sender_helo_name"
        for text in (
            value,
            f"${{lc:{value}}}",
            f"${{length_3:{value}}}",
            f"${{sg{{{value}}}{{x}}{{y}}}}",
        ):
            self.assertTrue(is_tainted(drive(compile_string(text).expand(scope))), text)

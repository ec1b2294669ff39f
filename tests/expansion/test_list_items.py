"""Details of items that the real exim4 shows: JSON, IMAP folders, errors within lists, commands."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.expansion.setting import expand, failure


class ItemTests(SynchronousTestCase):
    def test_json_of_the_wrong_kind(self) -> None:
        """A name wants an object, a number an array; white space may stand before the key."""
        self.assertEqual(expand(r'${extract json {a} {\{"a": 1\}}}'), "1")
        for text, reason in {
            "${extract json{a}{x}{y}{n}}": "missing '{' wrapping object for extract json",
            "${extract json{1}{}{y}{n}}": "missing '[' wrapping array for extract json",
            "${extract json{a}{[1]}{y}{n}}": "missing '{' wrapping object for extract json",
        }.items():
            self.assertEqual(failure(text), reason)

    def test_imap_folder(self) -> None:
        """A dot or slash is the separator, coded if it is listed, or an error."""
        self.assertEqual(expand("${imapfolder{a/b.c}{/}{.}}"), "a.b&AC4-c")
        self.assertEqual(expand("${imapfolder{a:b}{:}}"), "a.b")
        self.assertEqual(failure("${imapfolder{a.b}}"), "imapfolder: illegal character '.'")
        self.assertEqual(failure("${imapfolder{a/b}{.}}"), "imapfolder: illegal character '/'")

    def test_errors_name_the_item(self) -> None:
        """An error in the last argument says of which item, once."""
        for name, text in {
            "map": "${map{a:b}{${eval:x}}}",
            "reduce": "${reduce{a:b}{}{${eval:x}}}",
            "filter": "${filter{a:b}{eq{${eval:x}}{}}}",
        }.items():
            for _ in range(2):
                self.assertTrue(failure(text).endswith(f' inside "{name}" item'))
                self.assertEqual(failure(text).count("inside"), 1)
        self.assertNotIn("inside", failure("${map{${eval:x}}{a}}"))

    def test_command_without_a_path(self) -> None:
        """``run`` looks for no command in PATH."""
        self.assertEqual(expand("${run{true}{ran}{$runrc}}"), "127")
        self.assertEqual(expand("${run{/bin/true}{ran}{$runrc}}"), "ran")

"""Logical lines: the cases were given to Exim 4.96, which does the same."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.config.files import FileTestCase


class ContinuationTests(FileTestCase):
    def test_lines_are_joined_and_leading_space_of_the_next_is_dropped(self) -> None:
        self.assertEqual(self.lines("a = b : \\\n   c\n"), ["1: a = b : c"])

    def test_space_may_follow_the_backslash(self) -> None:
        self.assertEqual(self.lines("a = b:\\  \t\n c"), ["1: a = b:c"])

    def test_comment_lines_inside_are_skipped(self) -> None:
        self.assertEqual(self.lines("a = b:\\\n  # x \\\n c\n"), ["1: a = b:c"])

    def test_a_comment_line_is_not_continued(self) -> None:
        self.assertEqual(self.lines("# x \\\na\n"), ["2: a"])

    def test_an_empty_line_ends_it(self) -> None:
        self.assertEqual(self.lines("a = b : \\\n\n c\n"), ["1: a = b :", "3: c"])

    def test_a_backslash_at_the_end_of_the_file_is_dropped(self) -> None:
        self.assertEqual(self.lines("a = b\\"), ["1: a = b"])
        self.assertEqual(self.lines("a = b\\\n \\\n c"), ["1: a = bc"])

    def test_a_backslash_elsewhere_is_text(self) -> None:
        self.assertEqual(self.lines("a = b\\ c\\\\\nd"), ["1: a = b\\ c\\d"])

    def test_a_hash_inside_a_line_is_text(self) -> None:
        self.assertEqual(self.lines("a = b # c"), ["1: a = b # c"])

    def test_carriage_returns_are_white_space(self) -> None:
        self.assertEqual(self.lines("a = b\\\r\n c\r\nd\r\n"), ["1: a = bc", "3: d"])

    @given(st.lists(st.text("ab :=$\"'{}", min_size=1).map(str.strip).filter(bool), min_size=1))
    @settings(max_examples=60, deadline=None)
    def test_however_a_line_is_cut_it_reads_the_same(self, words: list[str]) -> None:
        """Cutting before any word, with comments between, changes nothing."""
        cut = "x = " + "\\\n  # a comment\n\t".join(words) + "\nend"
        self.assertEqual(
            self.lines(cut),
            [f"1: x = {''.join(words)}", f"{2 * len(words)}: end"],
        )


class IncludeTests(FileTestCase):
    def test_included_lines_have_their_own_file_and_line(self) -> None:
        self.file("\nb\nc", "inc")
        lines, errors = self.lines_and_errors("a\n.include inc\nd\n")
        self.assertEqual(errors, [])
        self.assertEqual(
            [self.bare(f"{line.where}: {line.text}") for line in lines],
            [
                "line 1 of exim.conf: a",
                "line 2 of inc: b",
                "line 3 of inc: c",
                "line 3 of exim.conf: d",
            ],
        )

    def test_inside_a_continued_line(self) -> None:
        self.file("part1:\\\n part2\n", "inc")
        self.assertEqual(
            self.lines("a = x : \\\n .include inc\nb"), ["1: a = x : part1:part2", "3: b"]
        )

    def test_an_included_end_does_not_end_a_continued_line(self) -> None:
        self.file("part1:\\\n", "inc")
        self.assertEqual(self.lines("a = \\\n.include inc\n  b\nc"), ["1: a = part1:b", "4: c"])

    def test_quotes_round_the_name(self) -> None:
        self.file("b", "inc")
        self.assertEqual(self.lines('.include "inc"'), ["1: b"])

    def test_a_macro_may_make_an_include(self) -> None:
        self.file("b", "inc")
        self.assertEqual(self.lines("AA = .include inc\nAA"), ["1: b"])

    def test_a_missing_file(self) -> None:
        self.assertEqual(
            self.lines_and_errors(".include /nonexistent\na")[1],
            [
                "line 1 of exim.conf: failed to open included configuration file /nonexistent: "
                "No such file or directory"
            ],
        )

    def test_if_exists(self) -> None:
        self.file("b", "inc")
        self.assertEqual(self.lines(".include_if_exists /nonexistent\na"), ["2: a"])
        self.assertEqual(self.lines(f".include_if_exists {self.folder}/inc"), ["1: b"])
        self.assertEqual(
            self.lines_and_errors(".include_if_exists inc")[1],
            ['line 1 of exim.conf: .include_if_exists specifies a non-absolute path "inc"'],
        )

    def test_a_file_that_includes_itself_is_an_error_not_an_endless_loop(self) -> None:
        errors = self.lines_and_errors(".include exim.conf\n")[1]
        self.assertEqual(len(errors), 1)
        self.assertIn("included too deeply", errors[0])

    def test_the_main_file_is_missing(self) -> None:
        from mailsrv.config.read import read
        from mailsrv.errors import ConfigErrors

        with self.assertRaises(ConfigErrors) as caught:
            read("/nonexistent/exim.conf")
        self.assertIn(
            "failed to open configuration file /nonexistent/exim.conf", str(caught.exception)
        )

    def test_names_of_files_are_octets(self) -> None:
        self.file("b", "\xe4".encode().decode())  # the file system's name is UTF-8
        self.assertEqual(self.lines(".include \xc3\xa4"), ["1: b"])


class ConditionTests(FileTestCase):
    def test_ifdef(self) -> None:
        text = ".ifdef AA\nx\n.else\ny\n.endif\nz"
        self.assertEqual(self.lines(text), ["4: y", "6: z"])
        self.assertEqual(self.lines(text, {"AA": ""}), ["2: x", "6: z"])
        self.assertEqual(self.lines(text, {"A": "1"}), ["2: x", "6: z"])

    def test_ifndef_elifdef_elifndef(self) -> None:
        text = ".ifndef A\n1\n.elifdef BB\n2\n.elifndef CC\n3\n.else\n4\n.endif # really"
        self.assertEqual(self.lines(text), ["2: 1"])
        self.assertEqual(self.lines(text, {"A": ""}), ["6: 3"])
        self.assertEqual(self.lines(text, {"A": "", "BB": "", "CC": ""}), ["4: 2"])
        self.assertEqual(self.lines(text, {"A": "", "CC": ""}), ["8: 4"])

    def test_nested_in_what_is_skipped(self) -> None:
        text = (
            ".ifdef BB\n.ifdef AA\n1\n.else\n2\n.endif\n3\n.include /nonexistent\n"
            ".elifdef AA\n4\n.else\n5\n.endif"
        )
        self.assertEqual(self.lines(text, {"AA": ""}), ["10: 4"])

    def test_inside_a_continued_line(self) -> None:
        self.assertEqual(
            self.lines("a \\\n.ifdef AA\n:b\\\n.else\n:c\\\n.endif\n:d"), ["1: a :c:d"]
        )

    def test_across_files(self) -> None:
        self.file("AA = x\n.ifdef AA\n", "inc")
        self.assertEqual(self.lines(".include inc\na\n.endif\n"), ["2: a"])

    def test_unbalanced(self) -> None:
        for text, expected in {
            ".ifdef AA\na": "line 1 of exim.conf: "
            "Unexpected end of configuration file: .endif missing",
            "a\n.endif": "line 2 of exim.conf: .endif without matching .ifdef",
            ".else": "line 1 of exim.conf: .else without matching .ifdef",
            ".elifdef X": "line 1 of exim.conf: .elifdef without matching .ifdef",
        }.items():
            self.assertEqual(self.lines_and_errors(text)[1], [expected])

    def test_built_in_macros(self) -> None:
        for text in (
            "_HAVE_TLS",
            "_OPT_MAIN_QUEUE_ONLY",
            "_DRIVER_ROUTER_ACCEPT",
            "_LOG_PID",
            "XX _HAVE_TLS",
        ):
            self.assertEqual(self.lines(f".ifdef {text}\na\n.endif"), ["2: a"], text)
        self.assertEqual(self.lines(".ifdef _HAVE_PERL _OPT_MAIN_PERL_STARTUP\na\n.endif"), [])


class MacroTests(FileTestCase):
    def test_substitution_is_in_the_order_of_definition(self) -> None:
        """Replacements are scanned for later macros, not for earlier ones or for the same."""
        for text, expected in {
            "AA = BB\nBB = cc\na = AA BB": "a = cc cc",
            "BB = cc\nAA = BB\na = AA BB": "a = cc cc",
            "ABCD = 2\nABC = 1\na = ABCD ABC XABCY": "a = 2 1 X1Y",
            "AA = x AA y\na = AA": "a = x AA y",
            "AA = AAAA\na = AA": "a = AAAA",
            "AA = 1\nAA == AA 2\na = AA": "a = 1 2",
            "AA = 1\nBB = AA\nAA == 2\na = BB": "a = 1",
            "AA = a\\\n  b\nx = AA": "x = ab",
            'AA = "x"\na = AA': 'a = "x"',
            "A = 4\nA == 7\na = A AB": "a = 7 7B",
            "Ab_1 = z\na = Ab_1Ab_1": "a = zz",
            "AA =\nAA\na = AAb": "a = b",
            "AA = # c\nAA\na = b": "a = b",
        }.items():
            lines, errors = self.lines_and_errors(text)
            self.assertEqual(([line.text for line in lines], errors), ([expected], []), text)

    def test_a_name_before_an_equals_sign_in_a_continued_line_is_replaced(self) -> None:
        self.assertEqual(self.lines("AA = x\na = \\\nAA = y"), ["2: a = x = y"])

    def test_the_command_line_wins(self) -> None:
        text = "AA = 1\nAA == 2\na = AA"
        self.assertEqual(self.lines(text, {"AA": "given"}), ["3: a = given"])

    def test_bad_definitions(self) -> None:
        for text, expected in {
            "AA = 1\nAA = 2": 'line 2 of exim.conf: macro "AA" is already defined (use "==" to '
            "redefine it)",
            "AA == 1": 'line 1 of exim.conf: can\'t redefine an undefined macro "AA"',
            "ABC = 1\nXABCD = 2": 'line 2 of exim.conf: "XABCD" cannot be defined as a macro '
            'because previously defined macro "ABC" is a substring (define the longer name first)',
            "Queue_Only": "line 1 of exim.conf: malformed macro definition (NAME = replacement)",
        }.items():
            self.assertEqual(self.errors(text), [expected])

    def test_a_definition_contains_a_macro_of_the_command_line(self) -> None:
        self.assertIn("is a substring", self.errors("AB = 1", {"A": "x"})[0])


class HostileInputTests(FileTestCase):
    def test_any_octets_give_lines_or_errors(self) -> None:
        """Nothing but ConfigErrors comes out, whatever is in the file."""
        from mailsrv.config.read import read
        from mailsrv.errors import ConfigErrors

        source = random.Random(7)
        pieces = [
            *("begin ", "acl", "routers", "\n", "\\\n", '"', "=", " ", ":", "AA", "_HAVE_"),
            *(".ifdef", ".endif", ".include", "queue_only", "domainlist ", "+a", "hide "),
            *("no_", "\0", "\xff", "${", "}", "driver = accept", "5K", "x"),
        ]
        for _ in range(300):
            path = self.file("".join(source.choices(pieces, k=source.randrange(40))))
            try:
                read(path)
            except ConfigErrors as problems:
                self.assertTrue(problems.errors)

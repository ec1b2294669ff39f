"""Option values: what Exim 4.96 takes, refuses and prints."""

from __future__ import annotations

import grp
import pwd
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.config import types
from mailsrv.config.settings import unquote
from mailsrv.config.types import OptionType
from mailsrv.errors import ConfigError, Position
from mailsrv.expansion.template import Template

WHERE = Position("exim.conf", 7)


class ValueTests(SynchronousTestCase):
    def shown(self, kind: OptionType[Any], text: str) -> str:
        """Return what is printed for a text; "!" and the problem for a bad one."""
        try:
            return kind.line("o", kind.parse(text, WHERE))
        except ConfigError as error:
            self.assertEqual(error.where, WHERE)
            return f"! {error.problem}"

    def table(self, kind: OptionType[Any], expected: dict[str, str]) -> None:
        self.assertEqual({text: self.shown(kind, text) for text in expected}, expected)

    def test_integers(self) -> None:
        large = '! absolute value of integer "{}" is too large (overflow)'
        self.table(
            types.INTEGER,
            {
                "0x10": "o = 16",
                "010": "o = 8",
                "10K": "o = 10240",
                "10k": "o = 10240",
                "2M": "o = 2097152",
                "1G": "o = 1073741824",
                "3G": large.format("3G"),
                "2147483647": "o = 2147483647",
                "2147483648": large.format("2147483648"),
                "-5K": "o = -5120",
                "+5": "o = 5",
                "": "! integer expected",
                '"5"': "! integer expected",
                "1x": "! extra characters follow integer value",
                "0x": "! extra characters follow integer value",
                "08": "! extra characters follow integer value",
                "5 5": "! extra characters follow integer value",
                "1KK": "! extra characters follow integer value",
            },
        )

    def test_expanded_numbers_and_times(self) -> None:
        """What needs no expansion is checked as it is read; the rest when it is expanded."""
        self.table(
            types.EXPANDED_SIZE,
            {
                "50M": "o = 50M",
                "0": "o = 0",
                "": "o = ",
                "${if eq{a}{b}{1}{2}}": "o = ${if eq{a}{b}{1}{2}}",
                "x$y": "o = x$y",
            },
        )
        self.table(
            types.EXPANDED_TIME,
            {
                "5m": "o = 5m",
                "${if eq{a}{b}{1s}{2s}}": "o = ${if eq{a}{b}{1s}{2s}}",
                "5": "! invalid time value",
                "": "! invalid time value",
            },
        )

    def test_what_is_found_bad_when_it_is_used(self) -> None:
        for type, text, problem in (
            (types.EXPANDED_SIZE, "5x", '"5x" is not a number'),
            (types.EXPANDED_SIZE, "-1", '"-1" is not a number'),
            (types.EXPANDED_PATH, "rel", '"rel" is not an absolute path'),
            (types.EXPANDED_PATH, "", '"" is not an absolute path'),
            (types.EXPANDED, "${bad", "is not a known operator"),
            (types.BOOL_OR_EXPANDED, "${bad", "is not a known operator"),
            (types.EXPANDED_USER, "${bad", "is not a known operator"),
            (types.EXPANDED_GROUP, "${bad", "is not a known operator"),
        ):
            fault = type.late(type.parse(text, WHERE))
            self.assertIn(problem, str(fault))
        self.assertIsNone(types.EXPANDED_SIZE.late(types.EXPANDED_SIZE.parse("5M", WHERE)))

    def test_paths(self) -> None:
        self.table(
            types.EXPANDED_PATH,
            {
                "/var/spool": "o = /var/spool",
                "$x/y": "o = $x/y",
            },
        )

    def test_addresses(self) -> None:
        """As Exim takes errors_reply_to."""
        self.table(
            types.ADDRESS,
            {
                "x@y": "o = x@y",
                "A <x@y>": "o = A <x@y>",
                "x": '! "x" does not contain a domain',
                "x@y, z@q": '! "x@y, z@q" is not one address',
                "a b": '! "a b" is not one address',
                "": '! "" is not one address',
            },
        )

    def test_sizes_are_shown_with_suffixes(self) -> None:
        self.table(
            types.SIZE,
            {
                "0": "o = 0",
                "1000": "o = 1000",
                "10240": "o = 10K",
                "1G": "o = 1024M",
                "1025K": "o = 1025K",
            },
        )
        self.table(
            types.KINT,
            {
                "0": "o = 0",
                "5": "o = 5K",
                "10K": "o = 10K",
                "2M": "o = 2M",
                "3G": "o = 3G",
                "2048": "o = 2M",
                "3000000000": "o = 3000000000K",
                "2147483648": "o = 2T",
            },
        )
        self.assertEqual(types.KINT.parse("10", WHERE), 10240)

    def test_octal(self) -> None:
        self.table(types.OCTAL, {"640": "o = 0640", "0640": "o = 0640", "0": "o = 0"})
        self.assertEqual(types.OCTAL.parse("640", WHERE), 0o640)
        self.assertEqual(self.shown(types.OCTAL, "9")[0], "!")

    def test_fixed_point(self) -> None:
        self.table(
            types.FIXED,
            {
                "1": "o = 1.0",
                "1.5": "o = 1.5",
                "10.25": "o = 10.25",
                "1.2345": "o = 1.234",
                "1.": "o = 1.0",
                "1.050": "o = 1.05",
                "0": "o = 0.0",
                "0.01": "o = 0.01",
                ".5": "! fixed-point number expected",
                "": "! fixed-point number expected",
                "1x": "! extra characters follow fixed-point value",
                "1.5.2": "! extra characters follow fixed-point value",
            },
        )
        self.assertEqual(types.FIXED.line("o", None), "o =")

    def test_times(self) -> None:
        bad = dict.fromkeys(
            ["5", "", "0", "-1", "1M", "1.5h", "1d2", "1h x", "1H"], "! invalid time value"
        )
        self.table(
            types.TIME,
            {
                "1w2d3h4m5s": "o = 1w2d3h4m5s",
                "1d1d": "o = 2d",
                "90m": "o = 1h30m",
                "0s": "o = 0s",
                "3h2w": "o = 2w3h",
                **bad,
            },
        )

    def test_time_lists(self) -> None:
        order = "! time value out of order"
        self.table(
            types.TIME_LIST,
            {
                "1h:2h": "o = 1h:2h",
                "1h : 2h": "o = 1h:2h",
                "0s": "o = ",
                "": "o = ",
                "2h:1h": order,
                "1h:1h": order,
                "1h:": "! invalid time value",
            },
        )

    def test_booleans(self) -> None:
        self.table(
            types.BOOLEAN,
            {
                "true": "o",
                "YES": "o",
                "": "o",
                "no": "no_o",
                "false": "no_o",
                "maybe": '! "maybe" is not a valid boolean value',
                '"yes"': '! ""yes"" is not a valid boolean value',
                "yes x": '! extra characters follow "yes" of the boolean value',
            },
        )

    def test_boolean_or_expanded(self) -> None:
        self.table(
            types.BOOL_OR_EXPANDED,
            {"yes": "o", "no": "no_o", "${if eq{a}{b}}": "o = ${if eq{a}{b}}"},
        )
        self.assertIs(types.BOOL_OR_EXPANDED.parse("no", WHERE), False)
        self.assertIsInstance(types.BOOL_OR_EXPANDED.parse("$x", WHERE), Template)

    def test_strings(self) -> None:
        self.table(types.STRING, {"a\nb\t\xe9\x01": "o = a\\nb\\t\\351\\001", "": "o = "})
        self.assertEqual(types.STRING.line("o", None), "o = ")

    def test_lists_and_expanded_strings_are_templates(self) -> None:
        for kind in (types.EXPANDED, types.HOST_LIST, types.STRING_LIST):
            template = kind.parse("<; a ; $b", WHERE)
            self.assertEqual((template.source, template.where), ("<; a ; $b", WHERE))
            self.assertEqual(kind.line("o", template), "o = <; a ; $b")
        self.assertEqual(types.EXPANDED.parse("a", WHERE).constant, "a")

    def test_a_bad_expansion_is_no_error_of_the_type(self) -> None:
        self.assertIsNotNone(types.EXPANDED.parse("${if", WHERE).error)

    def test_users_and_groups(self) -> None:
        root, group = pwd.getpwuid(0).pw_name, grp.getgrgid(0).gr_name
        self.table(
            types.USER, {"0": f"o = {root}", "nosuchuser": "! user nosuchuser was not found"}
        )
        self.table(types.GROUP, {"0": f"o = {group}", "nosuch": "! group nosuch was not found"})
        self.table(
            types.USER_LIST,
            {
                f"{root} : 0": f"o = {root}:{root}",
                "": "o =",
                f"{root} : nosuch": "! user nosuch was not found",
                "$x": "! a list of users or groups cannot be expanded here",
            },
        )
        user = types.USER.parse(root, WHERE)
        self.assertEqual((user.name, user.uid, user.gid), (root, 0, 0))

    def test_a_number_without_a_name_is_a_user(self) -> None:
        user = types.USER.parse("3999999", WHERE)
        self.assertEqual((user.name, user.uid, user.gid), ("3999999", 3999999, None))

    def test_users_that_are_expanded_later(self) -> None:
        self.assertIsInstance(types.EXPANDED_USER.parse("$local_part", WHERE), Template)
        self.assertEqual(self.shown(types.EXPANDED_USER, "$x"), "o = $x")
        self.assertEqual(types.EXPANDED_GROUP.line("o", None), "o = ")

    @given(st.integers(0, 10**9))
    @settings(max_examples=80, deadline=None)
    def test_a_shown_time_reads_as_the_same_time(self, seconds: int) -> None:
        self.assertEqual(types.parse_time(types.show_time(seconds)), seconds)

    @given(st.integers(-(2**31) + 1, 2**31 - 1))
    @settings(max_examples=80, deadline=None)
    def test_a_shown_size_reads_as_the_same_size(self, size: int) -> None:
        self.assertEqual(types.SIZE.parse(types.SIZE.show(size), WHERE), size)


class QuotingTests(SynchronousTestCase):
    def test_escapes(self) -> None:
        self.assertEqual(unquote(r'"a\n\x41\101\"\q\\ \x4g"', WHERE), 'a\nAA"q\\ \x04g')

    def test_without_a_quote_at_the_start_nothing_is_special(self) -> None:
        self.assertEqual(unquote(r'a "b" \n', WHERE), r'a "b" \n')

    def test_bad_quoting(self) -> None:
        for text, problem in {
            '"a': "missing quote at end of string value",
            '"a\\"': "missing quote at end of string value",
            '"a" b': "extra characters follow string value",
            '"a""b"': "extra characters follow string value",
            '"a\\0"': "a string cannot hold a NUL octet",
        }.items():
            with self.assertRaises(ConfigError) as caught:
                unquote(text, WHERE)
            self.assertEqual(caught.exception.problem, problem)

    @given(st.text(st.characters(min_codepoint=1, max_codepoint=255)))
    @settings(max_examples=100, deadline=None)
    def test_what_is_quoted_reads_as_it_was(self, text: str) -> None:
        quoted = "".join(f"\\{ord(c):03o}" if c in '"\\\n' else c for c in text)
        self.assertEqual(unquote(f'"{quoted}"', WHERE), text)

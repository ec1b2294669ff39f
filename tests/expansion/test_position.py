"""An error knows where in the string, and where in the configuration, it was made."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import Position
from mailsrv.expansion.errors import ExpansionError, LookupDeferred
from mailsrv.expansion.lists import NamedLists
from mailsrv.expansion.template import compile_string
from mailsrv.expansion.tree import drive
from tests.expansion.setting import make_scope

HERE = Position("exim.conf", 12)
# What cannot be read or evaluated; the fault begins where the ^ of the line below is.
FAULTS = """
a$b.c
 ^
abc ${if eq{a}{$nothing}{b}}
               ^
abc ${lcx:abc}
    ^
${map{a:b}{x${nosuch}y}}
            ^
${if and{{eq{a}{a}}{equal{a}{b}}}{x}}
                    ^
${if def:nothing{x}}
         ^
a $- b
  ^
a ${- b
    ^
x ${lc:${uc:abc}
      ^
${if eq{a}{b}{yes
             ^
${if eq{a}}
          ^
${extract{1}{:}{a}{b}failure}
                            ^
${filter{a:b}{equal{$item}{a}}}
              ^
${if forany{a}{equal{$item}{a}}{x}}
               ^
${run{/bin/echo $nothing}}
                ^
${run{/bin/echo "\\${nothing}"}}
      ^
${listnamed_x:abc}
^
a ${lookup{x} lsearc {/x}}
              ^
abc\\
    ^
abc ${eval:1/0} d
    ^
abc ${if eq{a}{${eval:a}}{b}}
               ^
${if and{{eq{a}{a}}{!={x}{1}}}{x}}
                     ^
abc ${map{1:a}{${eval:$item}}}
               ^
${if forall{1:a}{>{$item}{0}}{x}}
                 ^
${if match_ip{abc}{1.2.3.4}{x}}
     ^
abc ${sg{abc}{b}{${eval:$0}}}
                 ^
abc ${sg{abc}{b}{\\${eval:\\$0\\}}}
    ^
abc ${expand:\\${eval:a\\}} d
    ^
abc ${sort{a}{x}{$item}}
    ^
a ${if eq{a}{b}{x}fail}
  ^
${if !match{a}{(}}
                 ^
""".replace("\\\\", "\\")


def fault(text: str, where: Position | None = HERE) -> ExpansionError:
    """The error of a string."""
    template = compile_string(text, where)
    try:
        result = drive(template.expand(make_scope(lists=NamedLists())))
    except ExpansionError as error:
        return error
    raise AssertionError(f"{text!r} gave {result!r}")


class PositionTests(SynchronousTestCase):
    def test_where_the_fault_is(self) -> None:
        """Errors of reading and of evaluation are told with the place of what failed."""
        lines = FAULTS.strip("\n").splitlines()
        for text, mark in zip(lines[::2], lines[1::2], strict=True):
            error = fault(text)
            shown = f"{text}\n{' ' * (error.at or 0)}^ ({error.at}, {error.reason})"
            self.assertEqual(error.at, mark.index("^"), shown)
            self.assertEqual((error.source, error.where), (text, HERE))

    def test_for_people(self) -> None:
        error = fault("abc ${lcx:abc}")
        reason = 'unknown expansion operator "lcx"'
        self.assertEqual(error.reason, reason)
        self.assertEqual(error.shown, f'{reason} at character 5: "${{lcx:abc}}"')
        self.assertEqual(error.explained, f"{reason} (line 12 of exim.conf, character 5)")

    def test_the_end(self) -> None:
        self.assertEqual(fault("abc\\").shown, "\\ at end of string at the end of the string")

    def test_no_file(self) -> None:
        error = fault("abc ${eval:1/0}", None)
        place = '(character 5 of "abc ${eval:1/0}")'
        self.assertEqual(error.explained, f"{error.reason} {place}")

    def test_a_long_string_is_cut(self) -> None:
        shown = fault("${lcx:" + "a" * 1000 + "}").shown
        self.assertTrue(shown.endswith(' ..."'), shown)
        self.assertLess(len(shown), 120)

    def test_an_inner_string(self) -> None:
        """A fault within a named list is told with the list's place, not with its user's."""
        there = Position("exim.conf", 3)
        lists = NamedLists({"inner": compile_string("a : ${eval:x}", there)})
        template = compile_string("${if match_domain{a.b}{+inner}{x}}", HERE)
        error = self.assertRaises(
            ExpansionError, lambda: drive(template.expand(make_scope(lists=lists)))
        )
        self.assertEqual((error.where, error.at), (there, 4))

    def test_it_stays_what_it_is(self) -> None:
        """A lookup that defers is one with a position, too."""
        error = fault("a ${lookup{x}lsearch{/nonexistent/file}}")
        self.assertIsInstance(error, LookupDeferred)
        self.assertEqual(error.at, 2)

    def test_each_time_the_same(self) -> None:
        """An error that is kept gives a new one each time, with its place."""
        template = compile_string("a ${nosuch}", HERE)
        for _ in range(2):
            error = self.assertRaises(ExpansionError, lambda: template.value(make_scope()))
            self.assertEqual((error.at, error.where), (2, HERE))

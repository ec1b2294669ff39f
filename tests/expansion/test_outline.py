"""A string is printed as a tree that reads as the same tree, and comes to the same result."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.explain import MOST_STEPS, Trace
from mailsrv.expansion.outline import outline, whole
from mailsrv.expansion.template import compile_string
from mailsrv.expansion.tree import drive
from mailsrv.mail.header import Header
from mailsrv.mail.message import Transaction
from mailsrv.mail.taint import Tainted
from tests.expansion.setting import expand, make_scope
from tests.expansion.test_hostile import ITEMS, PIECES

HERE = os.path.dirname(__file__)

TEXTS = (
    "",
    "a",
    "b1:",
    "(/. ",
    " ",
    "\\}",
    "\\$",
    "\\\\",
    "\\n",
    "\\x7d",
    "\\175",
    "\\N${x\\N",
    "\n",
    "\xe9",
    "\0",
)
NAMES = (
    *("$domain", "${domain}", "$1", "${1}", "$item", "$value", "$nosuch"),
    *("$h_a: ", "$h_a b", "$rh_x-y:", "${bheader_a:}"),
)
SPACES = ("", "", "", " ", "\n\t")


class Writer:
    """Writes strings of the grammar, with white space wherever it may stand; one in ten is bad."""

    def __init__(self, random: Random) -> None:
        self._choice = random.choice
        self._left = 25  # items and conditions that may still be begun

    def string(self) -> str:
        kinds: list[Callable[[], str]] = [lambda: self._choice(TEXTS), lambda: self._choice(NAMES)]
        count = self._choice(range(4))
        return "".join(self._choice([*kinds, self.item])() for _ in range(count))

    def space(self) -> str:
        return self._choice(SPACES)

    def braced(self, count: int = 1) -> str:
        return "".join(f"{self.space()}{{{self.string()}}}" for _ in range(count))

    def branches(self) -> str:
        end = self.space()
        return self._choice(
            (lambda: end, self.braced, lambda: self.braced(2), lambda: f"{self.braced()}fail{end}")
        )()

    def item(self) -> str:
        self._left -= 1
        if self._left < 0:
            return ""
        c = self._choice
        text = c(
            (
                lambda: f"if{c(' ' + chr(10))}{self.test()}{self.branches()}",
                lambda: f"{c(('map', 'extract json ', 'listquote'))}{self.braced(2)}",
                lambda: f"{c(('lc', 'length_2', 'quote', 'base64', 'substr_1_2'))}:{self.string()}",
                lambda: f"extract{self.space()}{{1}}{self.braced(2)}{self.branches()}",
                lambda: f"extract{self.braced(c((1, 2, 3)))}",
                lambda: f"lookup{self.braced()} lsearch*@ {self.braced()}{self.branches()}",
                lambda: f"filter{self.braced()}{self.space()}{{{self.test()} }}{self.space()}",
                lambda: f"sg{self.braced()}{{a}}{self.braced()}",
                lambda: f"run{{/bin/true 'a  b' {self.string()}}}{self.branches()}",
            )
        )()
        return f"${{{text}}}"

    def test(self) -> str:
        self._left -= 1
        if self._left < 0:
            return "def:domain"
        c = self._choice
        return c(
            (
                lambda: f"{c(('eq', 'match', '>=', '=', 'inlist'))}{self.braced(2)}",
                lambda: f"{c(('bool', 'isip', 'exists', 'bool_lax'))}{self.braced()}",
                lambda: c(("def:domain", "def:h_a:", "def:h_a ", "first_delivery")),
                lambda: f"match_domain{self.braced()}{{a$b\\}}}}",
                lambda: f"!{self.space()}{self.test()}",
                lambda: f"{c(('and{{', 'or {', 'and{ {'))}{self.test()}{self.space()}}}}}",
                lambda: f"forany{self.braced()}{self.space()}{{{self.test()}}}",
            )
        )()


def result(text: str) -> str:
    """The value of a string, or the kind of its failure."""
    message = Transaction(headers=[Header("A: b {x} $y")])
    scope = make_scope(values={"domain": "a.b", "item": "i"}, numbers=("0", "1"), message=message)
    try:
        return expand(text, scope)
    except ExpansionError as error:
        return type(error).__name__


class OutlineTests(SynchronousTestCase):
    def same(self, text: str) -> bool:
        """Check one string; False if it is not well formed."""
        try:
            tree = outline(text)
        except ExpansionError:
            return False
        printed = whole(tree)
        self.assertEqual(outline(printed), tree, f"{text!r}, printed {printed!r}")
        self.assertEqual(whole(outline(printed)), printed)
        return True

    @settings(max_examples=500)
    @given(st.randoms(use_true_random=False))
    def test_round_trip(self, random: Random) -> None:
        """Printing and reading gives the same tree, which comes to the same result."""
        text = Writer(random).string()
        if self.same(text):
            self.assertEqual(result(whole(outline(text))), result(text), text)

    @settings(max_examples=300)
    @given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
    def test_pieces(self, text: str) -> None:
        """The same of whatever happens to be well formed."""
        self.same(text)

    @settings(max_examples=300)
    @given(st.text(max_size=30))
    def test_any_text(self, text: str) -> None:
        self.same(text)

    def test_recorded(self) -> None:
        """The same of strings as they are in configurations."""
        with open(os.path.join(HERE, "recorded.json"), encoding="ascii") as file:
            recorded = json.load(file)
        read = [self.same(text) for text in (*ITEMS, *(text for text, _ in recorded))]
        self.assertGreater(sum(read), 400)

    def test_one_form(self) -> None:
        for text, printed in {
            "a$domain.c\\}": "a${domain}.c}",
            "${if  and { { eq {a} {b\\}} } {! def:h_x } } {x}  fail }": (
                "${if and{{eq{a}{b\\}}}{! def:h_x:}}{x}fail}"
            ),
            "${lookup {$1}  lsearch {/x} {a}}": "${lookup{${1}}lsearch{/x}{a}}",
            "${run{/bin/sh -c 'a  $1'}}": "${run{/bin/sh -c 'a  $1'}}",
            "a\\tb\\x00c": "a\\tb",
        }.items():
            self.assertEqual(whole(outline(text)), printed)


class TraceTests(SynchronousTestCase):
    def trace(self, text: str) -> list[str]:
        trace = Trace(text)
        scope = make_scope(values={"domain": Tainted("B.c")})
        try:
            drive(compile_string(text, recorder=trace).expand(scope))
        except ExpansionError as error:
            trace.note(error.spot)
        return trace.lines()

    def test_what_was_evaluated(self) -> None:
        """Each item and condition in order, with what it came to; not what was passed over."""
        text = "x${if and{{match{$domain}{^(.)}}{!eq{$1}{a}}}{${lc:$1}}{$tod_full}}"
        self.assertEqual(
            self.trace(text),
            [
                f'{text[1:]}  ->  "b" (tainted)',
                "  and{{match{$domain}{^(.)}}{!eq{$1}{a}}}  ->  true",
                "    match{$domain}{^(.)}  ->  true",
                '      $domain  ->  "B.c" (tainted)',
                "    !eq{$1}{a}  ->  true",
                '      $1  ->  "B" (tainted)',
                '  ${lc:$1}  ->  "b" (tainted)',
                '    $1  ->  "B" (tainted)',
            ],
        )

    def test_failures(self) -> None:
        lines = self.trace("a${lc:${eval:x}}")
        self.assertEqual(len(lines), 3)
        self.assertRegex(lines[1], r"^  \$\{eval:x\}  ->  failed: error in expression")
        self.assertEqual(lines[2], 'at character 7: "${eval:x}}"')
        self.assertEqual(self.trace("a${x"), ['at character 2: "${x"'])

    def test_loops_are_cut(self) -> None:
        lines = self.trace("${map{" + "a:" * 5000 + "}{$item}}")
        self.assertEqual(len(lines), MOST_STEPS + 1)
        self.assertEqual(lines[-1], f"... and {5001 - MOST_STEPS} more")

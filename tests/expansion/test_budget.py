"""What a peer's values may cost: loops and values are bounded, and others have their turn."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion import budget, separated
from mailsrv.expansion.budget import LONGEST, SLICE
from mailsrv.expansion.lists import NamedLists
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import compile_string
from mailsrv.mail.taint import Tainted
from tests.expansion.setting import expand, failure, make_scope

MANY = "a:" * 300
STEPS = "expansion takes more than 1000 steps"
LARGE = f"expansion makes a value of more than {LONGEST} characters"
LARGE_VALUE = Tainted('a:b"\\(<@ \n\xff' * 100_000)


def with_value(value: str, **values: str) -> Scope:
    return make_scope(values={"value": Tainted(value), **values})


class StepTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(budget, "MOST_STEPS", 1000)

    def test_loops_in_loops(self) -> None:
        """All steps of loops within one are counted together, whatever the loops are."""
        inner = (
            "${map{$value}{x}}",
            "${filter{$value}{eq{$item}{b}}}",
            "${reduce{$value}{}{x}}",
            "${sort{$value}{lti}{$item}}",
            "${sg{$value}{a}{b}}",
            "${if forany{$value}{eq{$item}{b}}}",
            "${if forall{$value}{eq{$item}{a}}}",
            "${if match_domain{x}{+loops}}",
            "${expand:\\${map{\\$value\\}{x\\}\\}}",
        )
        lists = NamedLists({"loops": compile_string("${map{$value}{x}}")})
        for text in inner:
            for outer in (
                f"${{map{{$value}}{{{text}}}}}",
                f"${{if forall{{$value}}{{!eq{{{text}}}{{b}}}}}}",
            ):
                scope = make_scope(lists, values={"value": Tainted(MANY)})
                self.assertIn(STEPS, failure(outer, scope), outer)
        replacement = "\\${map{\\$value\\}{x\\}\\}"
        self.assertIn(STEPS, failure(f"${{sg{{$value}}{{a}}{{{replacement}}}}}", with_value(MANY)))

    def test_one_after_the_other(self) -> None:
        """What is no loop in a loop is as long as the string."""
        text = "${map{$value}{x}}" * 10
        self.assertEqual(len(expand(text, with_value(MANY))), 10 * (2 * 300 - 1))

    def test_endless_expansion(self) -> None:
        """A value that expands itself, once or twice, ends."""
        for value in ("${expand:$acl_c_x}", "${expand:$acl_c_x}${expand:$acl_c_x}"):
            scope = make_scope(values={"acl_c_x": value})
            self.assertRegex(failure(value, scope), "nested too deeply|more than 1000 steps")


class TurnTests(SynchronousTestCase):
    def test_others_have_their_turn(self) -> None:
        """A loop that takes long stops now and then; the rest of the server goes on meanwhile."""
        scope = with_value(MANY)
        clock = _Ticking()
        scope.services = replace(scope.services, clock=clock)
        template = compile_string("${map{$value}{$item}}")
        result = Deferred.fromCoroutine(template.expand(scope))
        self.assertNoResult(result)
        clock.advance(1)
        self.assertEqual(len(self.successResultOf(result)), 599)
        self.assertGreater(clock.turns, 300 * _Ticking.tick / SLICE / 2)

    def test_cancelled(self) -> None:
        """The command that it is for may be given up in between."""
        scope = with_value(MANY)
        clock = _Ticking()
        scope.services = replace(scope.services, clock=clock)
        result = Deferred.fromCoroutine(compile_string("${map{$value}{$item}}").expand(scope))
        result.addErrback(lambda reason: None)
        result.cancel()
        self.assertTrue(result.called)
        clock.advance(1)

    def test_where_there_are_no_others(self) -> None:
        """At a start and in a command the same string comes to the same, at once."""
        scope = with_value(MANY)
        clock = _Ticking()
        scope.services = replace(scope.services, clock=clock)
        self.assertEqual(len(compile_string("${map{$value}{$item}}").value(scope)), 599)
        self.assertEqual(clock.getDelayedCalls(), [])


class SizeTests(SynchronousTestCase):
    def test_doubling(self) -> None:
        """What grows with each step of a loop ends at the largest value there may be."""
        for text in (
            "${reduce{$value}{x}{$value$value}}",
            "${reduce{$value}{x}{${base64:$value}}}",
        ):
            said = f'{LARGE} inside "reduce" item'
            self.assertEqual(failure(text, with_value(MANY)), said)

    def test_many_large_pieces(self) -> None:
        scope = with_value(MANY, domain=Tainted("x" * 1_000_000))
        self.assertEqual(failure("${map{$value}{$domain}}", scope), LARGE)
        self.assertEqual(failure("${sg{$value}{a}{\\$domain}}", scope), LARGE)

    def test_files(self) -> None:
        """A file is read up to the largest value; its line ends are made no more than that."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "file")
            with open(path, "wb") as file:
                file.truncate(LONGEST + 1)
            self.assertEqual(failure(f"${{readfile{{{path}}}}}"), LARGE)
            with open(path, "wb") as file:
                file.write(b"\n" * 100_000)
            self.assertEqual(failure(f"${{readfile{{{path}}}{{{'x' * 1000}}}}}"), LARGE)

    def test_items_of_a_list(self) -> None:
        self.patch(separated, "MOST_ITEMS", 100)
        for text in ("${listcount:$value}", "${if inlist{b}{$value}}", "${sort{$value}{<}{$item}}"):
            self.assertEqual(failure(text, with_value(MANY)), "a list has more than 100 items")


class LargeValueTests(SynchronousTestCase):
    def test_a_megabyte(self) -> None:
        """What goes through a value does so once."""
        scope = with_value(LARGE_VALUE)
        for text in (
            "${strlen:$value}", "${lc:$value}", "${sha256:$value}", "${base64:$value}",
            "${quote:$value}", "${substr_5_10:$value}", "${length_3:$value}", "${hash_8:$value}",
            "${extract{3}{:}{$value}}", "${if match{$value}{b.*z}}", "${domain:$value}",
            "${if eq{$value}{$value}{a}{b}}", "${address:$value}", "${imapfolder{$value}}",
        ):  # fmt: skip
            begun = time.process_time()
            expand(text, scope)
            self.assertLess(time.process_time() - begun, 3, text)


class _Ticking(Clock):
    """A clock by which each look at it takes a moment."""

    tick = 0.001
    turns = 0

    def callLater(self, *arguments: Any, **more: Any) -> DelayedCall:
        self.turns += 1
        return super().callLater(*arguments, **more)

    def seconds(self) -> float:
        self.rightNow += self.tick
        return super().seconds()

"""Compiling: errors kept, waiting known, nesting without end survived."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion.errors import ExpansionError, ForcedFailure
from mailsrv.expansion.template import compile_string
from mailsrv.expansion.tree import drive
from tests.expansion.setting import expand, failure, make_scope

SYNTAX = st.sampled_from(
    ["$", "{", "}", "\\", "\\N", "${if ", "eq", "${lc:", "$h_x:", "a", "1", ":", " ", "${lookup",
     "lsearch", "${extract{", "and", "!", "match_domain", "fail", "${map", "$value", "\\x4", "_"]
)  # fmt: skip


class SlowLookup:
    """A lookup that answers later."""

    def __init__(self) -> None:
        self.answer: Deferred[str | None] = Deferred()

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find (ILookup)."""
        return await self.answer


class TagTests(SynchronousTestCase):
    def test_prvs(self) -> None:
        """As Exim 4.96 writes it: the digits in lower case; either case is taken back."""
        tagged = expand("${prvs{a@b}{k}}")
        self.assertEqual(tagged, tagged.lower())
        for text in (tagged, tagged.upper().replace("A@B", "a@b").replace("PRVS", "prvs")):
            check = f"${{prvscheck{{{text}}}{{k}}{{$prvscheck_result/$prvscheck_address}}}}"
            self.assertEqual(expand(check), "1/a@b")


class TemplateTests(SynchronousTestCase):
    def test_constant(self) -> None:
        """A text without expansion is known at once."""
        self.assertEqual(compile_string("plain \\$ text").constant, "plain $ text")
        self.assertIsNone(compile_string("$domain").constant)

    def test_error_is_kept(self) -> None:
        """A bad string compiles, and raises its error when it is used."""
        template = compile_string("${if")
        assert template.error is not None
        self.assertRaises(ExpansionError, template.value, make_scope())
        self.assertRaises(ExpansionError, drive, template.expand(make_scope()))

    def test_known_to_exim(self) -> None:
        """What Exim has and mailsrv has not is said so when the string is read."""
        for text in (
            "${dlfunc{a}{b}}",
            "${lookup{a}nis{b}}",
            "$bmi_verdict",
        ):
            error = compile_string(text).error
            assert error is not None, text
            self.assertIn("known to Exim, not to mailsrv", error.reason)

    def test_forced_failure(self) -> None:
        """``fail`` is told from other errors."""
        with self.assertRaises(ForcedFailure):
            expand("${if eq{a}{b}{x}fail}")

    def test_value_does_not_wait(self) -> None:
        """A string that has to wait has no value at once; one with a loop has."""
        slow = SlowLookup()
        template = compile_string("${lookup{a}lsearch{/x}}")
        self.assertTrue(template.waits)
        self.assertRaises(TypeError, template.value, make_scope(lookup=lambda name: slow))
        template = compile_string("${map{a:b}{<$item>}}")
        self.assertTrue(template.waits)
        self.assertEqual(template.value(make_scope()), "<a>:<b>")

    def test_waiting(self) -> None:
        """A lookup that answers later is awaited, in whatever it stands."""
        slow = SlowLookup()
        scope = make_scope(lookup=lambda name: slow)
        template = compile_string("<${lc:${if eq{${lookup{a}lsearch{/x}}}{YES}{OK $domain}{no}}}>")
        result = Deferred.fromCoroutine(template.expand(scope))
        self.assertNoResult(result)
        slow.answer.callback("YES")
        self.assertEqual(self.successResultOf(result), "<ok >")

    def test_cancelled(self) -> None:
        """Cancelling the expansion cancels what it waits for."""
        slow = SlowLookup()
        scope = make_scope(lookup=lambda name: slow)
        template = compile_string("${lookup{a}lsearch{/x}}")
        result = Deferred.fromCoroutine(template.expand(scope))
        result.cancel()
        self.failureResultOf(result)
        self.assertTrue(slow.answer.called)

    def test_deep_nesting(self) -> None:
        """Nesting without end is an error of the string, not a crash."""
        self.assertIn("deep", failure("${lc:" * 100_000 + "}" * 100_000))

    @settings(max_examples=300, deadline=None)
    @given(st.lists(SYNTAX, max_size=25).map("".join))
    def test_any_text(self, text: str) -> None:
        """Every text either expands or fails as an expansion does."""
        try:
            expand(text)
        except ExpansionError:
            pass

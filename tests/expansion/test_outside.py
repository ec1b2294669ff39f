"""Tests of mailsrv.expansion.items_outside."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.items_outside import words_of
from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.template import compile_string
from mailsrv.mail.taint import Tainted


def expanded(text: str, **values: str) -> str:
    services: Any = Services(None, {}, lambda name: None)  # type: ignore[arg-type]
    scope = Scope(services, values=values)
    coroutine = compile_string(text).expand(scope)
    return asyncio.run(coroutine)  # nothing waits where there are no threads


class RunTests(SynchronousTestCase):
    def test_output(self) -> None:
        """A command's output is the value; its status is $runrc."""
        self.assertEqual(expanded("${run{/bin/echo a b}}"), "a b\n")
        self.assertEqual(expanded("${run{/bin/false}{y}{n$runrc}}"), "n1")
        self.assertEqual(expanded("${run{/no/such/command}{y}{n$runrc}}"), "n127")

    def test_no_shell(self) -> None:
        """Words are divided before they are expanded: a value is one word, whatever it holds."""
        self.assertEqual(expanded("${run{/bin/echo $value}}", value="a; b $(c)"), "a; b $(c)\n")
        self.assertEqual(
            expanded("${run,preexpand{/bin/echo $value}}", value="'a  b' c"), "a  b c\n"
        )

    def test_tainted(self) -> None:
        """A peer's value is no argument of a command."""
        with self.assertRaisesRegex(ExpansionError, "tainted arg 1"):
            expanded("${run{/bin/echo $value}}", value=Tainted("-x"))

    def test_words(self) -> None:
        self.assertEqual(words_of("""a 'b c' "d \\" e" f"""), ["a", "b c", 'd " e', "f"])


class ImapFolderTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """As exim4 answers."""
        self.assertEqual(expanded("${imapfolder{abc}{b}{x}}"), "a.c")
        self.assertEqual(expanded("${imapfolder{md5}{k}{data}}"), "m&AGQ-5")
        self.assertEqual(expanded("${imapfolder{/etc/hostname}}"), "etc.hostname")

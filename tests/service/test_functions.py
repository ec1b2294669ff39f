"""The administrator's own functions, and the examples of the pages about them and about lookups."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import twisted.plugins
from mailsrv.errors import ConfigError, TemporaryFailure
from mailsrv.expansion.errors import ExpansionError, ForcedFailure
from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.template import compile_string
from mailsrv.interfaces import Action
from mailsrv.lookup import registry
from mailsrv.mail.taint import Tainted, is_tainted
from mailsrv.service.functions import Functions
from tests.acl.harness import Bench
from tests.doubles.log import RecordingLog

DOCS = Path(__file__).parents[2] / "docs"


def examples(page: str) -> list[str]:
    """The indented blocks of a page."""
    text = (DOCS / page).read_text()
    blocks = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, re.MULTILINE)
    return [re.sub(r"(?m)^ {4}", "", block) for block in blocks]


class FunctionTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.clock, self.log = Clock(), RecordingLog()

    def functions(self, source: str) -> Functions:
        path = self.folder / "local.py"
        path.write_text(source)
        return Functions(str(path), self.clock, self.log, timeout=5)

    def expand(self, functions: Functions, text: str, **values: str) -> Deferred[str]:
        services = Services(self.clock, {}, registry(), functions=functions)
        template = compile_string(text)
        self.assertIsNone(template.error)
        return Deferred.fromCoroutine(template.expand(Scope(services, values=values)))


class FunctionTests(FunctionTestCase):
    def test_results(self) -> None:
        source = "values = {}\n" + "".join(
            f"def f{number}(): return {value}\n"
            for number, value in enumerate(
                ("'x'", "b'\\xe4'", "3", "1.5", "True", "False", "'\\u20ac'")
            )
        )
        functions = self.functions(source)
        found = [
            self.successResultOf(self.expand(functions, f"${{python{{f{number}}}}}"))
            for number in range(7)
        ]
        self.assertEqual(found, ["x", "\xe4", "3", "1.5", "true", "false", "\xe2\x82\xac"])

    def test_what_waits(self) -> None:
        functions = self.functions(
            "from twisted.internet.defer import Deferred\nwaiting, other = Deferred(), Deferred()\n"
            "def later(x): return other\nasync def more(x): return x + await waiting\n"
        )
        one = self.expand(functions, "${python{later}{a}}")
        two = self.expand(functions, "[${python{more}{a}}]")
        self.assertNoResult(one)
        functions._module.waiting.callback("b")
        self.assertEqual(self.successResultOf(two), "[ab]")
        functions._module.other.callback("c")
        self.assertEqual(self.successResultOf(one), "c")

    def test_time_limit(self) -> None:
        functions = self.functions(
            "from twisted.internet.defer import Deferred\nasync def never(): await Deferred()\n"
        )
        result = self.expand(functions, "${python{never}}")
        self.clock.advance(5.1)
        failure = self.failureResultOf(result, TemporaryFailure)
        self.assertIn("took too long", str(failure.value))

    def test_failures(self) -> None:
        functions = self.functions(
            "from mailsrv.errors import TemporaryFailure\n"
            "from mailsrv.expansion.errors import ForcedFailure\n"
            "import os\n"
            "def none(): return None\n"
            "def forced(): raise ForcedFailure('no')\n"
            "def away(): raise TemporaryFailure(reason='away')\n"
            "def bug(): return 1 / 0\n"
            "def odd(): return object()\n"
            "def _hidden(): return 'x'\n"
        )
        for name, kind in (
            ("none", ForcedFailure),
            ("forced", ForcedFailure),
            ("away", TemporaryFailure),
            ("bug", ExpansionError),
            ("odd", ExpansionError),
            ("_hidden", ExpansionError),
            ("os", ExpansionError),
            ("nosuch", ExpansionError),
        ):
            failure = self.failureResultOf(self.expand(functions, f"${{python{{{name}}}}}"))
            self.assertIs(failure.type, kind, name)
        panics = [text for event, text in self.log.events if event == "panic"]
        self.assertEqual(panics, ["python function bug failed"])

    def test_marks_stay(self) -> None:
        functions = self.functions("def same(x): return x\ndef fixed(x): return 'y'\n")
        for name in ("same", "fixed"):
            text = f"${{python{{{name}}}{{$local}}}}".replace("$local", "$sender_address_data")
            result = self.expand(functions, text, sender_address_data=Tainted("peer"))
            self.assertTrue(is_tainted(self.successResultOf(result)), name)

    def test_without_a_file(self) -> None:
        services = Services(self.clock, {}, registry())
        result = compile_string("${python{f}}").expand(Scope(services))
        failure = self.failureResultOf(Deferred.fromCoroutine(result), ExpansionError)
        self.assertIn("python_startup is not set", str(failure.value))

    def test_bad_files(self) -> None:
        for source, problem in (
            ("def f(:\n", r"^line 1 of .*local.py: python_startup: invalid syntax"),
            ("x = 1\n1 / 0\n", r"^line 2 of .*local.py: python_startup: ZeroDivisionError"),
        ):
            with self.assertRaises(ConfigError) as caught:
                self.functions(source)
            self.assertRegex(str(caught.exception), problem)
        with self.assertRaises(ConfigError) as caught:
            Functions("/nonexistent/x.py", self.clock)
        self.assertIn("cannot read /nonexistent/x.py", str(caught.exception))


class ConditionTests(FunctionTestCase):
    def test_condition(self) -> None:
        functions = self.functions(
            "def bad(local_part, domain): return local_part == 'bad'\n"
            "def none(): return None\ndef odd(): return 'maybe'\ndef bug(): raise ValueError\n"
        )
        for argument, address, action in (
            ("bad{$local_part}{$domain}", "bad@x.example", Action.DENY),
            ("bad{$local_part}{$domain}", "good@x.example", Action.ACCEPT),
            ("none", "a@x.example", Action.DENY),  # a forced failure: as if it were true
            ("odd", "a@x.example", Action.DEFER),
            ("bug", "a@x.example", Action.DEFER),
        ):
            bench = Bench(f"deny python = {argument}\naccept")
            self.assertEqual(bench.errors, [])
            object.__setattr__(bench.acls.services, "functions", functions)
            self.assertEqual(bench.check(address).action, action, argument)

    def test_no_call(self) -> None:
        (error,) = Bench("deny python = two words").errors
        self.assertIn("is no call of a function", str(error))


class ExampleTests(FunctionTestCase):
    def test_functions(self) -> None:
        """docs/python.md does what it says."""
        source = next(block for block in examples("python.md") if "def initials" in block)
        functions = self.functions(source)
        for text, result in (
            ("${python{initials}{Ada Lovelace}}", "AL"),
            ("${python{looks_random}{x8d7f6g5h4j3k2}}", "true"),
            ("${if bool{${python{looks_random}{ada}}}{yes}{no}}", "no"),
            ("${python{department}{ada}}", "engines"),
            ("${python{slowly}{hello}}", "HELLO"),
        ):
            self.assertEqual(self.successResultOf(self.expand(functions, text)), result)
        for user, kind in (("nobody", ForcedFailure), ("later", TemporaryFailure)):
            failure = self.failureResultOf(
                self.expand(functions, f"${{python{{department}}{{{user}}}}}")
            )
            self.assertIs(failure.type, kind)

    def test_lookup(self) -> None:
        """docs/adding-a-lookup.md does what it says."""
        source = next(
            block for block in examples("adding-a-lookup.md") if "class Weekdays" in block
        )
        plugins = self.folder / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "weekday_lookup.py").write_text(source)
        paths: Any = twisted.plugins.__path__
        paths.append(str(plugins))
        self.addCleanup(paths.remove, str(plugins))
        self.addCleanup(sys.modules.pop, "twisted.plugins.weekday_lookup", None)
        services = Services(self.clock, {}, registry())
        for key, result in (("mo", "Monday"), ("xx", "no such day")):
            text = f"${{lookup weekday{{{key}}}{{$value}}{{no such day}}}}"
            template = compile_string(text)
            self.assertIsNone(template.error)
            expanded = Deferred.fromCoroutine(template.expand(Scope(services)))
            self.assertEqual(self.successResultOf(expanded), result)

"""The command line: what it means, what it refuses, and how faults are told."""

from __future__ import annotations

import contextlib
import io
import os
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.commands.invocation import DEFAULT_FILE, UsageError
from mailsrv.commands.main import main, parse
from tests.config.files import FileTestCase


class ParsingTests(SynchronousTestCase):
    def test_forms_of_options(self) -> None:
        for words in (
            ["-C", "/x", "-bV"],
            ["-C/x", "-bV"],
            ["--config", "/x", "-bV"],
            ["--config=/x", "-bV"],
        ):
            found = parse(list(words))
            self.assertEqual((found.file, found.action), ("/x", "bV"))
        self.assertEqual(parse(["-bV"]).file, DEFAULT_FILE)

    def test_a_list_of_files(self) -> None:
        """The first that exists is taken."""
        here = os.path.abspath(__file__)
        self.assertEqual(parse(["-C", f"/nonexistent : {here}:/x", "-bV"]).file, here)
        self.assertEqual(parse(["-C", "/nonexistent:/none", "-bV"]).file, "/none")

    def test_macros(self) -> None:
        found = parse(["-DAA=b=c", "-D", "BB", "-DCC = d", "-bV"])
        self.assertEqual(found.macros, {"AA": "b=c", "BB": "", "CC": "d"})
        for bad in ("-Da=b", "-D=x", "-D--", "-DA-B=1"):
            with self.assertRaises(UsageError):
                parse([bad, "-bV"])

    def test_commands_and_arguments(self) -> None:
        for words, action, arguments in (
            (["-bP", "router", "r1"], "bP", ["router", "r1"]),
            (["-be", "--", "-x"], "be", ["-x"]),
            (["-Mvh", "1abcde-000000-00"], "Mvh", ["1abcde-000000-00"]),
            (["-bpc"], "bpc", []),
            (["-bpa"], "bpa", []),
            (["-q"], "q", []),
            (["-qff"], "qff", []),
            (["-be", "\xe4"], "be", ["\xc3\xa4"]),
        ):
            found = parse(list(words))
            self.assertEqual((found.action, found.arguments), (action, arguments))

    def test_refused(self) -> None:
        for words, problem in (
            ([], "no command given"),
            (["-C"], "-C needs an argument"),
            (["-bs", "a@b"], "option -bs is known to Exim, not to mailsrv"),
            (["-bs"], "option -bs is known to Exim, not to mailsrv"),
            (["-y"], "unknown option -y"),
            (["-bV", "-bP"], "-bV and -bP cannot be used together"),
        ):
            with self.assertRaises(UsageError) as caught:
                parse(list(words))
            self.assertIn(problem, str(caught.exception))


class RunningTests(FileTestCase):
    def run_main(self, *words: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(words)
        return status, self.bare(out.getvalue()), self.bare(err.getvalue())

    def test_a_good_configuration(self) -> None:
        path = self.file("queue_only\nsplit_spool_directory\n")
        status, out, err = self.run_main("-C", path, "-bV")
        self.assertEqual(status, 0)
        self.assertTrue(out.startswith("mailsrv version "))
        self.assertTrue(out.endswith("\nConfiguration file is exim.conf\n"))
        self.assertRegex(
            err, "^mailsrv: warning: line 2 of exim.conf: split_spool_directory has no effect"
        )

    def test_a_bad_configuration(self) -> None:
        path = self.file("nosuch\nqueue_only = x\n")
        for command in ("-bV", "-bP", "-bd"):
            status, out, err = self.run_main("-C", path, command)
            self.assertEqual(status, 1)
            self.assertEqual(out.partition(" ")[0], "mailsrv" if command == "-bV" else "")
            self.assertEqual(
                err.splitlines(),
                [
                    'mailsrv: line 1 of exim.conf: main option "nosuch" unknown',
                    'mailsrv: line 2 of exim.conf: "x" is not a valid boolean value for queue_only '
                    "(yes, no, true or false)",
                ],
            )

    def test_faults_that_others_know_are_told_with_those_of_the_reading(self) -> None:
        path = self.file(
            "log_selector = +nosuch\nspool_directory = ${nosuch}\nbegin routers\nr:\n"
            " driver = nosuch\n"
        )
        for text, lines in (
            (path, ["2", "1", "5"]),
            (self.file("spool_directory =\n", "b"), ["1"]),
        ):
            status, _, err = self.run_main("-C", text, "-bV")
            told = [line for line in err.splitlines() if "warning" not in line]
            self.assertEqual((status, [line.split()[2] for line in told]), (1, lines), err)

    def test_show(self) -> None:
        path = self.file("AA = 1\nrecipients_max = AA\n")
        self.assertEqual(
            self.run_main(
                "-C", path, "-DAA=7", "-bP", "recipients_max", "macro", "AA", "nosuch", "queue_only"
            ),
            (0, "recipients_max = 7\nAA=7\nnosuch is not a known option\nno_queue_only\n", ""),
        )
        for words, status in (("AA", 1), ("nosuch", 1), ("queue_only", 0)):  # the last one counts
            found = self.run_main("-C", path, "-bP", "nosuch", "recipients_max", words)
            self.assertEqual(found[0], status)
        self.assertEqual(self.run_main("-n", "-C", path, "-bP", "recipients_max"), (0, "1\n", ""))

    def test_octets_of_a_named_list_are_printed_as_they_are_in_the_file(self) -> None:
        path = self.file("domainlist a = \xc3\xa4\n")
        self.assertEqual(self.run_main("-C", path, "-bP", "+a")[1], "domainlist a = \xe4\n")

    def test_no_configuration_file(self) -> None:
        status, _, err = self.run_main("-C", f"{self.folder}/none", "-bV")
        self.assertEqual(status, 1)
        self.assertIn("failed to open configuration file none: No such file or directory", err)

    def test_wrong_usage(self) -> None:
        self.assertEqual(
            self.run_main("-bs", "a@b"),
            (1, "", "mailsrv: option -bs is known to Exim, not to mailsrv\n"),
        )

    def test_lists_for_programs(self) -> None:
        self.assertEqual(self.run_main("-bI:dscp")[1].split()[:2], ["af11", "af12"])
        self.assertEqual(self.run_main("-bI:sieve")[0], 0)
        self.assertIn("-bI:dscp", self.run_main("-bI:help")[1])
        status, out, err = self.run_main("-bI:nosuch")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("-bI:help", err)

    def test_environment(self) -> None:
        path = self.file("keep_environment = WANTED\nadd_environment = GIVEN=y\n")
        with mock.patch.dict(os.environ, {"WANTED": "x", "OTHER": "z"}):
            _, out, _ = self.run_main("-C", path, "-bP", "environment")
            self.assertIn("WANTED=x\n", out)
            self.assertIn("GIVEN=y\n", out)
            self.assertNotIn("OTHER", out)
            self.assertIn("WANTED\n", self.run_main("-n", "-C", path, "-bP", "environment")[1])

    def test_help_and_version_need_no_configuration(self) -> None:
        self.assertIn("usage: mailsrv", self.run_main("--help")[1])
        self.assertRegex(self.run_main("--version")[1], "^mailsrv ")

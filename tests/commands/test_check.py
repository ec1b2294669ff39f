"""``mailsrv check`` finds the mistakes, and is silent about good configurations."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from unittest import mock

from mailsrv.commands.main import main
from tests.commands.checks.case import OUT, CheckTestCase

ROOT = Path(__file__).parents[2]
END = "\n transport = t\nbegin transports\nt:\n driver = smtp\n"


class MistakeTests(CheckTestCase):
    def test_what_exim_finds_at_run_time(self) -> None:
        for text, problem in {
            "smtp_banner = ${if": "^1: smtp_banner: ",
            "smtp_banner = $nosuch": '^1: smtp_banner: unknown variable name "nosuch"',
            "smtp_banner = a ${lcx:b}": '^1: .* at character 3: "\\$\\{lcx:b\\}"$',
            "begin acl\na:\n deny condition = \\\n  ${if x}": '^[34]: .* at character 6: "x\\}"$',
            "host_lookup = +nowhere": '^1: there is no hostlist called "nowhere"',
            "daemon_smtp_ports = nosuch": '^1: .*"nosuch"',
            "begin routers\nr:\n driver = accept\n transport = t": '^4: .*"t" is not defined',
            "begin acl\na:\n accept control = nosuch": '^3: syntax error in "control=nosuch"',
        }.items():
            self.one(text, problem)

    def test_acls_that_are_not_there(self) -> None:
        self.one("acl_smtp_rcpt = chek_rcpt", "^1: acl_smtp_rcpt: there is no ACL called")
        self.one("begin acl\na:\n deny acl = other", "^3: acl: there is no ACL called .other.")
        self.one("acl_smtp_mail = accept hots = x", "^1: acl_smtp_mail: unknown ACL condition")

    def test_conditions_that_the_phase_cannot_have(self) -> None:
        for text, problem in {
            "acl_smtp_mail = a\nbegin acl\na:\n deny domains = x": "^4: .domains = x. .*MAIL ACL",
            "acl_smtp_data = a\nbegin acl\na:\n deny verify = recipient": "^4: .*DATA ACL",
            "acl_smtp_rcpt = a\nbegin acl\na:\n deny acl = b\nb:\n deny regex = x": "^6: .*RCPT",
            "acl_smtp_connect = a\nbegin acl\na:\n warn control = freeze": "^4: .*connection ACL",
            "acl_smtp_helo = deny encrypted = *": "^1: .*EHLO or HELO ACL",
        }.items():
            self.one(text, problem)


class GoodConfigurationTests(CheckTestCase):
    def test_delivered_ones(self) -> None:
        """All that come with mailsrv, and those that the tests use."""
        paths = sorted([*ROOT.glob("conf/*.conf"), *ROOT.glob("tests/scenarios/*.conf")])
        self.assertGreater(len(paths), 8)
        for path in paths:
            text = path.read_text("latin-1")
            text = re.sub(r"(?m)^(exim_user|exim_group|never_users) = .*$", r"\1 = daemon", text)
            text = re.sub(r"\bT_(SMTP|SUBMISSION|NEXT|HOP)\b", "2525", text)
            text = re.sub(r"(?m)^workers = T_.*$", "", text)
            text = re.sub(r"(?m)^ *T_[A-Z]+$", "", text)
            text = text.replace("T_DNS", "127.0.0.1")
            text = re.sub(r"\b[TD][A-Z]*_(FOLDER|VAR|LMTP|AUTH)\b", "/x", text)
            self.assertEqual(self.found(text), [], path.name)


class CommandTests(CheckTestCase):
    def run_main(self, *words: str) -> tuple[int, str]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = main(words)
        return status, self.bare(out.getvalue())

    def test_output(self) -> None:
        path = self.file(f"acl_smtp_rcpt = accept\nhost_lookup = +x\n{OUT}")
        status, text = self.run_main("-C", path, "check")
        self.assertEqual(status, 1)
        first, mend, second, other = text.splitlines()
        self.assertRegex(first, "^line 1 of exim.conf: open relay: ")
        self.assertRegex(mend, "^  mend: accept only with")
        self.assertRegex(second, "^line 2 of exim.conf: there is no hostlist")
        self.assertEqual(other, "  mend: define it before the first begin")

    def test_every_finding_has_a_mend(self) -> None:
        path = self.file(
            "smtp_banner = $primary_hostnam ${if\nacl_smtp_rcpt = a\nbegin acl\na:\n deny\n"
            "  condition = perhaps\n  delay = x\n  hosts = 10.0.0.0/99\n  control = no\n"
            "  verify = nothing\n  message = ${nosuch:x}\n"
        )
        _, text = self.run_main("-C", path, "check")
        lines = text.splitlines()
        self.assertGreater(len(lines), 10)
        for first, second in zip(lines[::2], lines[1::2], strict=True):
            self.assertRegex(first, "^line [0-9]+ of exim.conf: ")
            self.assertTrue(second.startswith("  mend: "), first)

    def test_nothing_found(self) -> None:
        path = self.file("split_spool_directory\n")
        self.assertEqual(
            self.run_main("-C", path, "check"),
            (
                0,
                "warning: line 1 of exim.conf: split_spool_directory has no effect here: mailsrv's "
                "spool is a database\nexim.conf: nothing found\n",
            ),
        )

    def test_functions_that_cannot_be_loaded(self) -> None:
        """A line on the standard error, no traceback; -bV and a start say it, too."""
        path = self.file("python_startup = /nonexistent/x.py\n")
        problem = "line 1 of exim.conf: python_startup: cannot read /nonexistent/x.py"
        for command, status in ((("-be", "x"), 1), (("-bV",), 0)):
            with mock.patch.object(sys, "stderr", io.StringIO()) as said:
                self.assertEqual(self.run_main("-C", path, *command)[0], status)
            self.assertIn(problem, self.bare(said.getvalue()))

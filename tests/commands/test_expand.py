"""``mailsrv -be``."""

from __future__ import annotations

import io
import os
import sys
from tempfile import TemporaryDirectory
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.commands.main import main

CONFIGURATION = """\
primary_hostname = mail.example.com
domainlist local = a.example : *.b.example
begin acl
hello:
  accept message = hello $acl_arg1
no:
  deny
"""


class ExpandTests(SynchronousTestCase):
    def run_command(self, *strings: str, given: str = "") -> str:
        with TemporaryDirectory() as folder:
            file = os.path.join(folder, "exim.conf")
            with open(file, "w", encoding="ascii") as stream:
                stream.write(CONFIGURATION)
            out = io.StringIO()
            stdin = io.TextIOWrapper(io.BytesIO(given.encode()))
            with mock.patch.object(sys, "stdout", out), mock.patch.object(sys, "stdin", stdin):
                self.assertEqual(main(["-C", file, "-be", *strings]), 0)
        return out.getvalue()

    def test_arguments(self) -> None:
        """Each argument is expanded, a failure is printed as one."""
        said = self.run_command("$primary_hostname", "${nosuch:x}", "${if eq{a}{b}{x}fail}")
        self.assertEqual(
            said,
            'mail.example.com\nFailed: unknown expansion operator "nosuch"\n'
            'Failed: "if" failed and "fail" requested\n',
        )

    def test_lines(self) -> None:
        """Without arguments the lines of the standard input are; "\\" at the end joins two."""
        self.assertEqual(self.run_command(given="${lc:AB\\\n   C}\n$1x\n"), "abc\nx\n")

    def test_environment_is_the_server_s(self) -> None:
        """What keep_environment does not name is not to be seen."""
        with mock.patch.dict(os.environ, {"SECRET_OF_ROOT": "x"}):
            said = self.run_command("<${env{SECRET_OF_ROOT}{$value}{none}}>")
        self.assertEqual(said, "<none>\n")

    def test_acls(self) -> None:
        """They can be called, though there is no client; what they verify is deferred."""
        said = self.run_command("${acl{hello}{x}}", "<${if acl{{no}}{yes}{no}}>", "${acl{nosuch}}")
        self.assertEqual(said.splitlines()[:2], ["hello x", "<no>"])
        self.assertTrue(said.splitlines()[2].startswith("Failed: "))

    def test_named_lists(self) -> None:
        """The configuration's lists are known."""
        said = self.run_command("${if match_domain{x.b.example}{+local}{$value}{no}}")
        self.assertEqual(said, "*.b.example\n")

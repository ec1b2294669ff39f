"""Configurations for which findings are told."""

from __future__ import annotations

from mailsrv.commands.check import findings
from mailsrv.config.read import read
from tests.config.files import FileTestCase

# A router that sends everything on.
OUT = """
begin routers
out:
  driver = dnslookup
  transport = smtp
begin transports
smtp:
  driver = smtp
"""


class CheckTestCase(FileTestCase):
    def found(self, text: str) -> list[str]:
        """What is found, each as ``line: problem``."""
        configuration = read(self.file(text))
        return sorted(
            f"{finding.where.line if finding.where else 0}: {finding.problem}"
            for finding in set(findings(configuration))
        )

    def one(self, text: str, problem: str) -> None:
        found = self.found(text)
        self.assertEqual(len(found), 1, found)
        self.assertRegex(found[0], problem)

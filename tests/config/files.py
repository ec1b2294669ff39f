"""Configuration files for tests, and the drivers of other folders stay out of it where they can."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.config.lines import Line, LineReader
from mailsrv.config.macros import Macros
from mailsrv.config.model import Configuration
from mailsrv.config.read import read
from mailsrv.errors import ConfigError, ConfigErrors


class FileTestCase(SynchronousTestCase):
    """Writes configuration files into a folder of the test's own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def file(self, text: str, name: str = "exim.conf") -> str:
        """Write a file; its characters are octets."""
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="latin-1", newline="\n") as file:
            file.write(text)
        return path

    def lines(self, text: str, macros: Mapping[str, str] | None = None) -> list[str]:
        """Return the logical lines of a text, as "line number: text"."""
        lines, errors = self.lines_and_errors(text, macros)
        self.assertEqual(errors, [])
        return [f"{line.where.line}: {line.text}" for line in lines]

    def lines_and_errors(
        self, text: str, macros: Mapping[str, str] | None = None
    ) -> tuple[list[Line], list[str]]:
        """Read all of a text as the main section does with macros, and nothing else."""
        errors: list[ConfigError] = []
        known = Macros(macros)
        lines = []
        for line in LineReader(self.file(text), known, errors):
            if "A" <= line.text[0] <= "Z":
                known.define(line.text, line.where)
            else:
                lines.append(line)
        return lines, [self.bare(error) for error in errors]

    def read(self, text: str, macros: Mapping[str, str] | None = None) -> Configuration:
        """Read a configuration that must be good."""
        return read(self.file(text), macros)

    def errors(self, text: str, macros: Mapping[str, str] | None = None) -> list[str]:
        """Return the errors of a bad configuration, without the path of the file."""
        path = self.file(text)
        with self.assertRaises(ConfigErrors) as caught:
            read(path, macros)
        return [self.bare(error) for error in caught.exception.errors]

    def bare(self, problem: ConfigError | str) -> str:
        """Return a message without the name of the folder."""
        return str(problem).replace(f"{self.folder}/", "")

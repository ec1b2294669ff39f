"""``mailsrv -brw``: every line as the real program printed it (``rewritten.json``)."""

from __future__ import annotations

import contextlib
import io
import json
import os
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.commands.main import main

_RECORDED = os.path.join(os.path.dirname(__file__), "rewritten.json")


class RewriteTests(SynchronousTestCase):
    """Rules of all kinds, as exim 4.96 applied them."""

    def setUp(self) -> None:
        """Write the configurations and the files they look things up in."""
        with open(_RECORDED, encoding="utf-8") as file:
            self.recorded = json.load(file)
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        for name, text in self.recorded["files"].items():
            self._write(name, text)
        for name, lines in self.recorded["configurations"].items():
            self._write(f"{name}.conf", "\n".join(lines).replace("FOLDER", self.folder))

    def _write(self, name: str, text: str) -> None:
        with open(os.path.join(self.folder, name), "w", encoding="latin-1") as file:
            file.write(text)

    def rewrite(self, configuration: str, address: str) -> list[str]:
        """The lines that ``-brw`` prints."""
        path = os.path.join(self.folder, f"{configuration}.conf")
        printed = io.StringIO()
        with (
            mock.patch.dict(os.environ),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            self.assertEqual(main(["-C", path, "-brw", address]), 0)
        return printed.getvalue().splitlines()

    def test_recorded(self) -> None:
        """Each address becomes what it became there."""
        wrong = []
        for configuration, address, lines in self.recorded["cases"]:
            printed = self.rewrite(configuration, address)
            if printed != lines:
                wrong.append((configuration, address, lines, printed))
        self.assertEqual(wrong, [])
        self.assertGreater(len(self.recorded["cases"]), 80)

    def test_syntax_error(self) -> None:
        """What is no address is said to be none."""
        for text in ("a b", "@", "<>", "a@x.example, b@x.example"):
            self.assertIn("Syntax error in", self.rewrite("a", text)[0])

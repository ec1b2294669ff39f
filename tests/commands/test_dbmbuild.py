"""mailsrv-dbmbuild, as exim_dbmbuild (specification 54.9)."""

from __future__ import annotations

import io
import os
import sys
from tempfile import TemporaryDirectory
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.commands.dbmbuild import main
from mailsrv.commands.dbmwriter import read_all

TEXT = "Alice: a@example\nbob: b@example,\n  c@example\nALICE: again\n"


class BuildTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.source = os.path.join(folder.name, "aliases")
        self.target = os.path.join(folder.name, "aliases.db")
        with open(self.source, "w", encoding="ascii") as file:
            file.write(TEXT)

    def build(self, *options: str) -> tuple[int, str]:
        said = io.StringIO()
        with mock.patch.object(sys, "stderr", said):
            return main([*options, self.source, self.target]), said.getvalue()

    def test_default(self) -> None:
        """Keys in lower case, NULs at the ends, the first duplicate, a warning and status 1."""
        status, said = self.build()
        self.assertEqual(status, 1)
        self.assertIn('"alice"', said)
        self.assertEqual(
            read_all(self.target),
            {b"alice\0": b"a@example\0", b"bob\0": b"b@example, c@example\0"},
        )

    def test_options(self) -> None:
        """-nolc, -nozero, -lastdup, -noduperr and -nowarn."""
        self.assertEqual(self.build("-noduperr", "-lastdup", "-nowarn")[0], 0)
        self.assertEqual(read_all(self.target)[b"alice\0"], b"again\0")
        self.assertEqual(self.build("-nolc", "-nozero")[0], 0)
        self.assertIn(b"ALICE", read_all(self.target))

    def test_failure(self) -> None:
        """Without an input nothing is made, with status 2; the old file stays."""
        self.build()
        os.unlink(self.source)
        self.assertEqual(self.build()[0], 2)
        self.assertEqual(len(read_all(self.target)), 2)

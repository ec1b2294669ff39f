"""``mailsrv -bt``, ``-bv``, ``-bvs``: as the real program printed (``routed*.json``)."""

from __future__ import annotations

import contextlib
import io
import json
import os
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.commands.main import main


class RouteTests(SynchronousTestCase):
    """Routers that need no DNS, as exim 4.96 took them."""

    record = "routed.json"

    def setUp(self) -> None:
        """Write the configuration and its aliases."""
        path = os.path.join(os.path.dirname(__file__), self.record)
        with open(path, encoding="utf-8") as file:
            self.recorded = json.load(file)
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        lines = {
            "aliases": self.recorded["aliases"],
            "exim.conf": self.recorded["configuration"],
        }
        for name, content in lines.items():
            with open(os.path.join(self.folder, name), "w", encoding="latin-1") as file:
                file.write("\n".join(content).replace("FOLDER", self.folder))

    def command(self, arguments: list[str], given: str | None) -> tuple[list[str], int]:
        """Return the printed lines and the exit status."""
        path = os.path.join(self.folder, "exim.conf")
        printed, stdin = io.StringIO(), io.TextIOWrapper(io.BytesIO((given or "").encode()))
        with (
            mock.patch.dict(os.environ),
            mock.patch("sys.stdin", stdin),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            status = main(["-C", path, *arguments])
        return printed.getvalue().replace(self.folder, "FOLDER").split("\n"), status

    def test_recorded(self) -> None:
        """Each command prints what was printed there."""
        wrong = []
        for arguments, given, lines, status in self.recorded["cases"]:
            found = self.command(arguments, given)
            if found != (lines, status):
                wrong.append((arguments, lines, status, found))
        self.assertEqual(wrong, [])
        self.assertGreater(len(self.recorded["cases"]), 40)

    def test_malformed(self) -> None:
        """What is no address is a syntax error, and fails."""
        self.assertEqual(
            self.command(["-bt", "a b@x.example"], None),
            (["syntax error: malformed address", ""], 2),
        )

    def test_places_that_cannot_be(self) -> None:
        """Exim's words; the exit status tells that it would be deferred, where Exim's is 0."""
        path = os.path.join(self.folder, "exim.conf")
        with open(path, "w", encoding="latin-1") as file:
            file.write(
                f"primary_hostname = mx.example\nspool_directory = {self.folder}/spool\n"
                "begin routers\nno:\n driver = redirect\n domains = no.example\n forbid_pipe\n"
                " data = |/bin/cat\n"
                "unset:\n driver = redirect\n domains = unset.example\n data = /tmp/x\n"
                "bad:\n driver = redirect\n data = /tmp/x\n file_transport = ${bad}\n"
                "begin transports\n"
            )
        setting_up = "*** Error in setting up pipe, file, or autoreply:"
        for domain, *lines in (
            ("no.example", "a@no.example -> |/bin/cat *** forbidden ***"),
            ("unset.example", "a@unset.example -> /tmp/x", setting_up,
             "file_transport unset in unset router"),
            ("bad.example", "a@bad.example -> /tmp/x", setting_up,
             'failed to expand transport "${bad}" in bad router: unknown variable in "${bad}"'),
        ):  # fmt: skip
            self.assertEqual(self.command(["-bt", f"a@{domain}"], None), ([*lines, ""], 1))


class ListTests(RouteTests):
    """Lists of lists: their order, duplicates, copies, what fails among them."""

    record = "routed_lists.json"


class AffixTests(RouteTests):
    """Prefixes and suffixes, with asterisks; users that there are not; literals."""

    record = "routed_affixes.json"

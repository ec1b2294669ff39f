"""Strings whose results were recorded from Exim 4.96 (``-be``)."""

from __future__ import annotations

import json
import os

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.lists import NamedLists
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import compile_string
from mailsrv.expansion.tree import drive
from tests.expansion.setting import make_scope

HERE = os.path.dirname(__file__)
LISTS = NamedLists(domains={"local": compile_string("a.example : *.b.example")})


def result(text: str, scope: Scope) -> str:
    """What ``-be`` prints."""
    try:
        return drive(compile_string(text).expand(scope)).rstrip("\n")
    except TemporaryFailure as error:
        return f"Failed: {error.reason}"


class RecordedTests(SynchronousTestCase):
    def test_as_exim(self) -> None:
        """Each string gives what Exim gave, its error messages too."""
        with open(os.path.join(HERE, "recorded.json"), encoding="ascii") as file:
            recorded = json.load(file)
        scope = make_scope(LISTS)
        data = os.path.join(HERE, "data")
        different = []
        for text, wanted in recorded:
            text, wanted = (each.replace("@DATA@", data) for each in (text, wanted))
            given = result(text, scope)
            if given != wanted:
                different.append(f"{text!r}: {given!r}, Exim {wanted!r}")
        self.assertEqual(different, [])
        self.assertGreater(len(recorded), 400)

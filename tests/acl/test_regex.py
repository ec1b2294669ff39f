"""The message itself, line by line: the condition regex."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.interfaces import AclPhase, Action
from mailsrv.mail.header import Header
from mailsrv.mail.message import InlineBody
from tests.acl.harness import Bench


class RegexTests(SynchronousTestCase):
    def test_lines_of_header_and_body(self) -> None:
        for argument, met in (
            ("viagra", True),
            ("^Subject:: buy", True),
            ("^nothing", False),
            ("nope : (?i)SECOND line\\$", True),
            ("first.*second", False),
            ("[0-9]{3}\\$", True),
        ):
            bench = Bench(
                f"deny regex = {argument}\nmessage = $regex_match_string\naccept", AclPhase.DATA
            )
            bench.transaction.headers = [Header("Subject: buy now")]
            bench.transaction.body = InlineBody(b"first viagra\r\nsecond line\r\nlast 123")
            self.assertEqual(bench.check().action is Action.DENY, met, argument)

    def test_captures(self) -> None:
        bench = Bench(
            r"deny regex = ^X-N:: (\\w+) (\\w+)" + "\nmessage = $regex2 $regex1", AclPhase.DATA
        )
        bench.transaction.headers = [Header("X-N: one two")]
        self.assertEqual(bench.shown()[0], "550 two one")

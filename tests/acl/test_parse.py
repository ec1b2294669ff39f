"""ACL sections are read as Exim reads them; every fault is told with its line."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.acl.model import Verb
from mailsrv.acl.parse import parse_section, parse_text
from mailsrv.errors import ConfigError
from tests.acl.harness import lines

FAULTS = [
    ("deny !message = x", 'ACL error: negation is not allowed with "message"'),
    ("accept set foo = bar", '(must start "acl_c" or "acl_m")'),
    ("accept set acl_mfoo = bar", "(digit or underscore must follow acl_c or acl_m)"),
    ("accept set acl_m0-x = bar", 'invalid character "-" in variable name'),
    ("accept foo = bar", 'unknown ACL condition/modifier in "accept foo = bar"'),
    ("accept domains", '"=" missing after ACL "domains" condition'),
    ("deny endpass", 'ACL error: "endpass" is not allowed with "deny"'),
    ("foo bar = x", 'unknown ACL verb "foo" in "foo bar = x"'),
    ("accept verify = foo", "at start of ACL condition"),
    ("accept verify = helo/foo", "(this verify item has no options)"),
    ("accept verify = sender/foo", 'unknown option "foo"'),
    ("accept verify = recipient/callout=hold", "known to Exim, not to mailsrv"),
    ("deny spam = nobody", "known to Exim, not to mailsrv"),
    ("accept control = nosuch", 'syntax error in "control=nosuch"'),
    ("accept control = freeze/no_tell/foo", 'syntax error in "control=freeze/no_tell/foo"'),
    ("accept log_reject_target = foo", "unknown log name"),
    # names have a letter first, and no hyphen
    ("9bad:", 'unknown ACL verb "9bad" in "9bad:"'),
    ("my-acl:", 'unknown ACL verb "my" in "my-acl:"'),
]


class ParseTests(SynchronousTestCase):
    """The section."""

    def test_faults(self) -> None:
        """A fault has its place and Exim's words."""
        for text, words in FAULTS:
            table, errors = parse_section(lines(f"a:\n{text}"))
            errors += table.late()
            self.assertEqual(len(errors), 1, text)
            self.assertIn(words, str(errors[0]), text)
            self.assertIn("line 2 of exim.conf", str(errors[0]), text)

    def test_all_faults_at_once(self) -> None:
        """One reading finds all faults, and keeps what is good."""
        table, errors = parse_section(lines("deny\na:\nfoo\naccept bar = x\ndeny\na:\naccept"))
        self.assertEqual([error.where.line for error in errors if error.where], [1, 3, 4, 6])
        self.assertEqual(set(table.acls), {"a"})

    def test_hint(self) -> None:
        """A slip of the pen is recognized."""
        _, errors = parse_section(lines("a:\naccept recipient = x"))
        self.assertEqual(errors[0].hint, "did you mean recipients?")

    def test_shapes(self) -> None:
        """A verb may stand with its first condition, or alone."""
        table, errors = parse_section(
            lines("one:\naccept\nhosts = *\n!senders = :\ntwo:\ndeny\n message = x : y\nwarn")
        )
        self.assertEqual(errors, [])
        (accept,) = table.acls["one"].statements
        self.assertEqual([c.item.name for c in accept.clauses], ["hosts", "senders"])
        self.assertEqual([c.negated for c in accept.clauses], [False, True])
        self.assertEqual([s.verb for s in table.acls["two"].statements], [Verb.DENY, Verb.WARN])

    def test_what_follows_a_name_is_dropped(self) -> None:
        """Exim does so: what follows may not decide here, and the administrator is told."""
        table, errors = parse_section(lines("one: accept\ndeny\ntwo: # a comment\nwarn"))
        self.assertEqual(errors, [])
        self.assertEqual([s.verb for s in table.acls["one"].statements], [Verb.DENY])
        (error,) = table.late()
        self.assertIn("line 1 of", str(error))
        self.assertIn('"accept" is no part of the ACL', str(error))

    @settings(max_examples=200, deadline=None)
    @given(st.text(st.characters(max_codepoint=255), max_size=80))
    def test_any_text(self, text: str) -> None:
        """Any text is an ACL or a ConfigError, never another exception."""
        try:
            parse_text(text)
        except ConfigError:
            pass

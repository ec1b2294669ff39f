"""DNS lists: what matches, what is negated, and what a lookup that fails means (44.28 to 44.37)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.acl.conditions.dnslists import reversed_key
from mailsrv.interfaces import AclPhase, Action
from tests.acl.harness import Bench
from tests.doubles.resolver import DictResolver

RECORDS = {
    ("1.2.0.192.bl.example", "A"): ["127.0.0.2", "127.0.0.5"],
    ("1.2.0.192.bl.example", "TXT"): ["listed: see example"],
    ("1.2.0.192.part.example", "A"): ["127.0.0.9"],
    ("1.2.0.192.part.example", "TXT"): ["the part"],
    ("9.2.0.192.bl.example", "A"): ["127.0.0.7"],
    ("bad.example.names.example", "A"): ["127.0.0.1"],
    ("1.2.0.192.dead.example", "A"): ["203.0.113.9"],
    ("1.2.0.192.away.example", "A"): None,
}


class DnslistsTests(SynchronousTestCase):
    def listed(self, argument: str, more: str = "") -> Bench:
        bench = Bench(f"deny dnslists = {argument}\n{more}\naccept", resolver=DictResolver(RECORDS))
        self.verdict = bench.check()
        return bench

    def test_which_items_match(self) -> None:
        for argument, met in (
            ("bl.example", True),
            ("none.example", False),
            ("none.example : bl.example", True),
            ("bl.example=127.0.0.2", True),
            ("bl.example=127.0.0.3", False),
            ("bl.example=127.0.0.3,127.0.0.5", True),
            ("bl.example==127.0.0.2", False),
            ("bl.example==127.0.0.2,127.0.0.5", True),
            ("bl.example!=127.0.0.2", False),
            ("bl.example!=127.0.0.3", True),
            ("bl.example!==127.0.0.2", True),
            ("bl.example!==127.0.0.2,127.0.0.5", False),
            ("bl.example&0.0.0.4", True),
            ("bl.example&0.0.0.8", False),
            ("bl.example=&0.0.0.2", False),
            ("bl.example=&0.0.0.2,0.0.0.4", True),
            ("bl.example!&0.0.0.8", True),
            ("bl.example!=&0.0.0.2", True),
            ("bl.example/192.0.2.9", True),
            ("bl.example=127.0.0.7/192.0.2.9", True),
            ("bl.example=127.0.0.7/192.0.2.1", False),
            ("bl.example/<;192.0.2.77;192.0.2.9", True),
            ("names.example/bad.example", True),
            ("names.example/good.example::bad.example", True),
            ("names.example/good.example", False),
            ("dead.example", False),
            ("away.example", False),
            ("+include_unknown : away.example", True),
            ("away.example/<;192.0.2.1 : bl.example", True),
            ("part.example,bl.example=127.0.0.5", True),
            ("part.example,bl.example=127.0.0.6", False),
            ("none.example,bl.example", False),
        ):
            self.listed(argument)
            self.assertEqual(self.verdict.action is Action.DENY, met, argument)

    def test_variables(self) -> None:
        said = "message = $dnslist_domain|$dnslist_matched|$dnslist_value|$dnslist_text"
        for argument, text in (
            ("bl.example", "bl.example|192.0.2.1|127.0.0.2, 127.0.0.5|listed: see example"),
            ("bl.example/192.0.2.9", "bl.example|192.0.2.9|127.0.0.7|"),
            ("part.example,bl.example=127.0.0.5", "part.example|192.0.2.1|127.0.0.9|the part"),
        ):
            self.listed(argument, said)
            assert self.verdict.status is not None
            self.assertEqual(self.verdict.status.text, text)

    def test_no_answer(self) -> None:
        self.listed("+defer_unknown : away.example")
        self.assertEqual(self.verdict.action, Action.DEFER)

    def test_malformed(self) -> None:
        self.listed("bl.example=nonsense")
        self.assertEqual(self.verdict.action, Action.DEFER)
        self.assertIn("nonsense", self.verdict.log_message)

    def test_ipv6_by_nibbles(self) -> None:
        self.assertEqual(reversed_key("2001:db8::a"), "a." + "0." * 23 + "8.b.d.0.1.0.0.2")

    def test_local_mail_has_no_address(self) -> None:
        bench = Bench(
            "deny dnslists = bl.example\naccept", AclPhase.MAIL, resolver=DictResolver(RECORDS)
        )
        bench.connection.origin.host_address = ""
        self.assertEqual(bench.check().action, Action.ACCEPT)

"""dnsdb lookups: separators, modifiers, and the records of several names (9.10 to 9.13)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.tree import drive
from mailsrv.interfaces import Answer, TextRecord
from mailsrv.lookup import registry


class Zone:
    """A resolver with a few records; a name with "broken" in it has no answer now."""

    records: dict[str, tuple[str, ...]]

    def __init__(self) -> None:
        self.records = {
            "MX a": ("10 m.a", "20 n.a"),
            "TXT a": (TextRecord.of(("one ", "two")), TextRecord.of(("three",))),
            "SOA a": ("ns.a. admin.a. 1 2 3 4 5",),
            "A a": ("192.0.2.1",),
            "SRV _client._smtp.b.test": ("1 2 1 m",),
            "SRV _client._smtp.test": ("1 2 1 top",),
            "PTR 1.2.0.192.in-addr.arpa": ("a",),
            f"PTR 1.{'0.' * 23}8.b.d.0.1.0.0.2.ip6.arpa": ("six",),
        }
        self.patience: list[tuple[float, int]] = []
        self.asked: list[str] = []

    def within(self, retransmit: float, retries: int) -> Zone:
        """Note the times (IPatientResolver)."""
        self.patience.append((retransmit, retries))
        return self

    async def query(self, name: str, rdtype: str) -> Answer:
        """Look up (IResolver)."""
        self.asked.append(f"{rdtype} {name}")
        if "broken" in name:
            raise TemporaryFailure(reason="time-out")
        return Answer(self.records.get(f"{rdtype} {name}", ()))

    async def addresses(
        self, name: str, *, ipv6: bool = True, hosts_file: bool = True
    ) -> tuple[str, ...]:
        """Addresses (IResolver)."""
        return ()

    async def names(self, address: str) -> tuple[str, ...]:
        """Names (IResolver)."""
        return ()


class DnsdbTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.zone = Zone()

    def find(self, query: str, **settings: Any) -> str | None:
        lookup = registry(None, self.zone, SimpleNamespace(**settings))("dnsdb")
        assert lookup is not None
        return drive(lookup.find("", query))

    def test_separators(self) -> None:
        """Between records, and between fields; ";" puts fields together."""
        for query, found in {
            "mx=a": "10 m.a\n20 n.a",
            ">:,; mx=a": "10;m.a:20;n.a",
            ">:; mx=a": "10m.a:20n.a",
            ">, mxh=a": "m.a,n.a",
            "soa=x.y.a": "ns.a",
            ">:,/ soa=a": "ns.a/admin.a/1/2/3/4/5",
            "txt=a": "one \nthree",
            ">:; txt=a": "one two:three",
            ">:,| a": "one |two:three",
        }.items():
            self.assertEqual(self.find(query), found, query)

    def test_addresses(self) -> None:
        """An IPv6 address alone is no list, however it is written."""
        self.assertEqual(self.find("ptr=192.0.2.1"), "a")
        self.assertEqual(self.find("ptr=2001:db8::1"), "six")
        self.assertEqual(self.find("ptr=<;192.0.2.1;2001:db8:0::1"), "a\nsix")

    def test_deferrals(self) -> None:
        """``defer_…``: what a name without an answer means."""
        self.assertEqual(self.find("a=broken:a"), "192.0.2.1")
        self.assertIsNone(self.find("defer_never,a=broken"))
        for query in ("a=broken", "defer_strict,a=a:broken", "dnssec_strict,a=a"):
            self.assertRaises(TemporaryFailure, self.find, query)

    def test_patience(self) -> None:
        """``retrans_`` and ``retry_`` are for this lookup; nonsense defers."""
        self.assertEqual(self.find("retrans_2s,retry_3,a=a"), "192.0.2.1")
        self.assertEqual(self.find("retrans_1m,a=a"), "192.0.2.1")
        self.assertEqual(self.find("a=a"), "192.0.2.1")
        self.assertEqual(self.zone.patience, [(2, 3), (60, 0)])
        for query in ("retrans_2,a=a", "retry_x,a=a", "retry_99999,a=a"):
            self.assertRaises(TemporaryFailure, self.find, query)

    def test_client_authorization(self) -> None:
        """A host's own record, or the nearest parent's, but of no top level domain."""
        self.assertEqual(self.find("csa=b.test"), "Y m")
        self.assertEqual(self.find("csa=x.y.b.test"), "X m")
        self.assertIsNone(self.find("csa=x.y.b.test", dns_csa_search_limit=1))
        self.assertIsNone(self.find("csa=c.test"))
        self.find("csa=[192.0.2.1]")
        self.assertIn("SRV _client._smtp.1.2.0.192.in-addr.arpa", self.zone.asked)

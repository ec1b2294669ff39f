"""Host lists, names that cannot be found, named lists, MX lists (chapter 10)."""

from __future__ import annotations

import contextlib
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.hostname import lookup_host_name
from mailsrv.expansion.lists import (
    Match,
    NamedLists,
    match_address,
    match_domain,
    match_host,
    split_list,
)
from mailsrv.expansion.template import compile_string
from mailsrv.expansion.tree import drive
from mailsrv.interfaces import Answer
from mailsrv.mail.connection import Connection
from mailsrv.mail.origin import Origin
from tests.doubles.log import RecordingLog
from tests.expansion.setting import expand, make_scope

ADDRESS = "192.0.2.1"


class Names:
    """A resolver with a few names; ``broken`` ones have no answer now."""

    def __init__(self, **zones: tuple[str, ...]) -> None:
        self.zones = {"192.0.2.1": ("host.example.net",), "host.example.net": ("192.0.2.1",)}
        self.zones |= {name.replace("_", "."): found for name, found in zones.items()}
        self.broken: set[str] = set()
        self.asked: list[str] = []

    def _find(self, name: str) -> tuple[str, ...]:
        self.asked.append(name)
        if name in self.broken:
            raise TemporaryFailure(reason="time-out")
        return self.zones.get(name, ())

    async def query(self, name: str, rdtype: str) -> Answer:
        """Look up (IResolver)."""
        return Answer(self._find(f"{rdtype} {name}"))

    async def addresses(
        self, name: str, *, ipv6: bool = True, hosts_file: bool = True
    ) -> tuple[str, ...]:
        """Addresses (IResolver)."""
        return self._find(name)

    async def names(self, address: str) -> tuple[str, ...]:
        """Names (IResolver)."""
        return self._find(address)


class HostTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.resolver = Names()
        self.origin = Origin(host_address=ADDRESS)
        self.log = RecordingLog()

    def found(self, text: str, address: str = ADDRESS) -> bool:
        origin = self.origin if address == ADDRESS else Origin(host_address=address)
        lists = NamedLists(hosts={"net": compile_string("192.0.2.0/24")})
        scope = make_scope(
            lists,
            resolver=self.resolver,
            connection=Connection(origin),
            origin=origin,
            log=self.log,
        )
        return drive(match_host(compile_string(text), origin, scope)) is not None

    def test_addresses(self) -> None:
        """Addresses and networks are compared as numbers; a name is not asked for."""
        self.assertTrue(self.found("192.0.2.1"))
        self.assertTrue(self.found("10.0.0.1 : 192.0.2.0/28"))
        self.assertFalse(self.found("192.0.2.16/28"))
        self.assertTrue(self.found("<; 2001:db8::/32 ; ::1", "2001:DB8:0::5"))
        self.assertFalse(self.found("! 192.0.2.1 : *"))
        self.assertTrue(self.found("! 192.0.2.9"))
        self.assertTrue(self.found("+net"))
        self.assertEqual(self.resolver.asked, [])

    def test_local_submission(self) -> None:
        """An empty item is the host of a local submission, which "*" matches, too."""
        self.assertTrue(self.found(":", ""))
        self.assertTrue(self.found("*", ""))
        self.assertFalse(self.found("192.0.2.1 : *.example", ""))
        self.assertFalse(self.found(":"))

    def test_whole_name(self) -> None:
        """A name without wildcards is looked up for its addresses."""
        self.assertTrue(self.found("host.example.net"))
        self.assertFalse(self.found("192.0.2.9 : +ignore_unknown : other.example"))

    def test_wild_name(self) -> None:
        """A wildcard or expression wants the host's own verified name."""
        self.assertTrue(self.found("*.example.net"))
        self.assertTrue(self.found(r"\N^host\.\N"))
        self.assertEqual(self.origin.host_name, "host.example.net")

    def test_unverified_name(self) -> None:
        """A name that does not lead back does not count."""
        self.resolver.zones["host.example.net"] = ("192.0.2.77",)
        self.assertFalse(self.found("*.example.net"))
        self.assertTrue(self.found("+include_unknown : *.example.net"))

    def test_unknown_name_of_an_item_that_is_negated(self) -> None:
        """With ``+include_unknown`` the host is taken as one that is in the list."""
        self.assertFalse(self.found("!nowhere.example"))
        self.assertTrue(self.found("+include_unknown : !nowhere.example"))

    def test_unknown_name_ends_the_list(self) -> None:
        """Without a name the list fails at the first item that wants one (10.15)."""
        self.resolver.zones.clear()
        self.assertFalse(self.found("*.a.example : 192.0.2.1"))
        self.assertTrue(self.found("+ignore_unknown : *.a.example : 192.0.2.1"))
        self.assertTrue(self.found("192.0.2.1 : *.a.example"))

    def test_temporary_failure(self) -> None:
        """A DNS that does not answer defers, unless the list says otherwise (10.17)."""
        self.resolver.broken.add(ADDRESS)
        self.assertRaises(TemporaryFailure, self.found, "*.a.example")
        self.assertTrue(self.found("+include_defer : *.a.example"))
        self.assertFalse(self.found("+ignore_defer : *.a.example"))

    def test_what_was_deferred_is_asked_again(self) -> None:
        """``$host_lookup_deferred`` is set then, and ``$host_lookup_failed`` is not (11.9)."""
        connection = Connection(self.origin)
        scope = make_scope(resolver=self.resolver, connection=connection, origin=self.origin)
        text = (
            "${if def:sender_host_name{$sender_host_name}}/$host_lookup_failed$host_lookup_deferred"
        )
        self.resolver.broken.add(ADDRESS)
        self.assertEqual(expand(text, scope), "/01")
        self.resolver.broken.clear()
        self.assertEqual(expand(text, scope), "host.example.net/00")
        self.origin.host_name = ""
        self.resolver.zones.clear()
        self.assertEqual(expand(text, scope), "/10")

    def logged(self) -> list[tuple[str, str]]:
        """Look the host's name up, twice; return what stands in the log."""
        log = RecordingLog()
        connection = Connection(self.origin)
        for _ in range(2):
            lookup = lookup_host_name(self.origin, connection, self.resolver, log)
            with contextlib.suppress(StopIteration, TemporaryFailure):
                lookup.send(None)
        return log.events

    def test_log(self) -> None:
        """A host without names has one line (host_lookup_failed); others have none, as in Exim."""
        self.assertEqual(self.logged(), [])
        self.origin.host_name = ""
        self.resolver.zones["host.example.net"] = ("192.0.2.77",)
        self.assertEqual(self.logged(), [])
        self.resolver.broken.add(ADDRESS)
        self.assertEqual(self.logged(), [])
        self.resolver.broken.clear()
        self.resolver.zones.clear()
        self.assertEqual(self.logged(), [("main", f"no host name found for IP address {ADDRESS}")])

    def test_log_of_a_host_in_a_list(self) -> None:
        """A name in a list without an address has a line that names the client."""
        self.origin.helo_name = "c.example"
        self.found("host.example.net : nowhere.example")
        self.assertEqual(self.log.events, [])
        self.found("nowhere.example : host.example.net")
        line = "no IP address found for host nowhere.example (during SMTP connection from {})"
        self.assertEqual(self.log.events, [("main", line.format(f"(c.example) [{ADDRESS}]"))])

    def test_asked_once(self) -> None:
        """A host without a name is asked for it once in a connection."""
        self.resolver.zones.clear()
        self.found("+ignore_unknown : *.a : *.b : *.c")
        self.assertEqual(self.resolver.asked, [ADDRESS])


class DomainTests(SynchronousTestCase):
    def test_mx(self) -> None:
        """``@mx_…`` looks whether the domain's mail comes here."""
        resolver = Names()
        resolver.zones["MX a.example"] = ("10 mail.example.com.", "20 x.example.net")
        resolver.zones["MX b.example"] = ("10 x.example.net", "20 mail.example.com")
        scope = make_scope(resolver=resolver)

        def found(text: str, domain: str) -> Match | None:
            return drive(match_domain(compile_string(text), domain, scope))

        self.assertEqual(found("@mx_any", "a.example"), Match("@mx_any"))
        self.assertIsNotNone(found("@mx_primary", "a.example"))
        self.assertIsNone(found("@mx_secondary", "a.example"))
        self.assertIsNotNone(found("@mx_secondary", "b.example"))
        self.assertIsNone(found("@mx_any", "c.example"))

    def test_mx_ignores_a_list_of_addresses(self) -> None:
        """``/ignore=`` is a host list: networks, and items with ``!``."""
        resolver = Names(mx=("127.0.0.1",))
        resolver.zones["MX a.example"] = ("10 mx",)
        scope = make_scope(resolver=resolver)
        for ignored, here in {
            "10.0.0.0/8": True,
            "<;127.0.0.0/8;10.0.0.1": False,
            "<;!127.0.0.1;127.0.0.0/8": True,
        }.items():
            text = compile_string(f"<| @mx_any/ignore={ignored}")
            match = drive(match_domain(text, "a.example", scope))
            self.assertEqual(match is not None, here, ignored)

    def test_a_broken_item_fails_when_it_is_reached(self) -> None:
        """What matches before it decides."""
        text = compile_string(r"\N a.example : ^( \N")
        self.assertIsNotNone(drive(match_domain(text, "a.example", make_scope())))
        with self.assertRaisesRegex(ExpansionError, "regular expression error"):
            drive(match_domain(text, "b.example", make_scope()))

    def test_mx_without_resolver(self) -> None:
        """Without a DNS such an item defers with a reason."""
        with self.assertRaisesRegex(TemporaryFailure, "no DNS resolver"):
            drive(match_domain(compile_string("@mx_any"), "a", make_scope()))

    def test_list_in_itself(self) -> None:
        """Lists that name each other are an error."""
        lists = NamedLists(domains={"a": compile_string("+b"), "b": compile_string("x : +a")})
        with self.assertRaisesRegex(ExpansionError, "too deeply"):
            drive(match_domain(compile_string("+a"), "y", make_scope(lists)))

    def test_split(self) -> None:
        """Separators, doubled ones, empty items."""
        for text, items in {
            "a : b": ["a", "b"],
            "": [],
            ":": [""],
            "a:": ["a"],
            "a::b:c": ["a:b", "c"],
            "<; a:b ; c": ["a:b", "c"],
            "<\n x\n y ": ["x", "y"],
            "a : : b": ["a", "", "b"],
        }.items():
            self.assertEqual(split_list(text), items, text)


class Chain:
    """An lsearch by domain, with a chain (10.20)."""

    table: ClassVar = {"a.example": "bob : >next", "next": "!carl : *l", "loop": ">loop"}

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find (ILookup)."""
        return self.table.get(key)


class AddressTests(SynchronousTestCase):
    def found(self, address: str) -> bool:
        scope = make_scope(lookup=lambda name: Chain())
        text = compile_string("@@lsearch;/f")
        return drive(match_address(text, address, scope)) is not None

    def test_local_parts_of_a_domain(self) -> None:
        """``@@``: the domain's data are local parts, and may be chained."""
        self.assertTrue(self.found("Bob@A.example"))
        self.assertTrue(self.found("al@a.example"))
        self.assertFalse(self.found("carl@a.example"))
        self.assertFalse(self.found("bob@b.example"))
        self.assertFalse(self.found(""))

    def test_chain_without_end(self) -> None:
        """A chain that leads to itself is an error."""
        self.assertRaises(ExpansionError, self.found, "x@loop")

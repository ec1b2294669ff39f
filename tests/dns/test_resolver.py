"""Servers in turn, retries, TCP, cache and hosts file; forged and broken answers do no harm."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailsrv.dns import messages
from mailsrv.dns.resolver import Resolver
from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import Answer
from mailsrv.mail.taint import is_tainted
from tests.dns.fake_network import FakeNetwork, Handler, answer

ONE, TWO = ("192.0.2.53", 53), ("192.0.2.54", 53)
SOA = "example. 300 IN SOA ns.example. root.example. 1 2 3 4 60"


def says(*records: str, **kwargs: Any) -> Handler:
    return lambda query, how: [answer(query, *records, **kwargs)]


def silent(query: bytes, how: str) -> list[bytes | tuple[float, bytes]]:
    return []


class ResolverCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = FakeNetwork()
        self.hosts = self.mktemp()
        self.resolver = self.make()

    def make(self, **kwargs: Any) -> Resolver:
        return Resolver(
            self.network, [ONE, TWO], retransmit=5, retries=2, hosts_file=self.hosts, **kwargs
        )

    def query(self, name: str, rdtype: str = "A", advance: float = 0) -> Answer:
        result: Answer = self.successResultOf(self.start(name, rdtype, advance))
        return result

    def start(self, name: str, rdtype: str = "A", advance: float = 0) -> Deferred[Answer]:
        return self.settle(Deferred.fromCoroutine(self.resolver.query(name, rdtype)), advance)

    def settle(self, done: Deferred[Any], advance: float = 0) -> Deferred[Any]:
        self.network.pump([0.1] * round(advance * 10) + [0] * 20)
        return done


class PatienceTests(ResolverCase):
    def test_within(self) -> None:
        """A resolver with other times gives up sooner, and has the same cache."""
        self.network.servers[ONE] = self.network.servers[TWO] = silent
        patient, self.resolver = self.resolver, self.resolver.within(1, 1)
        self.failureResultOf(self.start("slow.example", advance=3), TemporaryFailure)
        self.network.servers[ONE] = says("a.example. 300 IN A 192.0.2.1")
        self.query("a.example")
        asked = len(self.network.asked)
        self.resolver = patient
        self.assertEqual(self.query("a.example").records, ("192.0.2.1",))
        self.assertEqual(len(self.network.asked), asked)


class OptionTests(ResolverCase):
    """dns_check_names_pattern, disable_ipv6, dns_ipv4_lookup."""

    def addresses(self, name: str) -> tuple[str, ...]:
        found: tuple[str, ...] = self.successResultOf(
            self.settle(Deferred.fromCoroutine(self.resolver.addresses(name)))
        )
        return found

    def test_names_that_are_not_asked_for(self) -> None:
        self.resolver = self.make(names=re.compile(r"\A[a-z.]+\Z").search)
        self.network.servers[ONE] = says("a.example. 300 IN A 192.0.2.1")
        self.assertFalse(self.query("a_b.example").exists)
        self.assertFalse(self.query("a_b.example", "MX").exists)
        self.assertEqual(self.network.asked, [])

    def test_without_ipv6(self) -> None:
        async def ipv4_only(name: str) -> bool:
            return name == "a.example"

        for options in ({"ipv6": False}, {"ipv4_only": ipv4_only}):
            self.resolver = self.make(**options)
            asked: list[str] = []
            self.resolver.query = self.remembering(asked)  # type: ignore[method-assign]
            self.assertEqual(self.addresses("a.example"), ("192.0.2.1",))
            self.assertEqual(asked, ["A"])
        self.resolver = self.make(ipv6=False)
        self.assertEqual(self.addresses("2001:db8::1"), ())

    def remembering(self, asked: list[str]) -> Any:
        async def query(name: str, rdtype: str) -> Answer:
            asked.append(rdtype)
            return Answer(("192.0.2.1",))

        return query


class AnswerTests(ResolverCase):
    def test_texts_of_records(self) -> None:
        for rdtype, data, text in (
            ("A", "192.0.2.1", "192.0.2.1"),
            ("AAAA", "2001:db8::1", "2001:db8::1"),
            ("MX", "10 MX.example.", "10 MX.example"),
            ("MX", "0 .", "0 ."),
            ("PTR", "host.example.", "host.example"),
            ("TXT", '"v=spf1 " "-all\\255"', "v=spf1 -all\xff"),
            ("SRV", "1 2 25 mx.example.", "1 2 25 mx.example"),
            ("TLSA", "3 1 1 " + "ab" * 32, "3 1 1 " + "ab" * 32),
        ):
            with self.subTest(data=data):
                self.resolver = self.make()
                self.network.servers[ONE] = says(f"x.example. 60 IN {rdtype} {data}")
                found = self.query("x.example", rdtype)
                self.assertEqual(found.records, (text,))
                self.assertTrue(is_tainted(*found.records))

    def test_cnames_are_followed(self) -> None:
        self.network.servers[ONE] = says(
            "a.example. 60 IN CNAME b.example.", "b.example. 30 IN A 192.0.2.1"
        )
        self.assertEqual(self.query("a.example").records, ("192.0.2.1",))

    def test_cnames_that_the_server_left_to_us(self) -> None:
        """The name that they lead to is asked for: it is not one without records."""

        def part(query: bytes, how: str) -> list[bytes | tuple[float, bytes]]:
            if b"\x01a\x07example" in query:
                return [answer(query, "a.example. 60 IN CNAME b.elsewhere.")]
            return [answer(query, "b.elsewhere. 30 IN MX 10 c.elsewhere.")]

        self.network.servers[ONE] = part
        found = self.query("a.example", "MX")
        self.assertEqual((found.records, found.ttl), (("10 c.elsewhere",), 30))
        self.assertEqual(self.query("a.example", "MX").records, found.records)
        self.assertEqual(len(self.network.asked), 2)

    def test_cnames_in_parts_without_end(self) -> None:
        def part(query: bytes, how: str) -> list[bytes | tuple[float, bytes]]:
            here, there = "ab" if b"\x01a\x07example" in query else "ba"
            return [answer(query, f"{here}.example. 60 IN CNAME {there}.example.")]

        self.network.servers[ONE] = part
        self.failureResultOf(self.start("a.example"), TemporaryFailure)
        self.assertLess(len(self.network.asked), 20)

    def test_cname_loop_is_a_temporary_failure(self) -> None:
        self.network.servers[ONE] = self.network.servers[TWO] = says(
            "a.example. 60 IN CNAME b.example.", "b.example. 60 IN CNAME a.example."
        )
        self.failureResultOf(self.start("a.example"), TemporaryFailure)

    def test_no_such_name_and_no_data_differ(self) -> None:
        self.network.servers[ONE] = says(rcode="NXDOMAIN", authority=SOA)
        self.assertEqual(self.query("no.example"), Answer((), exists=False, ttl=60))
        self.network.servers[ONE] = says(authority=SOA)
        self.assertEqual(self.query("yes.example"), Answer((), exists=True, ttl=60))

    def test_authenticated_only_from_a_trusted_server(self) -> None:
        self.network.servers[ONE] = says("x.example. 60 IN A 192.0.2.1", flags="QR RD RA AD")
        self.assertFalse(self.query("x.example").authenticated)
        self.resolver = self.make(trust_ad=True)
        self.assertTrue(self.query("x.example").authenticated)

    def test_impossible_names_do_not_exist_and_are_not_asked(self) -> None:
        for name in ("a..b", "." * 3, "x" * 64 + ".example", "a." * 130, ".a"):
            with self.subTest(name=name):
                self.assertEqual(self.query(name), Answer((), exists=False))
        self.assertEqual(self.network.asked, [])

    def test_octets_of_a_name_are_sent_as_they_are(self) -> None:
        """No escape, no IDNA: a hostile HELO name cannot turn into another name."""
        for name in ("a\\.b.example", "a\\009.example", "\xe4\x00@.example"):
            with self.subTest(name=name):
                query = messages.build(name, "A")
                labels = [label.decode("latin-1") for label in query.message.question[0].name]
                self.assertEqual(labels, [*name.split("."), ""])

    def test_unknown_record_type_is_a_mistake_of_the_caller(self) -> None:
        self.failureResultOf(self.start("x.example", "NONSENSE"), ValueError)


class ServerTests(ResolverCase):
    def test_next_server_after_a_time_out_and_it_comes_first_then(self) -> None:
        self.network.servers[TWO] = says("x.example. 60 IN A 192.0.2.1")
        done = Deferred.fromCoroutine(self.resolver.query("x.example", "A"))
        self.network.advance(4.9)
        self.assertNoResult(done)
        self.network.advance(0.1)
        self.settle(done)
        self.successResultOf(done)
        self.query("y.example")
        self.assertEqual([host for host, _ in self.network.asked], [ONE[0], TWO[0], TWO[0]])
        self.assertEqual(self.network.sockets, 0)

    def test_all_silent_is_a_temporary_failure_in_bounded_time(self) -> None:
        done = self.start("x.example", advance=19)
        self.assertNoResult(done)
        self.settle(done, 2)
        self.failureResultOf(done, TemporaryFailure)
        self.assertEqual(len(self.network.asked), 4)
        self.assertEqual((self.network.sockets, self.network.getDelayedCalls()), (0, []))

    def test_dead_domains_keep_none_from_being_asked(self) -> None:
        """However many wait for answers that never come, another has its own in time."""

        def handler(query: bytes, how: str) -> list[bytes | tuple[float, bytes]]:
            if b"dead" in query:
                return []
            return [answer(query, "x.example. 60 IN A 192.0.2.1")]

        self.network.servers[ONE] = self.network.servers[TWO] = handler
        for count in (300, 600):
            waiting = [self.start(f"n{n}-{count}.dead.example") for n in range(count)]
            found = self.start("x.example", advance=3)
            self.assertEqual(self.successResultOf(found).records, ("192.0.2.1",))
            self.settle(found, 61)  # the cached answer has run out
            for one in waiting:
                self.failureResultOf(one, TemporaryFailure)

    def test_servfail_and_refused_go_on_to_the_next_server(self) -> None:
        for rcode in ("SERVFAIL", "REFUSED"):
            self.resolver = self.make()
            self.network.servers[ONE] = says(rcode=rcode)
            self.network.servers[TWO] = says("x.example. 60 IN A 192.0.2.1")
            self.assertEqual(self.query("x.example").records, ("192.0.2.1",))
        self.resolver = self.make()
        self.network.servers[TWO] = says(rcode="SERVFAIL")
        self.failureResultOf(self.start("x.example"), TemporaryFailure)

    def test_server_without_edns_is_asked_without(self) -> None:
        def old(query: bytes, how: str) -> list[bytes | tuple[float, bytes]]:
            if query[11]:  # an OPT record in the additional section
                return [query[:2] + b"\x81\x81" + query[4:]]  # FORMERR
            return [answer(query, "x.example. 60 IN A 192.0.2.1")]

        self.network.servers[ONE] = old
        self.assertEqual(self.query("x.example").records, ("192.0.2.1",))

    def test_truncated_answer_is_asked_for_over_tcp(self) -> None:
        records = [f"x.example. 60 IN A 192.0.2.{n}" for n in range(200)]

        def big(query: bytes, how: str) -> list[bytes | tuple[float, bytes]]:
            whole = answer(query, *records)
            cut = whole[:2] + bytes([whole[2] | 2]) + whole[3:300]
            return [whole if how == "tcp" else cut]

        self.network.servers[ONE] = big
        self.assertEqual(len(self.query("x.example").records), 200)
        self.assertEqual([how for _, how in self.network.asked], ["udp", "tcp"])

    def test_tcp_that_fails_is_no_answer(self) -> None:
        def broken(reply: list[bytes | tuple[float, bytes]]) -> Handler:
            def handler(query: bytes, how: str) -> list[bytes | tuple[float, bytes]]:
                return [query[:2] + b"\x83\x80" + query[4:]] if how == "udp" else reply

            return handler

        for reply in ([], [b""], [b"\0" * 30]):
            with self.subTest(reply=reply):
                self.resolver = self.make()
                self.network.servers[ONE] = broken(list(reply))
                self.network.servers[TWO] = says("x.example. 60 IN A 192.0.2.1")
                self.assertEqual(self.query("x.example", advance=6).records, ("192.0.2.1",))


class ForgeryTests(ResolverCase):
    def good_after(self, *forged: Callable[[bytes], bytes]) -> None:
        def handler(query: bytes, how: str) -> list[bytes | tuple[float, bytes]]:
            good = answer(query, "x.example. 60 IN A 192.0.2.1")
            return [*(make(query) for make in forged), (1.0, good)]

        self.network.servers[ONE] = handler
        self.assertEqual(self.query("x.example", advance=2).records, ("192.0.2.1",))
        self.assertEqual(self.network.asked, [(ONE[0], "udp")])

    def test_wrong_id_is_ignored(self) -> None:
        def forge(query: bytes) -> bytes:
            evil = answer(query, "x.example. 60 IN A 203.0.113.66")
            return bytes([evil[0] ^ 1]) + evil[1:]

        self.good_after(forge)

    def test_wrong_question_is_ignored(self) -> None:
        def forge(query: bytes) -> bytes:
            other = messages.build("y.example", "A").wire
            return answer(query[:2] + other[2:], "y.example. 60 IN A 203.0.113.66")

        self.good_after(forge)

    def test_query_sent_back_is_ignored(self) -> None:
        self.good_after(lambda query: query, lambda query: b"", lambda query: query[:11])

    def test_wrong_sender_is_ignored(self) -> None:
        sockets: list[Any] = []
        listen = self.network.listenUDP

        def spy(*args: Any, **kwargs: Any) -> Any:
            sockets.append(listen(*args, **kwargs))
            return sockets[-1]

        self.network.listenUDP = spy  # type: ignore[method-assign]
        evil: list[bytes] = []

        def handler(query: bytes, how: str) -> list[bytes | tuple[float, bytes]]:
            evil.append(answer(query, "x.example. 60 IN A 203.0.113.66"))
            return [(1.0, answer(query, "x.example. 60 IN A 192.0.2.1"))]

        self.network.servers[ONE] = handler
        done = Deferred.fromCoroutine(self.resolver.query("x.example", "A"))
        for sender in (TWO, (ONE[0], 54), ("203.0.113.1", 53)):
            sockets[0].receive(evil[0], sender)
        self.assertNoResult(done)
        self.settle(done, 2)
        self.assertEqual(self.successResultOf(done).records, ("192.0.2.1",))

    def test_ids_are_random(self) -> None:
        ids = {messages.build("x.example", "A").id for _ in range(50)}
        self.assertGreater(len(ids), 40)

    @given(st.binary(max_size=200), st.booleans())
    def test_any_octets_are_survived(self, data: bytes, after_question: bool) -> None:
        query = messages.build("x.example", "A")
        head = query.id + (b"\x81\x80\0\1\0\1\0\1\0\1" if after_question else b"")
        reply = messages.read(query, head + data)
        self.assertTrue(reply is None or reply.answer is None or reply.answer.records == ())

    def test_record_in_the_answer_that_was_not_asked_for_is_not_used(self) -> None:
        self.network.servers[ONE] = says(
            "evil.example. 60 IN A 203.0.113.66", "x.example. 60 IN A 192.0.2.1"
        )
        self.assertEqual(self.query("x.example").records, ("192.0.2.1",))


class CacheTests(ResolverCase):
    def test_answer_is_kept_for_its_ttl(self) -> None:
        self.network.servers[ONE] = says("x.example. 60 IN A 192.0.2.1")
        self.assertEqual(self.query("x.example").ttl, 60)
        self.network.advance(59)
        self.assertEqual(self.query("X.Example.").ttl, 1)
        self.assertEqual(len(self.network.asked), 1)
        self.network.advance(1)
        self.query("x.example")
        self.assertEqual(len(self.network.asked), 2)

    def test_negative_answer_is_kept_as_long_as_its_soa_says(self) -> None:
        self.network.servers[ONE] = says(rcode="NXDOMAIN", authority=SOA)
        self.query("no.example")
        self.query("no.example")
        self.assertEqual(len(self.network.asked), 1)
        self.network.advance(61)
        self.query("no.example")
        self.assertEqual(len(self.network.asked), 2)

    def test_negative_answer_without_soa_and_failures_are_not_kept(self) -> None:
        self.network.servers[ONE] = says(rcode="NXDOMAIN")
        self.query("no.example")
        self.query("no.example")
        self.assertEqual(len(self.network.asked), 2)

    def test_cache_is_bounded(self) -> None:
        self.resolver = self.make(cache_size=10)

        def any_name(query: bytes, how: str) -> list[bytes | tuple[float, bytes]]:
            name = str(messages.dns.message.from_wire(query).question[0].name)
            return [answer(query, f"{name} 60 IN A 192.0.2.1")]

        self.network.servers[ONE] = any_name
        for number in range(11):
            self.query(f"x{number}.example")
        self.query("x10.example")
        self.assertEqual(len(self.network.asked), 11)
        self.query("x0.example")
        self.assertEqual(len(self.network.asked), 12)

    def test_same_queries_under_way_are_joined(self) -> None:
        self.network.servers[ONE] = lambda query, how: [
            (1.0, answer(query, "x.example. 60 IN A 192.0.2.1"))
        ]
        waiting = [Deferred.fromCoroutine(self.resolver.query("x.example", "A")) for _ in range(9)]
        waiting[0].cancel()  # who asked first need not stay
        self.failureResultOf(waiting[0])
        self.settle(waiting[1], 2)
        for one in waiting[1:]:
            self.assertEqual(self.successResultOf(one).records, ("192.0.2.1",))
        self.assertEqual(len(self.network.asked), 1)

    def test_joined_queries_fail_together(self) -> None:
        self.network.servers[ONE] = self.network.servers[TWO] = says(rcode="SERVFAIL")
        for one in [self.start("x.example") for _ in range(3)]:
            self.failureResultOf(one, TemporaryFailure)


class HostTests(ResolverCase):
    def addresses(self, name: str, **kwargs: Any) -> Any:
        return self.settle(Deferred.fromCoroutine(self.resolver.addresses(name, **kwargs)))

    def names(self, address: str) -> Any:
        done = self.settle(Deferred.fromCoroutine(self.resolver.names(address)))
        return self.successResultOf(done)

    def test_literals_are_answered_at_once(self) -> None:
        self.assertEqual(self.successResultOf(self.addresses("192.0.2.9")), ("192.0.2.9",))
        self.assertEqual(self.successResultOf(self.addresses("2001:DB8:0::1")), ("2001:db8::1",))
        self.assertEqual(self.successResultOf(self.addresses("::1", ipv6=False)), ())
        self.assertEqual(self.network.asked, [])

    def test_hosts_file_comes_first(self) -> None:
        with open(self.hosts, "w") as file:
            file.write("# comment\n127.0.0.1 localhost Here.example # x\n::1 localhost\nbad line\n")
        self.assertEqual(self.successResultOf(self.addresses("LocalHost")), ("127.0.0.1", "::1"))
        self.assertEqual(
            self.successResultOf(self.addresses("localhost", ipv6=False)), ("127.0.0.1",)
        )
        self.assertEqual(self.names("127.0.0.1"), ("localhost", "Here.example"))
        self.assertEqual(self.network.asked, [])

    def test_changed_hosts_file_is_seen(self) -> None:
        self.network.servers[ONE] = says(rcode="NXDOMAIN")
        self.assertEqual(self.names("192.0.2.1"), ())
        with open(self.hosts, "w") as file:
            file.write("192.0.2.1 new.example\n")
        self.network.advance(6)
        self.assertEqual(self.names("192.0.2.1"), ("new.example",))

    def both(self, six: Handler, four: Handler) -> None:
        def handler(query: bytes, how: str) -> list[bytes | tuple[float, bytes]]:
            kind = messages.dns.message.from_wire(query).question[0].rdtype
            return (four if kind == 1 else six)(query, how)

        self.network.servers[ONE] = self.network.servers[TWO] = handler

    def test_both_kinds_of_address(self) -> None:
        six, four = says("x.example. 60 IN AAAA 2001:db8::1"), says("x.example. 60 IN A 192.0.2.1")
        self.both(six, four)
        found = self.successResultOf(self.addresses("x.example"))
        self.assertEqual(found, ("2001:db8::1", "192.0.2.1"))
        found = self.successResultOf(self.addresses("x.example", ipv6=False))
        self.assertEqual(found, ("192.0.2.1",))

    def test_one_kind_that_fails_matters_only_without_the_other(self) -> None:
        self.both(says(rcode="SERVFAIL"), says("x.example. 60 IN A 192.0.2.1"))
        self.assertEqual(self.successResultOf(self.addresses("x.example")), ("192.0.2.1",))
        self.both(says(rcode="SERVFAIL"), says())
        self.failureResultOf(self.addresses("y.example"), TemporaryFailure)

    def test_names_of_an_address(self) -> None:
        self.network.servers[ONE] = says("1.2.0.192.in-addr.arpa. 60 IN PTR mx.example.")
        self.assertEqual(self.names("192.0.2.1"), ("mx.example",))
        self.assertEqual(self.names("no address"), ())


class LoopbackTests(TestCase):
    """The same over real sockets."""

    def test_udp_then_tcp(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.udp_then_tcp())

    async def udp_then_tcp(self) -> None:
        from twisted.internet import reactor

        tcp = socket.create_server(("127.0.0.1", 0))
        port = tcp.getsockname()[1]
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", port))
        self.addCleanup(tcp.close)
        self.addCleanup(udp.close)

        def serve() -> None:
            query, sender = udp.recvfrom(4096)
            udp.sendto(query[:2] + b"\x83\x80" + query[4:], sender)
            stream, _ = tcp.accept()
            with stream:
                query = stream.recv(4096)[2:]
                whole = answer(query, "x.example. 60 IN A 192.0.2.1")
                stream.sendall(len(whole).to_bytes(2, "big") + whole)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        resolver = Resolver(reactor, [("127.0.0.1", port)], retransmit=5, retries=1)
        found = await resolver.query("x.example", "A")
        self.assertEqual(found.records, ("192.0.2.1",))
        server.join(5)

    def test_refused_port_is_a_temporary_failure(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.refused_port())

    async def refused_port(self) -> None:
        from twisted.internet import reactor

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        resolver = Resolver(reactor, [("127.0.0.1", port)], retransmit=5, retries=1)
        with self.assertRaises(TemporaryFailure):
            await resolver.query("x.example", "A")

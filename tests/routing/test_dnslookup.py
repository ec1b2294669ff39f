"""Routers that ask the DNS: dnslookup, ipliteral, and manualroute's ``/MX``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailsrv.expansion.scope import Services
from mailsrv.interfaces import Routed
from mailsrv.mail.message import Recipient
from mailsrv.mail.routed import Host
from mailsrv.mail.taint import Tainted
from mailsrv.net.threads import InlineThreads
from mailsrv.routing.route import Routing
from mailsrv.routing.router import Router
from mailsrv.routing.routers.accept import Accept
from mailsrv.routing.routers.dnslookup import Dnslookup
from mailsrv.routing.routers.ipliteral import Ipliteral
from mailsrv.routing.routers.manualroute import Manualroute
from tests.doubles.log import RecordingLog
from tests.doubles.resolver import DictResolver
from tests.routing.test_route import make
from tests.transport.helpers import message

Records = dict[tuple[str, str], Sequence[str] | None]
ME = "127.0.0.1"
ZONE: Records = {
    ("x.example", "MX"): ("20 b.example", "10 a.example", "10 c.example"),
    ("a.example", "A"): ("192.0.2.1",),
    ("b.example", "A"): ("192.0.2.2",),
    ("b.example", "AAAA"): ("2001:db8::2",),
    ("c.example", "A"): ("192.0.2.3",),
    ("plain.example", "A"): ("192.0.2.4",),
    ("text.example", "TXT"): ("no mail here",),
    ("null.example", "MX"): ("0 .",),
    ("nowhere.example", "MX"): ("10 gone.example",),
    ("toip.example", "MX"): ("10 192.0.2.9",),
    ("broken.example", "MX"): None,
    ("broken.example", "A"): ("192.0.2.5",),
    ("half.example", "MX"): ("10 sick.example", "20 a.example"),
    ("sick.example", "A"): None,
    ("sick.example", "AAAA"): None,
    ("allsick.example", "MX"): ("10 sick.example",),
    ("me.example", "A"): (ME,),
    ("best.example", "MX"): ("10 me.example", "20 a.example"),
    ("second.example", "MX"): ("30 b.example", "20 me.example", "20 c.example", "10 a.example"),
    ("wide.wonder.example", "MX"): ("10 a.example",),
    ("_smtp._tcp.srv.example", "SRV"): ("10 5 2525 a.example", "20 0 26 b.example"),
    ("_smtp._tcp.nosrv.example", "SRV"): ("0 0 0 .",),
    ("_smtp._tcp.badsrv.example", "SRV"): None,
    ("badsrv.example", "MX"): ("10 a.example",),
}


def routing(
    *routers: Router, zone: Records = ZONE, local_name: str = "", search: tuple[str, ...] = ()
) -> Routing:
    async def is_local_name(name: str) -> bool:
        return name == local_name

    return Routing(
        routers,
        Services(Clock(), {"primary_hostname": "me.example"}, lambda name: None),
        RecordingLog(),
        DictResolver(zone),
        InlineThreads(),
        Clock(),
        local_transports={"remote": False, "local": True},
        is_local=lambda address: address == ME,
        is_local_name=is_local_name,
        search=search,
    )


def route(made: Routing, address: str) -> Routed:
    done: list[Routed] = []
    run = Deferred.fromCoroutine(made.route(message(), Recipient(Tainted(address))))
    run.addCallback(done.append)
    assert done, "routing waits"
    return done[0]


def lookup(**settings: str) -> Any:
    return make(Dnslookup, "d", **{"transport": "remote", **settings})


def hosts(address: str, local_name: str = "", **settings: str) -> list[str]:
    """Route to one dnslookup router; the hosts as ``address port=… MX=…``."""
    answer = route(routing(lookup(**settings), local_name=local_name), address)
    assert answer.status is None, answer
    return [each.address for each in answer.addresses[0].hosts]


def refused(address: str, **settings: str) -> tuple[int, str]:
    answer = route(routing(lookup(**settings)), address)
    assert answer.status is not None, answer
    return answer.status.code, answer.reason


def test_mx_records_by_preference_with_ipv6_first() -> None:
    """Equal preferences share their turn at random."""
    seen = set()
    for _ in range(50):
        found = hosts("u@x.example")
        assert set(found[:2]) == {"192.0.2.1", "192.0.2.3"}
        assert found[2:] == ["2001:db8::2", "192.0.2.2"]
        seen.add(found[0])
    assert len(seen) == 2
    (address,) = route(routing(lookup()), "u@x.example").addresses
    assert address.hosts[2] == Host("b.example", "2001:db8::2", 0, 20, mx=True)
    assert address.transport == "remote"


def test_the_domain_itself_is_the_exchanger_without_mx() -> None:
    (address,) = route(routing(lookup()), "u@plain.example").addresses
    assert address.hosts == (Host("plain.example", "192.0.2.4"),)
    assert refused("u@plain.example", mx_domains="*.example")[0] == 550


@pytest.mark.parametrize(
    ("domain", "reason"),
    [
        ("no-such.example", "Unrouteable address"),
        ("text.example", "Unrouteable address"),
        ("null.example", "an MX or SRV record indicated no SMTP service"),
        ("nowhere.example", "all relevant MX records point to non-existent hosts"),
        (
            "toip.example",
            "all relevant MX records point to non-existent hosts or (invalidly) to IP addresses",
        ),
    ],
)
def test_declined(domain: str, reason: str) -> None:
    assert refused(f"u@{domain}") == (550, reason)


def test_the_next_router_gets_what_was_declined() -> None:
    answer = route(routing(lookup(), make(Accept, "b", transport="local")), "u@null.example")
    assert [each.router for each in answer.addresses] == ["b"]


def test_failing_lookups_defer() -> None:
    for domain in ("broken.example", "allsick.example"):
        code, reason = refused(f"u@{domain}")
        assert (code, reason[:30]) == (451, "host lookup did not complete: ")
    assert hosts("u@half.example") == ["192.0.2.1"]
    assert hosts("u@broken.example", mx_fail_domains="broken.example") == ["192.0.2.5"]
    answer = route(
        routing(lookup(pass_on_timeout="true"), make(Accept, "b", transport="local")),
        "u@broken.example",
    )
    assert [each.router for each in answer.addresses] == ["b"]


def test_fail_defer_domains() -> None:
    said = "missing MX, or all MXs point to missing A records, and defer requested"
    for name in ("no-such", "null", "nowhere"):
        assert refused(f"u@{name}.example", fail_defer_domains="*.example") == (451, said)


def test_what_the_retry_rules_call_it() -> None:
    """A host that could not be looked up is "lookup"; any other deferral has no name (32.5)."""

    def error(address: str, **options: str) -> str:
        return route(routing(lookup(**options)), address).error

    assert error("u@broken.example") == "lookup"
    assert error("u@no-such.example", fail_defer_domains="*") == "lookup"
    assert error("u@best.example") == "*"
    assert error("u@x.example", condition="${lookup{x}lsearch{/no/such/file}}") == "*"


def test_this_host_and_what_is_no_better_is_left_out() -> None:
    assert hosts("u@second.example") == ["192.0.2.1"]
    assert hosts("u@x.example", local_name="b.example")[:2] != []
    assert "192.0.2.2" not in hosts("u@x.example", local_name="b.example")
    assert refused("u@best.example")[0] == 451  # self = freeze
    assert refused("u@best.example", self_="fail")[0] == 550
    assert hosts("u@best.example", self_="send") == [ME, "192.0.2.1"]
    assert route(routing(lookup()), "u@me.example").frozen


def test_what_is_said_of_this_host() -> None:
    """By self = pass, too, if no other router takes the address."""
    for domain, said in (
        ("best.example", "lowest numbered MX record points to local host"),
        ("me.example", "remote host address is the local host"),
    ):
        for self_, code in (("freeze", 451), ("fail", 550), ("pass", 550)):
            assert refused(f"u@{domain}", self_=self_) == (code, said)


def test_hosts_without_an_address_are_kept_to_be_shown() -> None:
    """A host that two records name is tried once."""
    (address,) = route(routing(lookup()), "u@half.example").addresses
    assert address.unusable == (Host("sick.example", "", 0, 10, mx=True),)
    zone: Records = {
        ("x.example", "MX"): ("0 .", "5 192.0.2.9", "10 a.example", "20 a.example", "30 gone.x"),
        ("a.example", "A"): ("192.0.2.1",),
    }
    (address,) = route(routing(lookup(), zone=zone), "u@x.example").addresses
    assert address.hosts == (Host("a.example", "192.0.2.1", 0, 10, mx=True),)
    assert [each.name for each in address.unusable] == ["", "192.0.2.9", "gone.x"]


def test_check_secondary_mx() -> None:
    assert hosts("u@second.example", check_secondary_mx="true") == ["192.0.2.1"]
    assert refused("u@x.example", check_secondary_mx="true")[0] == 550


def test_kinds_of_addresses() -> None:
    assert "2001:db8::2" not in hosts("u@x.example", ipv4_only="yes")
    assert hosts("u@x.example", ipv4_prefer="yes")[2:] == ["192.0.2.2", "2001:db8::2"]
    assert "2001:db8::2" in hosts("u@x.example", ipv4_only="${if eq{1}{2}{yes}{no}}")


def test_ignored_hosts() -> None:
    assert hosts("u@x.example", ignore_target_hosts="192.0.2.0/24") == ["2001:db8::2"]
    assert refused("u@plain.example", ignore_target_hosts="192.0.2.0/24")[0] == 550


def test_widened_domains_are_routed_anew() -> None:
    made = routing(lookup(widen_domains="wonder.example : other", rewrite_headers="false"))
    (address,) = route(made, "u@wide").addresses
    assert address.address == "u@wide.wonder.example"
    assert not address.renamed
    (address,) = route(routing(lookup(widen_domains="wonder.example")), "u@wide").addresses
    assert address.renamed == (("wide", "wide.wonder.example"),)


def test_a_widened_domain_that_is_this_host_is_routed_anew() -> None:
    """So self is said of the widened name."""
    zone: Records = {("here.wonder.example", "MX"): ("10 me.example",), ("me.example", "A"): (ME,)}
    made = routing(lookup(widen_domains="wonder.example", self_="pass"), zone=zone)
    answer = route(made, "u@here")
    assert [each.address.address for each in answer.unrouted] == ["u@here.wonder.example"]


def test_a_domain_that_exists_is_not_widened() -> None:
    """MX records that lead nowhere decide, as in Exim."""
    code, reason = refused("u@nowhere.example", widen_domains="x.example", rewrite_headers="false")
    assert (code, reason) == (550, "all relevant MX records point to non-existent hosts")
    zone: Records = {**ZONE, ("nowhere.example.x.example", "MX"): ("10 a.example",)}
    made = routing(lookup(widen_domains="x.example", rewrite_headers="false"), zone=zone)
    assert route(made, "u@nowhere.example").status is not None


@pytest.mark.parametrize(
    ("domain", "settings", "found"),
    [
        ("one", {}, "one.far.example"),
        ("one", {"qualify_single": "false"}, ""),
        ("two", {}, ""),
        ("two", {"search_parents": "true"}, "two.near.example"),
        ("two", {"search_parents": "true", "qualify_single": "false"}, ""),
        ("two", {"widen_domains": "near.example"}, "two.near.example"),
        ("two.near", {}, ""),
        ("two.near", {"search_parents": "true", "qualify_single": "false"}, "two.near.example"),
        ("both", {}, "both.far.example"),
        ("both", {"qualify_single": "false"}, "both"),
        ("plain.example", {"search_parents": "true"}, "plain.example"),
    ],
)
def test_short_names_are_completed(domain: str, settings: dict[str, str], found: str) -> None:
    """As the C library does with resolv.conf's search list; a dot makes a name long."""
    zone: Records = {
        ("one.far.example", "A"): ("192.0.2.1",),
        ("two.near.example", "A"): ("192.0.2.2",),
        ("both", "A"): ("192.0.2.3",),
        ("both.far.example", "A"): ("192.0.2.4",),
        ("plain.example", "A"): ("192.0.2.5",),
        ("plain.example.far.example", "A"): ("192.0.2.6",),
    }
    search = ("far.example", "near.example", "example")
    answer = route(routing(lookup(**settings), zone=zone, search=search), f"u@{domain}")
    assert [each.domain for each in answer.addresses] == ([found] if found else [])


def test_a_search_that_fails_for_now() -> None:
    """It defers what has no dot and is not found; a longer name was looked up before."""
    zone: Records = {
        ("one.sick.example", "MX"): None,
        ("two.sick.example", "MX"): None,
        ("two", "A"): ("192.0.2.1",),
        ("x.y.sick.example", "MX"): None,
    }
    made = routing(lookup(search_parents="true"), zone=zone, search=("sick.example",))
    for domain, code in (("one", 451), ("two", None), ("x.y", 550)):
        status = route(made, f"u@{domain}").status
        assert (status.code if status is not None else None) == code


def test_what_is_routed_anew_begins_at_the_first_router() -> None:
    """redirect_router is for addresses that a redirect router makes."""
    made = routing(
        make(Accept, "a", domains="other.example", transport="local"),
        lookup(self_="reroute: other.example", redirect_router="c"),
        make(Accept, "c", transport="local"),
    )
    assert [each.router for each in route(made, "u@me.example").addresses] == ["a"]


def test_the_log_has_what_a_router_said_and_the_client_the_administrators_words() -> None:
    answer = route(routing(lookup(cannot_route_message="sorry")), "u@nowhere.example")
    assert answer.status is not None and answer.status.text == "sorry"
    assert answer.reason == "all relevant MX records point to non-existent hosts"


def test_srv_records() -> None:
    answer = route(routing(lookup(check_srv="smtp")), "u@srv.example")
    assert [(h.address, h.port) for h in answer.addresses[0].hosts] == [
        ("192.0.2.1", 2525),
        ("2001:db8::2", 26),
        ("192.0.2.2", 26),
    ]
    assert refused("u@nosrv.example", check_srv="smtp")[0] == 550
    assert refused("u@badsrv.example", check_srv="smtp")[0] == 451
    assert hosts("u@badsrv.example", check_srv="smtp", srv_fail_domains="*") == ["192.0.2.1"]


def test_hostile_records() -> None:
    """Records with odd values are left out; of thousands the best are used."""
    zone: Records = {
        ("odd.example", "MX"): ("x y", "", "10", "-1 a.example", "5 a.example"),
        ("a.example", "A"): ("192.0.2.1",),
        ("many.example", "MX"): (*(f"10 h{n}.example" for n in range(5000)), "5 a.example"),
        **{(f"h{n}.example", "A"): (f"192.0.2.{n % 250}",) for n in range(5000)},
    }
    (address,) = route(routing(lookup(), zone=zone), "u@odd.example").addresses
    assert [each.address for each in address.hosts] == ["192.0.2.1"]
    (address,) = route(routing(lookup(), zone=zone), "u@many.example").addresses
    assert len(address.hosts) == 100
    assert address.hosts[0].name == "a.example"


# --- ipliteral -----------------------------------------------------------------


def literal(**settings: str) -> Any:
    return make(Ipliteral, "i", **{"transport": "remote", **settings})


@pytest.mark.parametrize(
    ("domain", "ip"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:2001:db8::1]", "2001:db8::1"),
        ("[ipv4:192.0.2.1]", "192.0.2.1"),
    ],
)
def test_ip_literals(domain: str, ip: str) -> None:
    (address,) = route(routing(literal()), f"u@{domain}").addresses
    assert [each.address for each in address.hosts] == [ip]


@pytest.mark.parametrize("domain", ["[x]", "[ipv6:192.0.2.1]", "[]", "x.example", "[ipv4:::1]"])
def test_no_ip_literals(domain: str) -> None:
    assert route(routing(literal()), f"u@{domain}").status is not None


def test_a_literal_of_this_host_or_ignored() -> None:
    assert route(routing(literal()), f"u@[{ME}]").frozen
    made = routing(literal(ignore_target_hosts="192.0.2.0/24"))
    assert route(made, "u@[192.0.2.1]").status is not None


# --- manualroute ---------------------------------------------------------------


def manual(hosts: str, **settings: str) -> list[str]:
    made = routing(
        make(Manualroute, "m", **{"transport": "remote", "route_list": f"* {hosts}", **settings})
    )
    answer = route(made, "u@any.example")
    if answer.status is not None:
        return [str(answer.status.code)]
    return [f"{each.address}:{each.port}" for each in answer.addresses[0].hosts]


def test_an_item_that_stands_for_mx_records() -> None:
    assert set(manual("x.example/MX::2525")[:2]) == {"192.0.2.1:2525", "192.0.2.3:2525"}
    assert manual('"plain.example : second.example/mx"') == ["192.0.2.4:0", "192.0.2.1:0"]
    assert manual("null.example/MX", host_find_failed="fail") == ["550"]
    assert manual('"null.example/MX : plain.example"', host_find_failed="ignore") == ["192.0.2.4:0"]
    assert manual("broken.example/MX") == ["451"]


def test_an_mx_list_that_begins_with_this_host() -> None:
    assert manual("best.example/MX", self_="fail") == ["550"]
    assert manual('"plain.example : best.example/MX : c.example"') == ["192.0.2.4:0"]


def test_words_of_a_rule() -> None:
    assert manual("b.example ipv4_only") == ["192.0.2.2:0"]
    assert manual("b.example ipv4_prefer") == ["192.0.2.2:0", "2001:db8::2:0"]
    assert manual("b.example bydns") == ["2001:db8::2:0", "192.0.2.2:0"]


def test_a_host_without_usable_addresses_is_not_found() -> None:
    """host_find_failed says what becomes of it, and host_all_ignored if that is "ignore"."""
    ignored = {"ignore_target_hosts": "192.0.2.0/24"}
    for name, there in (("gone.example", False), ("plain.example", True)):
        for word, code in (("decline", "550"), ("defer", "451"), ("fail", "550")):
            more = ignored if there else {}
            assert manual(name, host_find_failed=word, **more) == [code]
            assert manual(f'"b.example:{name}"', host_find_failed=word, **more) == [code]
            all_ignored = {"host_find_failed": "ignore", "host_all_ignored": word, **more}
            assert manual(name, **all_ignored) == [code]
    made = routing(make(Manualroute, "m", transport="remote", route_list="* gone.example"))
    answer = route(made, "u@any.example")
    assert answer.reason == 'lookup of host "gone.example" failed in m router'
    assert answer.frozen


def test_this_host_behind_others_ends_the_list() -> None:
    """Whatever self says (20.6)."""
    for hosts in ("a.example:me.example:c.example", "a.example:best.example/MX:c.example"):
        assert manual(f'"{hosts}"', self_="send") == ["192.0.2.1:0"]
    assert manual('"me.example:c.example"', self_="send") == [f"{ME}:0", "192.0.2.3:0"]


def test_where_hosts_are_looked_up() -> None:
    """The hosts file comes first for byname, and last where no word says anything (20.7)."""

    class Both(DictResolver):
        async def addresses(
            self, name: str, *, ipv6: bool = True, hosts_file: bool = True
        ) -> tuple[str, ...]:
            if hosts_file and name in ("a.example", "hosted.example"):
                return ("198.51.100.1",)
            return await super().addresses(name, ipv6=ipv6)

    def found(hosts: str) -> str:
        router = make(Manualroute, "m", transport="remote", route_list=f"* {hosts}")
        made = routing(router)
        resolver: Any = Both({**ZONE, ("sick.example", "A"): None})
        object.__setattr__(made.facilities, "resolver", resolver)
        answer = route(made, "u@any.example")
        return "" if answer.status else answer.addresses[0].hosts[0].address

    assert found("a.example") == found("a.example bydns") == "192.0.2.1"
    assert found("a.example byname") == "198.51.100.1"
    assert found("hosted.example") == found("hosted.example byname") == "198.51.100.1"
    assert found("hosted.example bydns") == ""
    assert found("sick.example") == ""


def test_the_final_dot_of_a_host_is_no_part_of_its_name() -> None:
    made = routing(make(Manualroute, "m", transport="remote", route_list="* a.example."))
    (address,) = route(made, "u@any.example").addresses
    assert [each.name for each in address.hosts] == ["a.example"]

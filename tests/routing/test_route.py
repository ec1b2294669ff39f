"""Routers in their order: preconditions, decisions, copies, and what the sender is told."""

from __future__ import annotations

import os
import pwd
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from mailsrv.errors import ConfigError, Position, TemporaryFailure
from mailsrv.expansion.scope import Services
from mailsrv.interfaces import Routed
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Message, Recipient, Transaction
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Host
from mailsrv.mail.taint import Tainted
from mailsrv.net.threads import InlineThreads
from mailsrv.routing.route import Routing, check
from mailsrv.routing.router import ADDRESS_TEST, EXPN, Context, Router
from mailsrv.routing.routers.accept import Accept
from mailsrv.routing.routers.manualroute import Manualroute
from mailsrv.routing.verify import Verifier
from tests.doubles.log import RecordingLog
from tests.transport.helpers import Resolver, message

WHERE = Position("test.conf", 7)
TRANSPORTS = {"local": True, "remote": False}


def make(kind: type[Router], name: str, **settings: str) -> Any:
    router = kind(name, WHERE)
    for key, text in settings.items():
        key = key.rstrip("_")
        router.values[key] = kind.options()[key].type.parse(text, WHERE)
    router.check()
    return router


def accept(name: str = "r", **settings: str) -> Any:
    return make(Accept, name, **{"transport": "local", **settings})


def manual(name: str = "m", **settings: str) -> Any:
    return make(Manualroute, name, **{"transport": "remote", **settings})


class World:
    def __init__(self, *routers: Router, **known: tuple[str, ...]) -> None:
        self.clock = Clock()
        self.log = RecordingLog()
        self.resolver: Any = Resolver(**known)
        self.routing = Routing(
            routers,
            Services(self.clock, {"primary_hostname": "me.example"}, lambda name: None),
            self.log,
            self.resolver,
            InlineThreads(),
            self.clock,
            local_transports=TRANSPORTS,
            is_local=lambda address: address == "127.0.0.1",
        )

    def route(self, address: str, mail: Message | None = None) -> Routed:
        run = Deferred.fromCoroutine(
            self.routing.route(mail or message(), Recipient(Tainted(address)))
        )
        done: list[Routed] = []
        run.addCallback(done.append)
        assert done, "routing waits"
        return done[0]

    def verify(self, address: str, *, as_sender: bool = False) -> Routed:
        connection = Connection(Origin(), transaction=Transaction(sender="s@e"))
        run = Deferred.fromCoroutine(
            Verifier(self.routing).verify(Tainted(address), connection, as_sender=as_sender)
        )
        done: list[Routed] = []
        run.addCallback(done.append)
        return done[0]


def routers_of(answer: Routed) -> list[str]:
    return [address.router for address in answer.addresses]


def test_first_router_whose_preconditions_are_met() -> None:
    w = World(accept("a", domains="x.example"), accept("b", local_parts="bob"), accept("c"))
    assert routers_of(w.route("bob@x.example")) == ["a"]
    assert routers_of(w.route("Bob@Y.example")) == ["b"]
    (found,) = w.route("Eve@Y.example").addresses
    assert (found.router, found.transport) == ("c", "local")
    assert (found.local_part, found.domain, found.address) == ("eve", "y.example", "Eve@Y.example")


def test_running_out_of_routers() -> None:
    w = World(accept("a", domains="x.example"))
    answer = w.route("bob@y.example")
    assert answer.status is not None
    assert (answer.status.code, answer.status.text) == (550, "Unrouteable address")


def test_cannot_route_message_of_the_last_router_considered() -> None:
    w = World(
        accept("a", domains="x", cannot_route_message="no"),
        accept("b", domains="x", cannot_route_message="Unknown user $local_part"),
    )
    answer = w.route("bob@y")
    assert answer.status is not None
    assert answer.status.text == "Unknown user bob"


def test_senders_and_condition() -> None:
    w = World(
        accept("a", senders="other@example.org"),
        accept("b", condition="no"),
        accept("c", condition="${if eq{$domain}{e}{fail}{0}}"),
    )
    assert routers_of(w.route("bob@e")) == ["c"]
    assert w.route("bob@f").status is not None


def test_broken_condition_defers() -> None:
    answer = World(accept("a", condition="${if foo")).route("bob@e")
    assert answer.status is not None and answer.status.temporary


def test_affixes() -> None:
    w = World(
        accept("a", local_part_prefix="real-", local_part_suffix="+* : -*", local_parts="bob"),
        accept("b", local_part_suffix="+*", local_part_suffix_optional="true"),
    )
    (found,) = w.route("Real-bob+x+y@e").addresses
    assert (found.router, found.prefix, found.local_part, found.suffix) == (
        "a", "real-", "bob", "+x+y",
    )  # fmt: skip
    (found,) = w.route("real-eve@e").addresses
    assert (found.router, found.local_part, found.suffix) == ("b", "real-eve", "")


def test_unseen_gives_a_copy_and_goes_on() -> None:
    w = World(accept("a", unseen="true", headers_add="X-A: 1", address_data="d"), accept("b"))
    first, second = w.route("bob@e").addresses
    assert (first.router, second.router) == ("a", "b")
    assert (first.headers_add, second.headers_add) == (["X-A: 1"], [])
    assert second.address_data == "d"


def test_no_more_makes_declining_final() -> None:
    w = World(manual("a", route_list="x.example h", more="false"), accept("b"))
    assert w.route("bob@y").status is not None
    w = World(manual("a", route_list="x.example h"), accept("b"))
    assert routers_of(w.route("bob@y")) == ["b"]


def test_address_data_and_variables() -> None:
    w = World(accept("a", set_="r_one = 1 ; r_two = $r_one$local_part", address_data="$r_two!"))
    (found,) = w.route("bob@e").addresses
    assert found.address_data == "1bob!"
    assert found.vars["r_two"] == "1bob"


def test_forced_failure_of_address_data_declines() -> None:
    w = World(accept("a", address_data="${if eq{1}{2}{x}fail}"), accept("b"))
    assert routers_of(w.route("bob@e")) == ["b"]


def test_check_local_user() -> None:
    me = pwd.getpwuid(os.getuid())
    w = World(accept("a", check_local_user="true"))
    (found,) = w.route(f"{me.pw_name}@e").addresses
    assert (found.home, found.user, found.local_part_data) == (me.pw_dir, me.pw_name, me.pw_name)
    assert w.route("no-such-user-here@e").status is not None


def test_require_files(tmp_path: Path) -> None:
    (tmp_path / "bob").touch()
    w = World(accept("a", require_files=f"{tmp_path}/$local_part : !{tmp_path}/no"), accept("b"))
    assert routers_of(w.route("bob@e")) == ["a"]
    assert routers_of(w.route("eve@e")) == ["b"]
    away = w.route("../bob@e")  # it is there, by another way than the configuration names
    assert away.status is not None and away.status.temporary and "tainted" in away.reason


def test_verification_uses_the_verify_options() -> None:
    w = World(
        accept("a", verify_sender="false", verify_recipient="false"),
        accept("b", verify_sender="false"),
        accept("c", verify_only="true", fail_verify_sender="true"),
        accept("d"),
    )
    assert w.verify("bob@e").router == "b"
    failed = w.verify("bob@e", as_sender=True)
    assert failed.router == "c" and failed.status is not None
    assert routers_of(w.route("bob@e")) == ["a"]


def test_the_last_router_passes_no_copy_on() -> None:
    w = World(accept("a", domains="x"), accept("b", unseen="true"))
    answer = w.route("bob@e")
    assert answer.status is None and routers_of(answer) == ["b"]
    w = World(accept("a", unseen="true"), accept("b", domains="x"))
    answer = w.route("bob@e")
    assert answer.status is not None and routers_of(answer) == ["a"]


def test_errors_to_only_if_it_verifies() -> None:
    w = World(accept("a", domains="e", errors_to="${if eq{$local_part}{bob}{x@e}{x@nowhere}}"))
    assert w.route("bob@e").addresses[0].errors_to == "x@e"
    assert w.route("eve@e").addresses[0].errors_to is None


def test_unknown_transport_defers() -> None:
    answer = World(accept("a", transport="nope")).route("bob@e")
    assert answer.status is not None and answer.status.temporary
    assert answer.reason == 'transport "nope" not found in a router'
    verified = World(accept("a", transport="nope")).verify("bob@e")
    assert verified.status is not None and verified.status.temporary


def test_a_peer_chooses_no_transport() -> None:
    """Not even one that there is: a local part is the peer's own word."""
    for transport in ("$local_part", "${lc:$local_part}"):
        answer = World(accept("a", transport=transport)).route("local@e")
        assert answer.status is not None and answer.status.temporary
        assert "attempt to use tainted value 'local'" in answer.reason


def test_exception_in_a_router_defers_and_is_logged() -> None:
    class Broken(Accept):
        async def route(self, address: Any, context: Any) -> Any:
            raise ZeroDivisionError

    w = World(make(Broken, "a", transport="local"))
    answer = w.route("bob@e")
    assert answer.status is not None and answer.status.temporary
    assert isinstance(w.log.failures[0], ZeroDivisionError)


def test_routing_that_hangs_defers_in_time() -> None:
    class Hanging(Accept):
        async def route(self, address: Any, context: Any) -> Any:
            await Deferred()

    w = World(make(Hanging, "a", transport="local"))
    run = Deferred.fromCoroutine(w.routing.route(message(), Recipient("bob@e")))
    done: list[Routed] = []
    run.addCallback(done.append)
    w.clock.advance(301)
    assert done[0].status is not None and done[0].status.temporary
    assert done[0].reason == "routing took too long"
    assert not w.log.failures


def test_cancelled_routing_ends_as_cancelled() -> None:
    """Whoever cancels a routing is told so: it is no answer, and nobody's fault."""

    class Hanging(Accept):
        async def route(self, address: Any, context: Any) -> Any:
            await Deferred()

    w = World(make(Hanging, "a", transport="local"))
    run = Deferred.fromCoroutine(w.routing.route(message(), Recipient("bob@e")))
    failed: list[Any] = []
    run.addErrback(failed.append)
    run.cancel()
    assert failed and failed[0].check(CancelledError)
    assert not w.log.failures


# --- manualroute ---------------------------------------------------------------


def test_hosts_in_order_with_ports_and_several_addresses() -> None:
    w = World(
        manual(route_list='*.x "a::2525 : [192.0.2.7]::26 : 2001::db8::::1"; * b'),
        a=("192.0.2.1", "192.0.2.2"),
        b=("192.0.2.3",),
    )
    hosts = w.route("u@w.x").addresses[0].hosts
    assert set(hosts[:2]) == {Host("a", "192.0.2.1", 2525), Host("a", "192.0.2.2", 2525)}
    assert hosts[2:] == (
        Host("192.0.2.7", "192.0.2.7", 26),
        Host("2001:db8::1", "2001:db8::1"),
    )
    assert w.route("u@other").addresses[0].hosts == (Host("b", "192.0.2.3"),)


def test_local_transport_needs_no_hosts() -> None:
    w = World(manual(route_list="* ${if eq{1}{1}{x}} byname local"))
    (found,) = w.route("u@e").addresses
    assert (found.transport, found.hosts) == ("local", ())


def test_comment_at_the_end_of_a_rule() -> None:
    router = manual(route_list="* 192.0.2.1 byname # to the backup")
    assert router.notes() == ['route_list: "# to the backup" is taken as a comment']
    assert World(router).route("u@e").addresses[0].hosts[0].address == "192.0.2.1"


def test_route_data() -> None:
    w = World(manual(route_data="${if eq{$domain}{e}{192.0.2.1 remote}}"), accept("b"))
    assert routers_of(w.route("u@e")) == ["m"]
    assert routers_of(w.route("u@f")) == ["b"]


@pytest.mark.parametrize(
    ("word", "frozen", "code"),
    [("freeze", True, 451), ("defer", False, 451), ("fail", False, 550), ("decline", False, 0)],
)
def test_host_find_failed(word: str, frozen: bool, code: int) -> None:
    w = World(manual(route_list="* nowhere", host_find_failed=word), accept("b"))
    answer = w.route("u@e")
    assert answer.frozen == frozen
    assert (answer.status.code if answer.status else 0) == code


def test_ignored_hosts() -> None:
    w = World(
        manual(route_list="* a:b", ignore_target_hosts="192.0.2.1", host_find_failed="ignore"),
        a=("192.0.2.1",),
        b=("192.0.2.2",),
    )
    assert [h.name for h in w.route("u@e").addresses[0].hosts] == ["b"]


@pytest.mark.parametrize(
    ("word", "router", "code"),
    [
        ("freeze", "m", 451),
        ("fail", "m", 550),
        ("pass", "b", 0),
        ("send", "m", 0),
        ("defer", "m", 451),
    ],
)
def test_self(word: str, router: str, code: int) -> None:
    w = World(manual(route_list="* 127.0.0.1", self_=word, more="false"), accept("b"))
    answer = w.route("u@e")
    assert (answer.router, answer.status.code if answer.status else 0) == (router, code)
    assert answer.frozen == (word == "freeze")


@pytest.mark.parametrize(("word", "code"), [("freeze", 451), ("fail", 550), ("send", 0)])
def test_self_while_verifying(word: str, code: int) -> None:
    """What could only be frozen or refused later does not verify now."""
    w = World(manual(route_list="* 127.0.0.1", self_=word, more="false"))
    answer = w.verify("u@e")
    assert (answer.status.code if answer.status else 0) == code


def test_hosts_while_verifying() -> None:
    """They are looked up, but none is needed, and a local transport has none."""
    assert World(manual(route_list="* nosuch.example")).verify("u@e").status is not None
    assert World(manual(route_list='* ""')).verify("u@e").status is None
    assert World(manual(route_list="* 127.0.0.1", transport="local")).verify("u@e").status is None


def test_self_reroute() -> None:
    w = World(manual(route_list="e 127.0.0.1", self_="reroute: f"), accept("b", domains="f"))
    assert w.route("u@e").addresses[0].address == "u@f"
    assert not w.route("u@e").addresses[0].renamed
    w = World(
        manual(route_list="e 127.0.0.1", self_="reroute: rewrite: f"), accept("b", domains="f")
    )
    assert w.route("u@E").addresses[0].renamed == (("e", "f"),)


def test_this_host_ends_the_list_when_it_is_not_the_first() -> None:
    w = World(manual(route_list="* 192.0.2.1:127.0.0.1:192.0.2.2"))
    assert [h.address for h in w.route("u@e").addresses[0].hosts] == ["192.0.2.1"]


def test_dns_trouble_defers_or_passes() -> None:
    async def trouble(name: str, *, ipv6: bool = True, hosts_file: bool = True) -> Any:
        raise TemporaryFailure(reason="SERVFAIL")

    for option, expected in (("false", 451), ("true", 0)):
        w = World(manual(route_list="* a", pass_on_timeout=option), accept("b"))
        w.resolver.addresses = trouble
        answer = w.route("u@e")
        assert (answer.status.code if answer.status else 0) == expected


@pytest.mark.parametrize(
    "settings",
    [{}, {"route_list": "* a", "route_data": "a"}, {"route_list": "* a", "self_": "maybe"},
     {"route_list": "* a", "host_find_failed": "x"}],
)  # fmt: skip
def test_bad_options(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        manual(**settings)


def test_references_are_checked() -> None:
    routers = [accept("a"), manual("m", route_list="* a", pass_router="a"), accept("b")]
    assert len(check(routers)) == 1
    assert not check([manual("m", route_list="* a", pass_router="b"), accept("b")])


def test_hosts_for_the_last_resort_and_silence() -> None:
    """fallback_hosts and disable_logging stay with the address."""
    w = World(accept("a", fallback_hosts="h1 : [192.0.2.1]::2525", disable_logging="true"))
    (found,) = w.route("u@e").addresses
    assert found.fallback_hosts == (Host("h1"), Host("192.0.2.1", "", 2525))
    assert found.quiet
    (found,) = World(accept("a", group="daemon", initgroups="true")).route("u@e").addresses
    assert (found.group, found.initgroups, found.quiet) == ("daemon", True, False)


def test_routers_that_are_not_asked_about() -> None:
    """address_test and expn take a router out of what only asks (3.12)."""
    w = World(accept("a", address_test="false"), accept("b", expn="false"), accept("c"))
    context = Context(w.routing.facilities, sender="")
    for asked, router in ((ADDRESS_TEST, "b"), (EXPN, "a"), ("", "a")):
        work = w.routing.decide(Recipient("u@e"), replace(context, asked=asked))
        done: list[Routed] = []
        Deferred.fromCoroutine(work).addCallback(done.append)
        assert routers_of(done[0]) == [router]

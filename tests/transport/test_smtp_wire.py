"""What options of the smtp transport change, seen from the next hop."""

from __future__ import annotations

from typing import Any

import pytest

from mailsrv.mail.routed import Host, Result
from mailsrv.transport.transports.smtp import Smtp
from tests.doubles.nexthop import HANG, NextHop
from tests.transport.helpers import Resolver, World, make, message, routed
from tests.transport.test_smtp_failures import EXTENSIONS, Authentication

A, B = Host("a.example", "192.0.2.1", 25), Host("b.example", "192.0.2.2", 25)
SIX = Host("six.example", "2001:db8::1", 25)


def deliver(
    *addresses: str, hosts: tuple[Host, ...] = (A,), extensions: tuple[str, ...] = EXTENSIONS,
    options: Any = None, **script: Any,
) -> tuple[list[Any], NextHop, World]:  # fmt: skip
    hop = NextHop(extensions=extensions, **script)
    w = World(make(Smtp, **(options or {})), hop=hop, authentication=Authentication())
    found = w.deliver(message(), *[routed(a, hosts=hosts) for a in addresses or ("a@e",)])
    return found, hop, w


def commands(hop: NextHop, connection: int = 0) -> list[str]:
    return [command.partition(" ")[0] for command in hop.connections[connection].commands]


def test_required_tls_counts_more_than_avoided() -> None:
    (outcome,), _, _ = deliver(options={"hosts_avoid_tls": "*", "hosts_require_tls": "192.0.2.1"})
    assert outcome.tls


def test_hosts_avoid_pipelining() -> None:
    _, hop, _ = deliver("a@e", "b@e", options={"hosts_avoid_pipelining": "*"})
    written = [each for each in hop.connections[0].writes if b"Subject" not in each]
    assert all(each.count(b"\r\n") == 1 for each in written)


@pytest.mark.parametrize(("tls", "connections"), [("*", 1), ("!*", 3)])
def test_hosts_nopass_tls(tls: str, connections: int) -> None:
    hop = NextHop(extensions=EXTENSIONS)
    w = World(make(Smtp, hosts_nopass_tls="*", hosts_avoid_tls=tls), hop=hop)
    for _ in range(3):
        assert w.results(message(), routed("a@e", hosts=(A,))) == [Result.DELIVERED]
    assert len(hop.connections) == connections


def test_serialize_hosts() -> None:
    hop = NextHop(final=HANG)
    w = World(make(Smtp, serialize_hosts="192.0.2.1"), hop=hop)
    for host in (A, A, B, B):
        w.start(message(id=f"1abcde-{len(hop.connections):06}-AB"), routed("a@e", hosts=(host,)))
    assert [c.target.address for c in hop.connections] == [A.address, B.address, B.address]
    hop.script.clear()
    for peer in hop.connections:
        peer.hanging = False
        peer.say(b"250 ok\r\n")
    assert [outcome.result for outcome in w.outcomes] == [Result.DELIVERED] * 4
    assert len(hop.connections) == 3  # the second for A went on the kept connection


@pytest.mark.parametrize(("addition", "size"), [("0", 22), ("1024", 1046), ("-1", None)])
def test_size_addition(addition: str, size: int | None) -> None:
    _, hop, _ = deliver(options={"size_addition": addition})
    (mail,) = [c for c in hop.connections[0].commands if c.startswith("MAIL")]
    assert mail.endswith(f" SIZE={size}") if size else "SIZE" not in mail


@pytest.mark.parametrize("ignore", ["true", "false"])
def test_lmtp_ignore_quota(ignore: str) -> None:
    hop = NextHop(lmtp=True, extensions=("IGNOREQUOTA",))
    w = World(make(Smtp, protocol="lmtp", lmtp_ignore_quota=ignore), hop=hop)
    assert w.results(message(), routed("a@e", hosts=(A,))) == [Result.DELIVERED]
    (rcpt,) = [c for c in hop.connections[0].commands if c.startswith("RCPT")]
    assert rcpt.endswith(" IGNOREQUOTA") == (ignore == "true")


@pytest.mark.parametrize(
    ("multi", "messages"), [("true", 1), ("false", 2), ("${if eq{$domain}{e}{yes}{no}}", 2)]
)
def test_multi_domain(multi: str, messages: int) -> None:
    found, hop, _ = deliver("a@e", "b@f", "c@e", options={"multi_domain": multi})
    assert len(hop.messages) == messages
    assert {outcome.result for outcome in found} == {Result.DELIVERED}


def test_helo_data() -> None:
    _, hop, _ = deliver(options={"helo_data": "me.$host.$host_address"})
    assert hop.connections[0].commands[0] == "EHLO me.a.example.192.0.2.1"


@pytest.mark.parametrize("bad", ["two words", "a\\r\\nMAIL FROM:<x@y>", ""])
def test_helo_data_that_is_no_word(bad: str) -> None:
    (outcome,), hop, w = deliver(options={"helo_data": bad})
    assert outcome.result is Result.DEFERRED and not hop.messages and not w.retry.failures


@pytest.mark.parametrize(("force", "sent"), [("true", True), ("false", False)])
def test_authenticated_sender_force(force: str, sent: bool) -> None:
    options = {"authenticated_sender": "x+y@e", "authenticated_sender_force": force}
    _, hop, _ = deliver(options=options)
    (mail,) = [c for c in hop.connections[0].commands if c.startswith("MAIL")]
    assert (" AUTH=x+2By@e" in mail) == sent


def test_hosts_override() -> None:
    resolver = Resolver(**{"other.example": ("192.0.2.9",)})
    hop = NextHop()
    w = World(make(Smtp, hosts="other.example", hosts_override="true"), hop=hop, resolver=resolver)
    assert w.results(message(), routed("a@e", hosts=(A,))) == [Result.DELIVERED]
    assert hop.connections[0].target.address == "192.0.2.9"


@pytest.mark.parametrize(("host", "local"), [(A, "192.0.2.77"), (SIX, "2001:db8::77")])
def test_interface_of_the_host_s_kind(host: Host, local: str) -> None:
    options = {"interface": "<; 192.0.2.77 ; 2001:db8::77"}
    _, hop, _ = deliver(hosts=(host,), options=options)
    assert hop.connections[0].target.interface == local


def test_hosts_randomize() -> None:
    first = set()
    for _ in range(60):
        _, hop, _ = deliver(hosts=(A, B), options={"hosts_randomize": "true"})
        first.add(hop.connections[0].target.address)
    assert first == {A.address, B.address}

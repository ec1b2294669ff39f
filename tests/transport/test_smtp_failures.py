"""A next hop that fails: each phase and kind of failure, with a second host behind it.

Whatever happens, each address has one outcome, and no message is delivered twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from mailsrv.mail.routed import Host, Outcome, Result
from mailsrv.transport.connection import HopFailure, HopProtocol, Target
from mailsrv.transport.transports.smtp import Smtp
from tests.doubles.nexthop import CLOSE, HANG, Answer, NextHop
from tests.transport.helpers import Resolver, World, make, message, routed

A, B = Host("a.example", "192.0.2.1", 25), Host("b.example", "192.0.2.2", 25)
EXTENSIONS = ("PIPELINING", "8BITMIME", "SIZE 10000000", "STARTTLS", "AUTH PLAIN LOGIN")


class Exchange:
    """Provides ``IClientExchange``: PLAIN, or LOGIN with two answers."""

    def __init__(self, mechanism: str) -> None:
        self.name = f"{mechanism.lower()}_client"
        self.mechanism = mechanism
        self._answers = [b"user", b"secret"]

    async def initial(self) -> bytes | None:
        return b"\0user\0secret" if self.mechanism == "PLAIN" else None

    ignore_invalid = False

    async def identity(self) -> str:
        return ""

    async def respond(self, challenge: bytes) -> bytes | None:
        return self._answers.pop(0) if self._answers else None


class Authentication:
    """Provides ``IClientAuthentication``."""

    def mechanisms(self) -> Sequence[str]:
        return ["plain_client", "login_client"]

    async def attempts(self, offered: Sequence[str], scope: Any) -> Sequence[Exchange]:
        return [Exchange(each) for each in ("PLAIN", "LOGIN") if each in offered]


class TwoHops(NextHop):
    """A next hop of which the first address follows the script, and the second is well."""

    def __init__(self, **script: Answer) -> None:
        super().__init__(extensions=EXTENSIONS, **script)
        self.well = NextHop(extensions=EXTENSIONS)

    async def connect(self, target: Target, protocol: HopProtocol, timeout: float) -> None:
        hop = self.well if target.address == B.address else super()
        await hop.connect(target, protocol, timeout)


def attempt(
    hosts: tuple[Host, ...] = (A, B), wait: float = 0.0, options: Any = None, **script: Answer
) -> tuple[Outcome, TwoHops]:
    hop = TwoHops(**script)
    transport = make(Smtp, hosts_try_auth="*", **(options or {}))
    w = World(transport, hop=hop, authentication=Authentication())
    w.start(message(), routed("a@e", hosts=hosts))
    w.clock.advance(wait)
    (outcome,) = w.outcomes
    return outcome, hop


PHASES = ["greeting", "hello", "starttls", "auth", "mail", "rcpt", "data", "final"]
NEVER_ELSEWHERE_5 = ("mail", "rcpt", "data", "final")


@pytest.mark.parametrize("phase", PHASES)
def test_a_temporary_refusal_leads_to_the_next_host(phase: str) -> None:
    outcome, hop = attempt(**{phase: b"450 not now\r\n"})
    assert outcome.result is Result.DELIVERED
    if phase != "starttls":  # that one goes on in clear
        assert outcome.host == B
        assert len(hop.well.messages) == 1


@pytest.mark.parametrize("phase", PHASES)
def test_a_permanent_refusal_of_the_message_bounces(phase: str) -> None:
    outcome, hop = attempt(**{phase: b"550 never\r\n"})
    if phase in NEVER_ELSEWHERE_5:
        assert outcome.result is Result.FAILED
        assert not hop.well.messages
    elif phase in ("greeting", "hello"):  # the host takes no mail at all; others may
        assert outcome.result is Result.DELIVERED and outcome.host == B
    else:  # without TLS, without a login
        assert outcome.result is Result.DELIVERED and outcome.host == A


@pytest.mark.parametrize("phase", ["greeting", "hello"])
@pytest.mark.parametrize(
    ("hosts", "refuse", "not_due", "result"),
    [
        ((A,), "", "", Result.FAILED),
        ((B, A), B.address, "", Result.FAILED),  # the last one's word counts, as in Exim
        ((A, B), B.address, "", Result.DEFERRED),
        ((A, B), "", B.address, Result.DEFERRED),  # that one may take it when its time comes
        ((B, A), "", B.address, Result.DEFERRED),
    ],
)
def test_a_host_that_wants_no_session(
    phase: str, hosts: tuple[Host, ...], refuse: str, not_due: str, result: Result
) -> None:
    hop = TwoHops(**{phase: b"554 no SMTP service here\r\n"})
    hop.well.refuse = {refuse: HopFailure("Connection refused", "refused")}
    w = World(make(Smtp), hop=hop)
    w.retry.not_due = {not_due}
    (outcome,) = w.deliver(message(), routed("a@e", hosts=hosts))
    assert outcome.result is result
    assert A not in [failure.host for failure in w.retry.failures]


LIES = {
    "closed": CLOSE, "code 999": b"999 x\r\n", "garbage": b"garbage\r\n", "endless": b"2" * 5000,
    "bare LF": b"250\n", "NUL": b"250 a\0b\r\n", "continuations": b"250-x\r\n" * 100_000,
    "code 150": b"150 x\r\n", "two codes": b"250-x\r\n450 y\r\n", "UTF-16": b"2\x005\x000\x00\r\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", LIES.values(), ids=LIES)
@pytest.mark.parametrize("phase", [*PHASES, "handshake"])
def test_a_lost_or_lying_host_leads_to_the_next(phase: str, kind: bytes | str) -> None:
    if phase == "handshake" and kind != CLOSE:
        return
    outcome, hop = attempt(**{phase: kind})
    assert outcome.result is Result.DELIVERED
    assert len(hop.well.messages) + (outcome.host == A) == 1


@pytest.mark.parametrize("phase", ["greeting", "hello", "mail", "rcpt", "data"])
def test_more_replies_than_commands_lead_to_the_next_host(phase: str) -> None:
    """They would answer what was not asked: a 250 before DATA is no consent to anything."""
    normal = (
        b"220 x\r\n" if phase == "greeting" else b"354 x\r\n" if phase == "data" else b"250 x\r\n"
    )
    outcome, hop = attempt(
        options={"hosts_avoid_pipelining": "*"}, **{phase: normal + b"250 y\r\n"}
    )
    assert outcome.result is Result.DELIVERED and outcome.host == B
    assert len(hop.well.messages) == 1 and not hop.messages


def test_a_greeting_in_drops_is_given_up() -> None:
    """The whole reply has its time, however it comes."""
    hop = TwoHops(greeting=HANG)
    w = World(make(Smtp), hop=hop)
    w.start(message(), routed("a@e", hosts=(A,)))
    for _ in range(40):
        hop.connections[0].say(b"2")
        w.clock.advance(10)
    assert [o.result for o in w.outcomes] == [Result.DEFERRED]
    assert hop.connections[0].aborted


@pytest.mark.parametrize("phase", [*PHASES, "handshake"])
def test_a_silent_host_leads_to_the_next(phase: str) -> None:
    outcome, hop = attempt(wait=600.0 if phase == "final" else 300.0, **{phase: HANG})
    assert outcome.result is Result.DELIVERED
    assert len(hop.well.messages) + (outcome.host == A) == 1


@pytest.mark.parametrize("error", ["refused", "timeout_connect"])
def test_no_connection(error: str) -> None:
    hop = TwoHops()
    hop.refuse[A.address] = HopFailure("no", error)
    w = World(make(Smtp), hop=hop)
    (outcome,) = w.deliver(message(), routed("a@e", hosts=(A, B)))
    assert outcome.result is Result.DELIVERED and outcome.host == B


@pytest.mark.parametrize("phase", ["rset", "quit"])
@pytest.mark.parametrize("kind", [CLOSE, HANG, b"500 x\r\n", b"garbage\r\n"])
def test_what_fails_after_the_outcome_changes_nothing(phase: str, kind: bytes | str) -> None:
    hop = NextHop(**{phase: kind})
    w = World(make(Smtp, connection_max_messages="1"), hop=hop)
    assert w.results(message(), routed("a@e", hosts=(A,))) == [Result.DELIVERED]


def test_tls_and_login_are_in_the_outcome() -> None:
    outcome, hop = attempt()
    assert outcome.tls == "TLS1.3:TLS_AES_256_GCM_SHA384:256"
    assert not outcome.tls_verified
    assert outcome.authenticator == "plain_client"
    commands = hop.connections[0].commands
    assert [c.split()[0] for c in commands][:5] == ["EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL"]


def test_login_asks_again_after_a_permanent_refusal() -> None:
    """The next authenticator is tried, each once only."""

    def answer(line: str) -> bytes:
        return b"535 no\r\n"

    outcome, hop = attempt(auth=answer, challenge=b"334 VXNlcm5hbWU6\r\n")
    logins = [c for c in hop.connections[0].commands if c.startswith("AUTH")]
    assert [c.split()[1] for c in logins] == ["PLAIN", "LOGIN"]
    assert outcome.result is Result.DELIVERED and not outcome.authenticator


@pytest.mark.parametrize("answer", [b"535 no\r\n", b"454 later\r\n"])
def test_required_login_defers(answer: bytes) -> None:
    outcome, hop = attempt((A,), options={"hosts_require_auth": "*"}, auth=answer)
    assert outcome.result is Result.DEFERRED and outcome.host_error
    assert outcome.error == "auth_failed"
    assert not hop.messages


def test_required_tls_is_not_given_up() -> None:
    for script in ({"starttls": b"454 no\r\n"}, {"starttls": b"502 no\r\n"}, {"handshake": CLOSE}):
        outcome, hop = attempt((A,), options={"hosts_require_tls": "*"}, **script)
        assert (outcome.result, outcome.error) == (Result.DEFERRED, "tls_required"), script
        assert not hop.messages
        assert not any(c.startswith("MAIL") for p in hop.connections for c in p.commands)


def test_failed_handshake_is_tried_again_in_clear() -> None:
    outcome, hop = attempt((A,), handshake=CLOSE)
    assert outcome.result is Result.DELIVERED and not outcome.tls
    assert len(hop.connections) == 2


def test_tls_tempfail_tryclear_off() -> None:
    for script in ({"starttls": b"454 no\r\n"}, {"handshake": CLOSE}):
        outcome, _ = attempt((A,), options={"tls_tempfail_tryclear": "false"}, **script)
        assert outcome.result is Result.DEFERRED, script


def test_replies_in_clear_behind_the_220_are_not_believed() -> None:
    """CVE-2011-0411 seen from the client: they would answer the EHLO within TLS."""
    outcome, hop = attempt(
        (A,),
        options={"hosts_require_tls": "*"},
        starttls=b"220 go\r\n250-hop\r\n250 AUTH PLAIN\r\n",
    )
    assert outcome.result is Result.DEFERRED
    assert "in clear after" in outcome.reason
    assert not any(c.startswith("AUTH") for c in hop.connections[0].commands)
    assert not hop.connections[0].secured


def test_chunking() -> None:
    hop = NextHop(extensions=("PIPELINING", "CHUNKING"))
    w = World(make(Smtp), hop=hop)
    (outcome,) = w.deliver(message(b".a\n.\r\nb"), routed("a@e", hosts=(A,)))
    assert outcome.result is Result.DELIVERED and outcome.chunking
    assert hop.messages[0].data.endswith(b"\r\n\r\n.a\r\n.\r\nb\r\n")
    assert not any(c == "DATA" for c in hop.connections[0].commands)


def test_chunk_refused_on_the_way() -> None:
    hop = NextHop(extensions=("CHUNKING",), chunk=b"452 full\r\n")
    w = World(make(Smtp), hop=hop)
    (outcome,) = w.deliver(message(b"x\r\n" * 100000), routed("a@e", hosts=(A,)))
    assert (outcome.result, outcome.error) == (Result.DEFERRED, "data_4xx")
    assert not hop.messages


def test_fallback_hosts_of_the_router_come_last() -> None:
    hop = TwoHops(greeting=b"421 no\r\n")
    w = World(make(Smtp, fallback_hosts="192.0.2.77"), hop=hop)
    (outcome,) = w.deliver(message(), routed("a@e", hosts=(A,), fallback_hosts=(B,)))
    assert outcome.result is Result.DELIVERED and outcome.host == B
    hop = TwoHops(greeting=b"421 no\r\n")
    w = World(make(Smtp), hop=hop, resolver=Resolver(**{B.name: (B.address,)}))
    unknown = (Host(B.name, "", B.port),)  # as a router has them: still to be looked up
    (outcome,) = w.deliver(message(), routed("a@e", hosts=(A,), fallback_hosts=unknown))
    assert outcome.result is Result.DELIVERED and outcome.host == B


def test_authenticated_sender() -> None:
    _, hop = attempt(options={"authenticated_sender": "a+b@e"})
    (mail,) = (c for c in hop.connections[0].commands if c.startswith("MAIL"))
    assert mail.endswith("AUTH=a+2Bb@e")
    assert hop.messages


def test_logins_of_two_senders_do_not_share_a_connection() -> None:
    hop = TwoHops()
    w = World(make(Smtp, hosts_try_auth="*"), hop=hop, authentication=Authentication())
    w.deliver(message(), routed("a@e", hosts=(A,)))
    w.deliver(message(), routed("b@e", hosts=(A,)))
    assert len(hop.connections) == 1
    w.deliver(message(sender="other@example.org"), routed("b@e", hosts=(A,)))
    assert len(hop.connections) == 2


@pytest.mark.parametrize("kind", [HANG, CLOSE])
def test_a_handshake_that_does_not_end_is_tried_again_in_clear(kind: str) -> None:
    outcome, hop = attempt(hosts=(A,), wait=301, handshake=kind)
    assert outcome.result is Result.DELIVERED and not outcome.tls
    assert len(hop.connections) == 2


def test_a_handshake_that_does_not_end_where_tls_must_be() -> None:
    options = {"hosts_require_tls": "*"}
    outcome, hop = attempt(hosts=(A,), wait=301, options=options, handshake=HANG)
    assert (outcome.result, outcome.error) == (Result.DEFERRED, "tls_required")
    assert len(hop.connections) == 1


@pytest.mark.parametrize("more", [b"250 more\r\n", b"25", b"421 too long\r\n"])
def test_what_follows_the_outcome_harms_no_further_message(more: bytes) -> None:
    hop = NextHop(final=b"250 ok\r\n" + more)
    w = World(make(Smtp), hop=hop)
    for _ in range(3):
        assert w.results(message(), routed("a@e", hosts=(A,))) == [Result.DELIVERED]
    assert len(hop.messages) == len(hop.connections) == 3
    assert not w.retry.failures


class Refusing:
    """A body during which the next hop says something."""

    inline = None

    def __init__(self, hop: NextHop, said: bytes) -> None:
        self.size = 200_000
        self._hop = hop
        self._said = said

    async def chunks(self) -> AsyncIterator[bytes]:
        for number in range(20):
            if number == 5:
                self._hop.connections[0].say(self._said)
                self._hop.connections[0].lose()
            yield (b"x" * 78 + b"\r\n") * 125


def test_a_message_that_is_refused_half_way_is_refused() -> None:
    hop = NextHop()
    w = World(make(Smtp, message_linelength_limit="0"), hop=hop)
    text = b"552 5.3.4 this is too much\r\n"
    (outcome,) = w.deliver(message(Refusing(hop, text)), routed("a@e", hosts=(A, B)))
    assert outcome.result is Result.FAILED
    assert "end of data: 552 5.3.4 this is too much" in outcome.reason
    assert not hop.messages and not w.retry.failures
    assert b"QUIT" not in hop.connections[0].raw


def test_a_hop_that_wants_a_message_for_nobody_gets_none() -> None:
    """Nor anything else that it might take for one."""
    hop = NextHop(rcpt=b"550 no\r\n", norcpt=b"354 go\r\n")
    w = World(make(Smtp), hop=hop)
    assert w.results(message(), routed("a@e", hosts=(A,))) == [Result.FAILED]
    assert hop.connections[0].raw.endswith(b"DATA\r\n") and not hop.connections[0].open


def test_a_message_is_not_taken_before_its_end() -> None:
    hop = NextHop()
    w = World(make(Smtp, message_linelength_limit="0"), hop=hop)
    text = b"250 so kind of you\r\n"
    (outcome,) = w.deliver(message(Refusing(hop, text)), routed("a@e", hosts=(A,)))
    assert outcome.result is Result.DEFERRED
    assert not hop.messages


def test_thousands_of_replies_in_one_piece() -> None:
    """Recipients without limit: as many replies as were pipelined are no flood."""

    class Rcpts(NextHop):
        async def connect(self, target: Target, protocol: HopProtocol, timeout: float) -> None:
            await super().connect(target, protocol, timeout)
            self.connections[-1].protocol = pieces = Pieces(protocol)  # type: ignore[assignment]
            self.connections[-1].write = pieces.through(self.connections[-1].write)  # type: ignore[method-assign]

    hop = Rcpts()
    w = World(make(Smtp, max_rcpt="0"), hop=hop)
    results = w.results(message(), *[routed(f"u{n}@e", hosts=(A,)) for n in range(5000)])
    assert results == [Result.DELIVERED] * 5000
    assert len(hop.messages) == 1


class Pieces:
    """What a next hop says to one write, joined."""

    def __init__(self, protocol: HopProtocol) -> None:
        self._protocol = protocol
        self._said = b""

    def dataReceived(self, data: bytes) -> None:
        self._said += data

    def through(self, write: Callable[[bytes], None]) -> Callable[[bytes], None]:
        def written(data: bytes) -> None:
            write(data)
            said, self._said = self._said, b""
            if said:
                self._protocol.dataReceived(said)

        return written

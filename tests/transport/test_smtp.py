"""The smtp transport: hosts in order, what is tried again elsewhere, and what is settled."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mailsrv.interfaces import Answer
from mailsrv.mail.routed import Host, Result
from mailsrv.mail.taint import Tainted
from mailsrv.transport.connection import HopFailure
from mailsrv.transport.dialogue import sent_address
from mailsrv.transport.transports.smtp import Smtp
from tests.doubles.nexthop import CLOSE, HANG, NextHop
from tests.transport.helpers import Resolver, World, make, message, routed

A, B = Host("a.example", "192.0.2.1", 25), Host("b.example", "192.0.2.2", 25)


def world(hop: NextHop | None = None, **options: str) -> World:
    return World(make(Smtp, **options), hop=hop or NextHop())


def test_several_recipients_in_one_transaction() -> None:
    w = world()
    outcomes = w.deliver(message(), routed("a@e", hosts=(A,)), routed("b@f", hosts=(A,)))
    assert [o.result for o in outcomes] == [Result.DELIVERED] * 2
    assert len(w.hop.messages) == 1
    assert outcomes[0].host == A
    assert outcomes[0].confirmation == "250 OK id=1"
    assert outcomes[0].pipelined and outcomes[0].remote
    assert outcomes[0].interface == "[192.0.2.99]:40000"


def test_size_is_what_was_written_and_time_is_one_host_s() -> None:
    """Dots of transparency, CRLF and the final dot count, as in Exim."""
    w = world(NextHop(final=HANG))
    run = w.start(message(b"Hello\r\n.dot\r\n"), routed("a@e", hosts=(A,)))
    w.clock.advance(3)
    w.hop.connections[0].hanging = False
    w.hop.connections[0].say(b"250 OK\r\n")
    assert run.called
    (outcome,) = w.outcomes
    sent = w.hop.connections[0].raw.partition(b"DATA\r\n")[2]
    assert (outcome.size, outcome.seconds) == (len(sent), 3)


def test_peer_s_answer_is_kept_for_the_report() -> None:
    w = world(NextHop(rcpt=b"550-5.1.1 no\r\n550 5.1.1 really not\r\n"))
    (outcome,) = w.deliver(message(), routed("a@e", hosts=(A,)))
    assert outcome.confirmation == "550-5.1.1 no\\n550 5.1.1 really not"
    assert outcome.reason.endswith(f"RCPT TO:<a@e>: {outcome.confirmation}")
    w = world(NextHop(greeting=b"554 go away\r\n"))
    (outcome,) = w.deliver(message(), routed("a@e", hosts=(A,)))
    assert outcome.confirmation == "554 go away"


def test_domains_apart_without_multi_domain() -> None:
    w = world(multi_domain="false")
    w.deliver(message(), routed("a@e", hosts=(A,)), routed("b@f", hosts=(A,)))
    assert len(w.hop.messages) == 2


def test_max_rcpt() -> None:
    w = world(max_rcpt="2")
    w.deliver(message(), *(routed(f"u{i}@e", hosts=(A,)) for i in range(5)))
    assert sorted(len(m.recipients) for m in w.hop.messages) == [1, 2, 2]


def test_next_host_when_the_first_cannot_be_reached() -> None:
    w = world()
    w.hop.refuse["192.0.2.1"] = HopFailure("Connection refused", "refused")
    (outcome,) = w.deliver(message(), routed("a@e", hosts=(A, B)))
    assert outcome.result is Result.DELIVERED
    assert outcome.host is not None and outcome.host.name == "b.example"
    assert [(f.host.name, f.error) for f in w.retry.failures] == [("a.example", "refused")]


def test_all_hosts_failing_is_a_host_error() -> None:
    w = world()
    for address in ("192.0.2.1", "192.0.2.2"):
        w.hop.refuse[address] = HopFailure("Connection timed out", "timeout_connect")
    (outcome,) = w.deliver(message(), routed("a@e", hosts=(A, B)))
    assert (outcome.result, outcome.error) == (Result.DEFERRED, "timeout_connect")
    assert outcome.host_error and len(w.retry.failures) == 2


def test_host_whose_time_has_not_come_is_not_tried() -> None:
    w = world()
    w.retry.not_due |= {"192.0.2.1", "192.0.2.2"}
    (outcome,) = w.deliver(message(), routed("a@e", hosts=(A, B)))
    assert outcome.result is Result.DEFERRED
    assert outcome.reason == "retry time not reached for any host for 'e'"
    assert not w.hop.connections


def test_replies_before_a_malformed_one_count() -> None:
    """Also if all come in one piece, as they may when the commands were pipelined."""

    def rcpt(recipient: str) -> bytes:
        return b"550 no\r\n451 later\r\ngarbage\r\n" if recipient == "c@e" else b""

    w = world(NextHop(rcpt=rcpt))
    outcomes = w.deliver(message(), *(routed(f"{n}@e", hosts=(A,)) for n in "abc"))
    found = {o.address.address: o for o in outcomes}
    assert found["a@e"].result is Result.FAILED
    assert (found["b@e"].result, found["b@e"].error) == (Result.DEFERRED, "rcpt_4xx")
    assert "malformed reply" in found["c@e"].reason


def test_only_what_was_deferred_goes_to_the_next_host() -> None:
    def rcpt(recipient: str) -> bytes:
        return b"450 later\r\n" if recipient == "a@e" else b"250 ok\r\n"

    w = world(NextHop(rcpt=rcpt))
    outcomes = w.deliver(message(), routed("a@e", hosts=(A, B)), routed("b@e", hosts=(A, B)))
    found = {o.address.address: o for o in outcomes}
    assert found["b@e"].result is Result.DELIVERED
    assert (found["a@e"].result, found["a@e"].error, found["a@e"].more_errno) == (
        Result.DEFERRED,
        "rcpt_4xx",
        "450",
    )
    assert not found["a@e"].host_error
    assert [c.target.address for c in w.hop.connections] == ["192.0.2.1", "192.0.2.2"]
    assert found["a@e"].reason == (
        "SMTP error from remote mail server after RCPT TO:<a@e>: 450 later"
    )


def test_hosts_max_try() -> None:
    hosts = tuple(Host(f"h{i}", f"192.0.2.{i}") for i in range(1, 9))
    w = world(hosts_max_try="2")
    for host in hosts:
        w.hop.refuse[host.address] = HopFailure("Connection refused", "refused")
    w.deliver(message(), routed("a@e", hosts=hosts))
    assert len(w.retry.failures) == 2


def test_expired_hosts_do_not_count() -> None:
    """30.5: all are tried before an address is given up, but for the hard limit."""
    hosts = tuple(Host(f"h{i}", f"192.0.2.{i}", 25) for i in range(1, 9))
    for hard, tried in (("50", 8), ("3", 3)):
        w = world(hosts_max_try="2", hosts_max_try_hardlimit=hard)
        w.retry.expired = True
        for host in hosts:
            w.hop.refuse[host.address] = HopFailure("Connection refused", "refused")
        (outcome,) = w.deliver(message(), routed("a@e", hosts=hosts))
        assert len(w.retry.failures) == tried
        assert outcome.hosts == hosts[:tried]


def test_further_mx_values_are_tried_beyond_the_limit() -> None:
    hosts = tuple(Host(f"h{i}", f"192.0.2.{i}", 25, preference=i // 4) for i in range(1, 9))
    w = world(hosts_max_try="2")
    for host in hosts:
        w.hop.refuse[host.address] = HopFailure("Connection refused", "refused")
    w.deliver(message(), routed("a@e", hosts=hosts))
    assert [failure.host.name for failure in w.retry.failures] == ["h1", "h2", "h4", "h8"]


def test_messages_on_one_connection() -> None:
    """Mixed answers, one message refused whole, then another: one connection, RSET between."""

    def rcpt(recipient: str) -> bytes:
        codes = {"no": b"550 no\r\n", "later": b"450 later\r\n"}
        return codes.get(recipient.partition("@")[0], b"250 ok\r\n")

    w = world(NextHop(rcpt=rcpt))
    many = [f"u{i}@e" for i in range(40)]
    for names, taken in (
        (["a@e", "no@e", "later@e", *many], 41),
        (["no@e", "later@e"], 0),
        (["b@e", "c@e"], 2),
    ):
        outcomes = w.deliver(message(), *(routed(name, hosts=(A,)) for name in names))
        found = {str(o.address.address): o.result for o in outcomes}
        assert [found[name] for name in names if name == "no@e"] in ([], [Result.FAILED])
        assert [found[name] for name in names if name == "later@e"] in ([], [Result.DEFERRED])
        assert list(found.values()).count(Result.DELIVERED) == taken
    (connection,) = w.hop.connections
    assert connection.commands.count("RSET") <= 1
    assert [len(each.recipients) for each in w.hop.messages] == [41, 2]


POINTS = ["greeting", "hello", "mail", "rcpt", "data", "final"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("answer", [b"450 no\r\n", CLOSE, b"999 x\r\n"])
def test_trouble_at_any_point(point: str, answer: bytes | str) -> None:
    w = world(NextHop(**{point: answer}))
    (outcome,) = w.deliver(message(), routed("a@e", hosts=(A,)))
    assert outcome.result is Result.DEFERRED
    if point == "rcpt" and answer == b"450 no\r\n":  # the recipient's
        assert not outcome.host_error and w.retry.failures == []
        return
    blamed = (answer != b"450 no\r\n" and point != "final") or point in ("greeting", "hello")
    (failure,) = w.retry.failures
    assert outcome.host_error and failure.message_only != blamed
    assert bool(w.retry.good) != blamed


@pytest.mark.parametrize("point", POINTS)
def test_hanging(point: str) -> None:
    """A timeout after MAIL, RCPT or the end of data is not held against the host (49.2)."""
    w = world(NextHop(**{point: HANG}))
    w.start(message(), routed("a@e", hosts=(A,)))
    limit = 600 if point == "final" else 300
    w.clock.advance(limit - 1)
    assert not w.outcomes
    w.clock.advance(1)
    assert w.outcomes[0].result is Result.DEFERRED
    blamed = [failure.message_only for failure in w.retry.failures]
    assert blamed == {"mail": [True], "rcpt": [], "final": [True]}.get(point, [False])
    assert not w.clock.getDelayedCalls()


def test_connection_max_messages() -> None:
    w = world(connection_max_messages="2")
    for _ in range(3):
        w.deliver(message(), routed("a@e", hosts=(A,)))
    assert len(w.hop.connections) == 2


def test_lmtp_over_tcp_has_port_24() -> None:
    w = world(NextHop(lmtp=True), protocol="lmtp")
    w.deliver(message(), routed("a@e", hosts=(Host("a.example", "192.0.2.1"),)))
    assert w.hop.connections[0].target.port == 24
    assert w.hop.connections[0].commands[0].startswith("LHLO")


def test_dots_and_odd_line_ends_leave_as_they_must() -> None:
    w = world()
    w.deliver(message(b".first\r\nx\n.\nMAIL FROM:<x@y>\r\n.\r\nend"), routed("a@e", hosts=(A,)))
    assert len(w.hop.messages) == 1
    assert w.hop.messages[0].data.endswith(
        b"\r\n\r\n.first\r\nx\r\n.\r\nMAIL FROM:<x@y>\r\n.\r\nend\r\n"
    )


def test_utf8_address_fails_where_smtputf8_is_not_offered() -> None:
    w = world()
    (outcome,) = w.deliver(message(smtputf8=True), routed("\xc3\xa9@e", hosts=(A,)))
    assert outcome.result is Result.FAILED
    assert outcome.status is not None and outcome.status.enhanced == "5.6.7"


def test_ascii_message_that_declared_smtputf8_goes_anywhere() -> None:
    w = world()
    assert w.results(message(smtputf8=True), routed("a@e", hosts=(A,))) == [Result.DELIVERED]


def test_address_that_would_inject_fails_and_the_others_go() -> None:
    w = world()
    outcomes = w.deliver(message(), routed("a b@e", hosts=(A,)), routed("ok@e", hosts=(A,)))
    assert {o.address.address: o.result for o in outcomes} == {
        "a b@e": Result.FAILED,
        "ok@e": Result.DELIVERED,
    }


def test_dsn_is_passed_on_but_not_at_the_last_hop() -> None:
    hop = NextHop(extensions=("PIPELINING", "DSN"))
    w = world(hop)
    mail = message(ret="HDRS", envid="abc")
    first = w.deliver(mail, routed("a@e", hosts=(A,)))
    second = w.deliver(mail, routed("a@e", hosts=(A,), dsn_lasthop=True))
    assert first[0].dsn_passed_on and not second[0].dsn_passed_on
    mails = [c for c in hop.connections[0].commands if c.startswith("MAIL")]
    assert ["ENVID=abc" in c for c in mails] == [True, False]


def test_message_size_limit_fails() -> None:
    w = world(message_size_limit="10")
    (outcome,) = w.deliver(message(), routed("a@e", hosts=(A,)))
    assert outcome.result is Result.FAILED
    assert outcome.reason == "message is too big (transport limit = 10)"


def test_headers_are_added_and_left_out() -> None:
    w = world(
        return_path_add="true",
        envelope_to_add="true",
        headers_add="X-One: $return_path\nX-Two: 2",
        headers_remove="x-secret* : to",
        return_path="bounce@example.org",
    )
    mail = message(b"x\r\n", "To: a", "X-Secret-Name: 1", "Subject: s\n folded")
    w.deliver(mail, routed("a@e", hosts=(A,), headers_add=["X-R: r"], headers_remove=["nope"]))
    assert w.hop.messages[0].sender == "bounce@example.org"
    assert w.hop.messages[0].data == (
        b"Return-path: <bounce@example.org>\r\nEnvelope-to: a@e\r\nSubject: s\r\n folded\r\n"
        b"X-R: r\r\nX-One: bounce@example.org\r\nX-Two: 2\r\n\r\nx\r\n"
    )


def test_headers_are_rewritten() -> None:
    """headers_rewrite concerns the message's own lines, not those that delivery adds."""
    w = world(headers_rewrite="*@in $1@out fr : a@out b@out f", headers_add="Reply-To: x@in")
    mail = message(b"x\r\n", "From: A B <a@in> (c)", "To: t@in", "Resent-From: q@in, r@q")
    w.deliver(mail, routed("a@e", hosts=(A,), headers_add=["From: y@in"]))
    assert w.hop.messages[0].data == (
        b"From: A B <b@out> (c)\r\nTo: t@in\r\nResent-From: q@out, r@q\r\n"
        b"From: y@in\r\nReply-To: x@in\r\n\r\nx\r\n"
    )


def test_domains_are_renamed_in_the_header() -> None:
    """What a router made of a domain stands in the header of that copy alone (17.5)."""
    w = world(max_rcpt="5")
    mail = message(b"x\r\n", "To: A <a@WIDE>, b@other", "Subject: a@wide")
    widened = routed("a@wide.example", hosts=(A,), renamed=(("wide", "wide.example"),))
    w.deliver(mail, widened, routed("b@other", hosts=(A,)))
    assert sorted(each.data for each in w.hop.messages) == [
        b"To: A <a@WIDE>, b@other\r\nSubject: a@wide\r\n\r\nx\r\n",
        b"To: A <a@wide.example>, b@other\r\nSubject: a@wide\r\n\r\nx\r\n",
    ]


@pytest.mark.parametrize("pieces", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize(("length", "fits"), [(998, True), (999, False), (5000, False)])
def test_longest_line(length: int, fits: bool, pieces: int) -> None:
    """message_linelength_limit: however the body comes in pieces; the line end does not count."""
    w = world()
    text = b"a\r\n" + b"x" * length + b"\r\nb\r\n"
    (outcome,) = w.deliver(message(Pieces(text, pieces)), routed("a@e", hosts=(A,)))
    assert outcome.result is (Result.DELIVERED if fits else Result.FAILED)
    if not fits:
        assert outcome.reason == "message has lines too long for transport"
        assert not w.hop.connections


def test_long_lines_may_be_allowed() -> None:
    for limit in ("0", "5000"):
        w = world(message_linelength_limit=limit)
        assert w.results(message(b"x" * 5000), routed("a@e", hosts=(A,))) == [Result.DELIVERED]


class Pieces:
    """A body in a file: it comes in pieces."""

    inline = None
    lines = 3

    def __init__(self, text: bytes, size: int) -> None:
        self.size = len(text)
        self._pieces = [text[i : i + size] for i in range(0, len(text), size)]

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def test_validated_hosts() -> None:
    """dnssec_require_domains: addresses that were not validated are as if not there."""

    class Validating(Resolver):
        async def query(self, name: str, rdtype: str) -> Answer:
            found = self.known[name] if rdtype == "A" else ()
            return Answer(found, authenticated=name == "good")

    resolver = Validating(good=("192.0.2.1",), bad=("192.0.2.2",))
    w = World(make(Smtp, hosts="bad : good", dnssec_require_domains="*"), resolver=resolver)
    w.deliver(message(), routed("a@e"))
    assert [c.target.address for c in w.hop.connections] == ["192.0.2.1"]
    w = World(make(Smtp, hosts="bad", dnssec_require_domains="*"), resolver=resolver)
    assert w.results(message(), routed("a@e")) == [Result.DEFERRED]


def test_host_is_taken_as_hosts_with_a_warning() -> None:
    transport = make(Smtp, host="192.0.2.9")
    assert transport.notes()
    w = World(transport)
    assert w.results(message(), routed("a@e")) == [Result.DELIVERED]
    assert w.hop.connections[0].target.address == "192.0.2.9"


def test_hosts_with_ports() -> None:
    w = world(hosts="[192.0.2.9]::2525 : 192.0.2.8")
    w.hop.refuse["192.0.2.9"] = HopFailure("Connection refused", "refused")
    w.deliver(message(), routed("a@e"))
    assert w.retry.failures[0].host.port == 2525
    assert w.hop.connections[0].target.address == "192.0.2.8"


@pytest.mark.parametrize("options", [{"protocol": "smtpx"}, {"protocol": "x"}])
def test_what_is_found_when_it_is_used(options: dict[str, str]) -> None:
    assert list(make(Smtp, **options).late())


def test_a_transport_that_cannot_be_used_defers() -> None:
    transport = make(Smtp)
    transport.unusable = "invalid protocol"
    (outcome,) = World(transport).deliver(message(), routed("a@e", hosts=(A,)))
    assert outcome.result is Result.DEFERRED
    assert outcome.reason == "invalid protocol"


def test_unseen_copy_and_twins_of_one_router() -> None:
    """One router's equal addresses are one delivery, two routers' are two (3.11, unseen)."""
    w = world(max_rcpt="1")
    addresses = [routed("a@e", router=name, hosts=(A,)) for name in ("archive", "main", "main")]
    assert w.results(message(), *addresses) == [Result.DELIVERED] * 3
    assert [m.recipients for m in w.hop.messages] == [["a@e"]] * 2


@pytest.mark.parametrize(
    ("address", "prefix", "suffix", "sent"),
    [
        ("Joe+Ext@e", "", "+Ext", "Joe@e"),
        ('"joe+ext"@e', "", "+ext", "joe@e"),
        ('"pre-joe"@e', "pre-", "", "joe@e"),
        ('"j\\oe+e"@e', "", "+e", "joe@e"),
        ('"j o\\"e+e"@e', "", "+e", '"j o\\"e"@e'),
        ('"a\\\\b+e"@e', "", "+e", '"a\\\\b"@e'),
        ('"joe."@e', "", ".", "joe@e"),
        ('"joe.+e"@e', "", "+e", '"joe."@e'),
        ('"+e"@e', "", "+e", '""@e'),
        ('"joe"@e', "", "", '"joe"@e'),
    ],
)
def test_affixes_of_a_quoted_local_part(address: str, prefix: str, suffix: str, sent: str) -> None:
    """Affixes are those of the text within the quotes; what is left is quoted if it must be."""
    named = sent_address(routed(address, prefix=prefix, suffix=suffix), include_affixes=False)
    assert named == sent
    assert isinstance(named, Tainted)

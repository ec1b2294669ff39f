"""transport_filter: messages go through a command on their way out."""

from __future__ import annotations

import pytest

from mailsrv.mail.routed import Host, Outcome, Result
from mailsrv.transport.transports.lmtp import Lmtp
from mailsrv.transport.transports.smtp import Smtp
from tests.doubles.nexthop import NextHop
from tests.transport.helpers import World, make, message, routed

A, B = Host("a.example", "192.0.2.1", 25), Host("b.example", "192.0.2.2", 25)


def send(command: str, body: bytes = b"Hello\r\n", **options: str) -> tuple[Outcome, NextHop]:
    transport = make(Smtp, transport_filter=command, **options)
    assert list(transport.late()) == []
    w = World(transport)
    (outcome,) = w.deliver(message(body), routed("a@e", hosts=(A,)))
    return outcome, w.hop


def test_what_the_command_writes_is_sent() -> None:
    """It reads lines that end in LF; what leaves has CRLF and its dots doubled."""
    outcome, hop = send(r"/bin/sed -e 's/^Hello/.one/' -e '\$a two'")
    assert outcome.result is Result.DELIVERED
    assert hop.messages[0].data == b"Subject: hi\r\n\r\n.one\r\ntwo\r\n"


def test_large_messages() -> None:
    outcome, hop = send("/bin/cat", b"x" * 900 + b"\r\n" + b"y\r\n" * 300_000)
    assert outcome.result is Result.DELIVERED
    assert hop.messages[0].data.endswith(b"y\r\ny\r\n") and len(hop.messages[0].data) > 900_000


def test_words_are_expanded_each() -> None:
    words = r"""'${if eq{$host}{a.example}{$host_address}}' ' b  c' "d\"e" """
    command = rf"/usr/bin/printf %s\\n {words}"
    outcome, hop = send(command)
    assert outcome.result is Result.DELIVERED, outcome.reason
    assert hop.messages[0].data == b'192.0.2.1\r\n b  c\r\nd"e\r\n'


def test_addresses_become_words() -> None:
    transport = make(Smtp, transport_filter="/bin/echo to $pipe_addresses")
    w = World(transport)
    w.deliver(message(), routed("a@e", hosts=(A,)), routed("b@e", hosts=(A,)))
    assert w.hop.messages[0].data == b"to a@e b@e\r\n"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/bin/false", "failed"),
        ("/nonexistent/x", "cannot be run"),
        ("sed p", "absolute"),
        ("/bin/echo $sender_address", "ainted"),
        ("/bin/echo ${nosuch}", "xpan"),
        ("/bin/sh -c 'kill -9 $$$$'", "failed"),
    ],
)
def test_what_fails_defers(command: str, why: str) -> None:
    transport = make(Smtp, transport_filter=command)
    w = World(transport)
    (outcome,) = w.deliver(message(), routed("a@e", hosts=(A,)))
    assert outcome.result is Result.DEFERRED and why in outcome.reason, outcome.reason
    assert not w.hop.messages


def test_a_command_that_does_not_end_is_killed() -> None:
    outcome, _ = send("/bin/sleep 60", transport_filter_timeout="1s")
    assert outcome.result is Result.DEFERRED and "timed out" in outcome.reason


def test_an_empty_command_filters_nothing() -> None:
    outcome, hop = send("'${if eq{1}{2}{/bin/false}}'")
    assert outcome.result is Result.DELIVERED
    assert hop.messages[0].data == b"Subject: hi\r\n\r\nHello\r\n"


def test_lmtp_too() -> None:
    w = World(make(Lmtp, socket="/x", transport_filter="/bin/echo x"), hop=NextHop(lmtp=True))
    w.deliver(message(), routed("a@e"))
    assert w.hop.messages[0].data == b"x\r\n"

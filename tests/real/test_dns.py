"""The resolver and the MX records of a real name server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from tests.real import machine
from tests.real.nameserver import NameServer
from tests.real.server import Server
from tests.real.sink import Sink

ZONE = f"""
@ IN MX 10 second
@ IN MX 10 first
first IN A 127.0.0.2
second IN A 127.0.0.3
implicit IN A 127.0.0.3
null IN MX 0 .
nowhere IN MX 10 gone
alias IN CNAME target
target IN MX 10 second
large IN TXT {" ".join('"' + "x" * 200 + '"' for _ in range(30))}
service IN SRV 1 2 25 second
_25._tcp.second IN TLSA 3 1 1 {"ab" * 32}
text IN TXT "one " "two"
six IN AAAA ::1
1.2.0.192.in-addr IN PTR first
"""

LOOKUPS = """
import json, sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from mailsrv.dns.resolver import Resolver

resolver = Resolver(reactor, [("127.0.0.1", int(sys.argv[1]))], retransmit=1, retries=1)

async def main():
    found = []
    for question in sys.argv[2:]:
        name, kind = question.split("/")
        try:
            answer = await resolver.query(name, kind)
            found.append([answer.exists, sorted(map(str, answer.records))])
        except Exception as error:
            found.append([str(error), []])
    print(json.dumps(found))

def end(result):
    reactor.stop()
    return result

Deferred.fromCoroutine(main()).addBoth(end)
reactor.run()
"""


@pytest.fixture
def names() -> Iterator[NameServer]:
    """The name server."""
    server = NameServer({"zone.example": ZONE})
    try:
        yield server.start()
    finally:
        server.close()


def ask(port: int, *questions: str) -> list[list[object]]:
    """Ask with our resolver, in a process of its own."""
    import json
    import sys

    path = f"import sys; sys.path.insert(0, {str(machine.CHECKOUT)!r})\n"
    done = machine.run([sys.executable, "-c", path + LOOKUPS, str(port), *questions])
    assert done.returncode == 0, done.stderr
    answer: list[list[object]] = json.loads(done.stdout)
    return answer


def test_all_types(names: NameServer) -> None:
    """Each type in its text form; names that do not exist, names without the type, TCP."""
    asked = ask(
        names.port, "zone.example/MX", "first.zone.example/A", "six.zone.example/AAAA",
        "alias.zone.example/MX", "text.zone.example/TXT", "service.zone.example/SRV",
        "_25._tcp.second.zone.example/TLSA", "1.2.0.192.in-addr.zone.example/PTR",
        "gone.zone.example/A", "text.zone.example/A", "large.zone.example/TXT",
        "elsewhere.test/A",
    )  # fmt: skip
    assert asked[:10] == [
        [True, ["10 first.zone.example", "10 second.zone.example"]],
        [True, ["127.0.0.2"]],
        [True, ["::1"]],
        [True, ["10 second.zone.example"]],
        [True, ["one two"]],
        [True, ["1 2 25 second.zone.example"]],
        [True, [f"3 1 1 {'ab' * 32}"]],
        [True, ["first.zone.example"]],
        [False, []],
        [True, []],
    ]
    assert asked[10] == [True, ["x" * 6000]]  # over TCP
    assert "REFUSED" in str(asked[11][0])  # not its zone


@pytest.fixture
def relay(names: NameServer) -> Iterator[Server]:
    """A mailsrv that asks the name server; of the hosts there, 127.0.0.3 takes mail."""
    port = machine.free_port()
    sink = Sink(("127.0.0.3", port))
    macros = {"T_DNS": names.option, "T_NEXT": str(port), "T_EXTRA": "", "T_TRANSPORT": ""}
    server = Server("mx.conf", macros)
    server.start()
    yield server
    server.close()
    sink.close()


def send(server: Server, *recipients: str) -> None:
    """Send a message."""
    with server.client(tls=False) as client:
        client.sendmail("me@far.example", list(recipients), "Subject: x\r\n\r\nhello\r\n")


def test_another_exchanger_when_one_does_not_answer(relay: Server) -> None:
    """All of 127.0.0.0/8 is this host, so only the best preference stays (self = send)."""
    send(relay, "u@zone.example")
    relay.wait_for_log("=> u@zone.example R=to_world T=remote_smtp H=second.zone.example")


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        ("null.zone.example", "an MX or SRV record indicated no SMTP service"),
        ("nowhere.zone.example", "all relevant MX records point to non-existent hosts"),
        ("gone.zone.example", "Unrouteable address"),
    ],
)
def test_domains_that_take_no_mail(relay: Server, domain: str, said: str) -> None:
    """They bounce at once, with the reason."""
    send(relay, f"u@{domain}")
    relay.wait_for_log(f"** u@{domain}")
    (line,) = [line for line in relay.log().split("\n") if "** u@" in line]
    assert line.endswith(f": {said}")


def test_a_dead_name_server_delays_only_what_needs_it(names: NameServer, relay: Server) -> None:
    """Mail for names is deferred, and goes when the name server is back; sessions do not wait."""
    names._process.kill()  # type: ignore[union-attr]
    send(relay, "u@implicit.zone.example")
    relay.wait_for_log("== u@implicit.zone.example")
    assert "host lookup did not complete" in relay.log()
    names.start()
    relay.wait_for_log("=> u@implicit.zone.example", timeout=30)


def test_a_lying_name_server(relay: Server) -> None:
    """Answers with other ids and other questions do not count."""
    lying = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    lying.bind(("127.0.0.1", 0))

    async def lie() -> None:
        loop = asyncio.get_running_loop()
        lying.setblocking(False)
        while True:
            data, peer = await loop.sock_recvfrom(lying, 4096)
            await loop.sock_sendto(lying, b"\0\0" + data[2:], peer)
            await loop.sock_sendto(lying, data[:2] + b"\x81\x80" + b"\xff" * 40, peer)

    import threading

    loop = asyncio.new_event_loop()
    threading.Thread(target=lambda: loop.run_until_complete(lie()), daemon=True).start()
    ((said, _),) = ask(lying.getsockname()[1], "zone.example/MX")
    assert "failed" in str(said)

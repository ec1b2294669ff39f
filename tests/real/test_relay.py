"""mailsrv relays to and from the real exim4 and postfix, by MX records of a real name server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.real import certificate, machine
from tests.real.eximserver import EximServer
from tests.real.nameserver import NameServer
from tests.real.postfix import Postfix, Receiving
from tests.real.server import Server

BODY = "Subject: gr\u00fc\u00dfe\r\n\r\n.dot\r\n8 bits: \u00e9\r\n".encode()
MAIL = ["BODY=8BITMIME", "SMTPUTF8", "RET=HDRS", "ENVID=QQ314159"]
RCPT = ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;orig@far.example"]


@dataclass
class Machines:
    """Who takes part."""

    server: Server
    exim: EximServer
    postfix: Postfix


@pytest.fixture
def machines() -> Iterator[Machines]:
    """mailsrv, which asks a name server; exim4 for exim.example, postfix for postfix.example."""
    port, one, other = machine.free_port(), machine.free_address(), machine.free_address()
    with ExitStack() as stack:
        names = NameServer(
            {
                "exim.example": f"@ IN MX 10 mx\nmx IN A {one}\n",
                "postfix.example": f"@ IN MX 10 mx\nmx IN A {other}\n",
            }
        )
        stack.callback(names.close)
        names.start()
        exim = EximServer({"name": "mx.exim.example"}, (one, port), "hosts = 127.0.0.0/8")
        stack.callback(exim.close)
        server = Server(
            "mx.conf",
            {
                "T_DNS": names.option,
                "T_NEXT": str(port),
                "T_EXTRA": "dsn_advertise_hosts = *",
                "T_TRANSPORT": "",
            },
        )
        stack.callback(server.close)
        made, key = certificate.make(exim.folder, "mx.postfix.example")
        receiving = Receiving(other, port, "postfix.example", str(made), str(key))
        postfix = Postfix(server.smtp_port, str(made), receiving)
        stack.callback(postfix.close)
        stack.callback(lambda: print(server.logged(), exim.log(), postfix.log()))
        postfix.start()
        server.start()
        yield Machines(server, exim, postfix)


def test_everything_that_the_envelope_says_arrives(machines: Machines) -> None:
    """TLS, BDAT, 8BITMIME, SMTPUTF8 and DSN; postfix's report comes back to exim by mailsrv."""
    with machines.server.client(tls=False) as client:
        assert client.mail("me@exim.example", MAIL)[0] == 250
        for local_part in ("pel\u00e9", "plain"):
            for domain in ("exim.example", "postfix.example"):
                client.command_encoding = "utf-8"
                assert client.rcpt(f"{local_part}@{domain}", RCPT)[0] == 250
        assert client.data(BODY)[0] == 250
    server, exim, postfix = machines.server, machines.exim, machines.postfix
    server.wait_for_log("Completed")
    lines = [line for line in server.log().split("\n") if "=> " in line or "-> " in line]
    assert len(lines) == 4, server.log()
    assert all(" X=TLS1." in line and " K " in line for line in lines), lines
    assert " <= me@exim.example H=(client.example) [127.0.0.1] P=utf8esmtp S=" in server.log()
    taken = next(line for line in exim.log().split("\n") if " <= me@exim.example" in line)
    assert " P=utf8esmtps " in taken and " K " in taken and " M8S=8 " in taken, taken
    queued = exim.queued()
    assert "-dsn_envid QQ314159" in queued and "-dsn_ret" in queued
    assert "rfc822;orig@far.example" in queued
    machine.wait_until(lambda: postfix.log().count("status=sent (") == 3, "postfix")
    machine.wait_until(lambda: exim.log().count(" <= <> ") >= 1, "the report of success", 30)
    assert "Original-Envelope-Id: QQ314159" in exim.queued()
    assert "Original-Recipient: rfc822;orig@far.example" in exim.queued()


def test_kept_connections(machines: Machines) -> None:
    """Postfix pipelines, and sends several messages over one connection; so do we to exim4."""
    for number in range(12):
        machines.postfix.send(
            "me@far.example", [f"u{number}@exim.example"], b"Subject: x\n\nhello\n"
        )
    machines.server.wait_for_log("Completed", count=12, timeout=40)
    assert machines.exim.log().count(" <= ") == 12
    assert machines.postfix.log().count(" conn_use=") > 2  # it kept connections

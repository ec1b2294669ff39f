"""What ACLs remember of the past is what all workers know."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from tests.real.chaos import workers_of
from tests.real.server import Server

StartServer = Callable[..., Server]


def asked(server: Server, local_part: str = "user") -> tuple[int, bytes]:
    """What a RCPT of a new session is answered."""
    with server.client(tls=False) as client:
        client.mail("a@client.example")
        return client.rcpt(f"{local_part}@example.org")


def test_a_limit_is_that_of_the_whole_server(start_server: StartServer) -> None:
    """Ten pass, whichever worker they meet; a worker's death does not change that."""
    server = start_server("rates.conf", T_WORKERS="2")
    server.wait_for_log("daemon started", count=2)
    first = [asked(server)[0] for _ in range(5)]
    os.kill(workers_of(server)[0], 9)
    server.wait_for_log("daemon started", count=3)
    replies = [asked(server) for _ in range(12)]
    codes = first + [code for code, _ in replies]
    assert codes == [250] * 10 + [550] * 7
    assert replies[-1][1].startswith(b"too fast: 17.0 / 1h")


def test_greylisting(start_server: StartServer) -> None:
    """The first attempt is put off, one that comes two seconds later is taken."""
    server = start_server("rates.conf", T_WORKERS="2")
    assert asked(server, "grey")[0] == 451
    assert asked(server, "grey")[0] == 451
    time.sleep(2.1)
    assert asked(server, "grey")[0] == 250

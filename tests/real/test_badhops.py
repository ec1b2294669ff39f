"""Next hops that fail in every phase and way: retried, bounced or another host, exactly once."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Callable, Iterator

import pytest

from tests.real.badhop import CELLS, GOOD, BadHops, Cell
from tests.real.server import Server


@pytest.fixture
def hops() -> Iterator[BadHops]:
    hops = BadHops()
    yield hops
    hops.close()


def expected(cell: Cell) -> str:
    """What becomes of a message: here (taken by the host itself), bounced, or not by this host.

    One that is unwanted goes to another host, or bounces if there is none.
    """
    if cell.phase == "quit" or (cell.phase, cell.kind) == ("final", "early"):
        return "here"
    if cell.phase in ("starttls", "auth") and cell.kind in ("5xx",):
        return "here"  # in clear, or without a login
    if cell.phase == "starttls" and cell.kind == "4xx":
        return "here"  # tls_tempfail_tryclear
    if cell.phase == "handshake":
        return "either"  # in clear: what the host says there is no failure
    if cell.phase == "body" and cell.kind in ("5xx", "early", "4xx"):
        return "either"  # it may be taken for the final reply, or come too early
    if cell.kind == "5xx" and cell.phase in ("greeting", "ehlo"):
        return "unwanted"
    if cell.kind == "5xx":
        return "bounced"
    return "elsewhere"


def mark(cell: Cell, more: str) -> str:
    return f"{cell.phase}/{cell.kind.replace(' ', '')}/{more}"


def domain(cell: Cell, more: str) -> str:
    return f"c{cell.address.replace('127.0.', '').replace('.', '-')}.{more}.example"


def test_all(start_server: Callable[..., Server], hops: BadHops) -> None:
    server = start_server("badhops.conf", T_HOP=str(hops.port))
    messages = [(cell, more) for more in ("one", "two") for cell in CELLS]
    with smtplib.SMTP("127.0.0.1", server.smtp_port, timeout=60) as client:
        for number, (cell, more) in enumerate(messages):
            text = f"Subject: x\r\nX-Mark: {mark(cell, more)}\r\n\r\ntext\r\n"
            client.sendmail(f"s{number}@sender.example", [f"u@{domain(cell, more)}"], text)
    wrong = {}
    end = time.monotonic() + 30
    while time.monotonic() < end:
        log = server.log()
        found = {
            (cell, more): judge(hops, log, number, cell, more)
            for number, (cell, more) in enumerate(messages)
        }
        wrong = {mark(*key): value for key, value in found.items() if value not in wanted(*key)}
        if not wrong:
            break
        time.sleep(0.3)
    assert not wrong, str(wrong)
    time.sleep(0.5)
    assert max(hops.taken.values()) == 1  # each acknowledgement is one
    assert max(hops.reported.values()) == 1
    for cell, more in messages:
        assert hops.taken[cell.address, mark(cell, more)] + hops.taken[GOOD, mark(cell, more)] <= 1
    panic = server.folder / "log" / "paniclog"
    assert not panic.exists() or panic.read_text() == ""
    assert "Traceback" not in (server.folder / "output").read_text()


def wanted(cell: Cell, more: str) -> set[str]:
    """What is right for a message with one host, or with a good second one."""
    answer = expected(cell)
    other = "deferred" if more == "one" else "elsewhere"
    if answer == "unwanted":
        return {"bounced" if more == "one" else other}
    if answer == "elsewhere":
        return {other}
    return {"here", "bounced", other} if answer == "either" else {answer}


def judge(hops: BadHops, log: str, number: int, cell: Cell, more: str) -> str:
    if hops.taken[cell.address, mark(cell, more)]:
        return "here"
    if hops.taken[GOOD, mark(cell, more)]:
        return "elsewhere"
    if hops.reported[f"s{number}@sender.example"]:
        return "bounced"
    return "deferred" if f" == u@{domain(cell, more)} " in log else "nothing"

"""Kill -9 of a worker, the supervisor, all of them: a few times here (see chaos.py for more)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.real.chaos import START, VICTIMS, ChaoticSink, run
from tests.real.server import Server

KILLS = {"worker": 6, "supervisor": 3, "all": 3}


@pytest.fixture
def sink() -> Iterator[ChaoticSink]:
    sink = ChaoticSink()
    yield sink
    sink.close()


@pytest.mark.parametrize("victims", VICTIMS)
def test_nothing_is_lost(
    start_server: Callable[..., Server], sink: ChaoticSink, victims: str
) -> None:
    """Of what a connection carried, one message at most comes twice; connections are greeted."""
    server = start_server("workers.conf", T_LMTP=sink.socket, T_WORKERS="2")
    server.wait_for_log("daemon started", count=2)
    kills = KILLS[victims]
    figures = run(server, sink, victims, kills)
    assert figures.answered > 5 * kills, "too little load for a meaning"
    assert not figures.lost, server.logged()[-5000:]
    assert figures.most_twice <= 1
    assert figures.slowest < START  # both may be dead: then it takes as long as a start
    if victims == "worker":
        assert "killed by signal 9 (SIGKILL)" in server.log("panic")

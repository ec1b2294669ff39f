"""Lookups at real database servers, as the real exim4 answers them (specification 9.21 to 9.27)."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.tree import drive
from mailsrv.lookup import registry
from tests.real import machine
from tests.real.databases import PASSWORD, Database, MariaDb, PostgreSql, Redis
from tests.real.expanded import by_exim, by_mailsrv

HERE = Path(__file__).parent / "queries"

# Beginnings of the cases that mailsrv answers differently, and why: each is one, and must differ.
_AGAIN = "exim4 uses a connection again, whatever the password"
_NUL = "exim4's line ends at a NUL; the value alone does here"
KNOWN = {
    "pgsql": {"${lookup pgsql,servers=SERVER/mail/exim/wrong{select 7}}": _AGAIN},
    "mysql": {
        "${lookup mysql,servers=SERVER/mail/exim/wrong{select 7}}": _AGAIN,
        "${lookup mysql{select id,raw from users": _NUL,
        "${lookup mysql{select x'41004243', 1}": _NUL,
    },
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder."""
    made = machine.folder("queries")
    yield made
    shutil.rmtree(made, ignore_errors=True)


def _same(exim: str, ours: str) -> bool:
    """Both fail, in whatever words, or both say the same."""
    return exim == ours or (exim.startswith("Failed") and ours.startswith("Failed"))


@pytest.mark.parametrize(("name", "kind"), [("pgsql", PostgreSql), ("mysql", MariaDb)])
def test_sql(folder: Path, name: str, kind: type[Database]) -> None:
    """Each answer is exim4's, failures in whatever words."""
    database = kind()
    try:
        server = f"{database.host}::{database.port}"
        text = (HERE / f"{name}.txt").read_text("utf-8").replace("SERVER", server)
        text = text.replace("SOCKET", str(database.socket)).replace("PASSWORD", PASSWORD)
        cases = text.encode().splitlines()
        (folder / "conf").write_text(
            f"primary_hostname = mail.example.test\n"
            f"hide {name}_servers = {server}/mail/exim/{PASSWORD}\n"
        )
        exim = by_exim(folder, cases)
        ours = by_mailsrv(folder / "conf", cases)
    finally:
        database.close()
    different, known = [], []
    for case, theirs, mine in zip(cases, exim, ours, strict=True):
        short = case.decode().replace(server, "SERVER")
        if not _same(theirs, mine):
            reasons = [one for one in KNOWN[name] if short.startswith(one)]
            known += reasons
            if not reasons:
                different.append(f"{short}\n   exim4   {theirs!r}\n   mailsrv {mine!r}")
    assert different == [], "\n".join(different)
    assert sorted(known) == sorted(KNOWN[name]), "each known difference is one case"


# What a query finds, in order; None: it fails.
REDIS: tuple[tuple[str, str | None], ...] = (
    ("get keyname", "none"),
    ("set keyname ${quote_redis:objvalue plus}", "<OK>"),
    ("get keyname", "<objvalue plus>"),
    ("set ${quote_redis:a b\\\\c\td} ${quote_redis:}x", "<OK>"),
    ("get ${quote_redis:a b\\\\c\td}", "<x>"),
    ("  SET   other    é  ", "<OK>"),
    ("get other", "<Ã©>"),
    ("set number 41", "<OK>"),
    ("incr number", "<42>"),
    ("exists number", "<1>"),
    ("exists nosuch", "<0>"),
    ("mget keyname nosuch number", "<objvalue plus\n42>"),
    ("rpush list a b c", "<3>"),
    ("lrange list 0 -1", "<a\nb\nc>"),
    ("lrange nolist 0 -1", "none"),
    ("hset hash f 1 g 2", "<2>"),
    ("hgetall hash", "<f\n1\ng\n2>"),
    ("hget hash nosuch", "none"),
    ("get list", None),
    ("nosuch command", None),
    ("get", None),
    ("", None),
)


def _finder(database: Database, kind: str, **options: str) -> Callable[[str], str | None]:
    """Return what runs a query in this process."""
    name = f"{kind}_servers"
    last = PASSWORD if kind == "redis" else f"exim/{PASSWORD}"
    place = "0" if kind == "redis" else "mail"
    settings = {name: f"{database.host}::{database.port}/{place}/{last}"} | options
    lookup = registry(settings=SimpleNamespace(**settings))(kind)
    assert lookup is not None
    return lambda query: drive(lookup.find("", query))


def test_redis(folder: Path) -> None:
    """Commands, quoting, lists, errors; another database, the socket, a wrong password."""
    database = Redis()
    try:
        server = f"{database.host}::{database.port}"
        (folder / "conf").write_text(f"redis_servers = {server}/0/{PASSWORD}\n")
        lookup = "${lookup redis%s{%s}{<$value>}{none}}"
        cases = [(lookup % ("", query), said) for query, said in REDIS]
        for servers, said in (
            (f"{server}/0/{PASSWORD}", "<42>"),
            (f"{server}/1/{PASSWORD}", "none"),
            (f"{server}//{PASSWORD}", "<42>"),
            (f"({database.socket})/0/{PASSWORD}", "<42>"),
            (f"{server}", "<42>"),
            (f"127.0.0.1::1/0/x:{server}/0/{PASSWORD}", "<42>"),
            (f"{server}/0/wrong:{server}/0/{PASSWORD}", "<42>"),
            (f"{server}/0/wrong", None),
            (f"{server}/0/", None),
            (f"{server}/99/{PASSWORD}", None),
            (f"{server}/x/{PASSWORD}", None),
            (f"{server}/0", None),
            ("nosuch", None),
        ):
            cases.append((lookup % (f",servers={servers}", "get number"), said))
        found = by_mailsrv(folder / "conf", [query.encode() for query, _ in cases])
        for (query, said), text in zip(cases, found, strict=True):
            assert text == said or (said is None and text.startswith("Failed: ")), (query, text)
        assert not any(PASSWORD in text for text in found)
    finally:
        database.close()


@pytest.mark.parametrize(("name", "kind", "ask", "wait"), [
    ("pgsql", PostgreSql, "select 1", "select pg_sleep(30)"),
    ("mysql", MariaDb, "select 1", "select sleep(30)"),
    ("redis", Redis, "echo 1", "blpop nosuch 30"),
])  # fmt: skip
def test_faults(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: type[Database], ask: str, wait: str
) -> None:
    """A server that is away, comes back, or does not answer in time: a deferral each time."""
    monkeypatch.setattr(f"mailsrv.lookup.{name}.TIMEOUT", 0.5)
    database = kind()
    try:
        find = _finder(database, name)
        assert find(ask) == "1"
        begun = time.monotonic()
        with pytest.raises(TemporaryFailure, match="query failed"):
            find(wait)
        assert time.monotonic() - begun < 10
        database.stop()
        with pytest.raises(TemporaryFailure, match="connection failed"):
            find(ask)
        begun = time.monotonic()
        silent = socket.create_server((database.host, database.port))
        with silent, pytest.raises(TemporaryFailure, match="connection failed"):
            find(ask)
        assert time.monotonic() - begun < 10
        database.start()
        assert find(ask) == "1"
    finally:
        database.close()

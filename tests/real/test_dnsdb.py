"""``dnsdb`` lookups and lists of MX hosts at a real name server, as exim4 answers them (9.10)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real import machine
from tests.real.expanded import by_exim, by_mailsrv
from tests.real.nameserver import NameServer

QUERIES = Path(__file__).parent / "queries" / "dnsdb.txt"

# Cases that mailsrv answers differently, and why: each must differ.
_PARENTS = "all parents are asked for CSA records, as specified; exim4 finds none of them"
KNOWN = {
    "csa=child.assert.zone.example": _PARENTS,
    "csa=a.b.c.assert.zone.example": _PARENTS,
    "csa=child.yes.zone.example": _PARENTS,
    "csa=nosuch.zone.example": _PARENTS,
    "csa=192.0.2.1": _PARENTS,
    "csa=[192.0.2.1]": _PARENTS,
}

ZONE = f"""
_client._smtp IN SRV 1 2 1 two
@ IN MX 10 second
@ IN MX 5 First
@ IN NS Other.example.
one IN A 192.0.2.1
two IN A 192.0.2.2
two IN A 192.0.2.3
six IN AAAA 2001:db8::1
both IN A 192.0.2.4
both IN AAAA 2001:db8::4
alias IN CNAME one
alias2 IN CNAME zone.example.
null IN MX 0 .
text IN TXT "hello world"
texts IN TXT "first " "second" "third"
texts IN TXT "alone"
long IN TXT "{"x" * 255}" "{"y" * 255}"
empty IN TXT ""
odd IN TXT "a \\"quoted\\" \\\\ b\\000c\\255"
spf IN TXT "v=spf1 mx " "-all"
spf IN TXT "something else"
spf2 IN TXT "v=spf1 a " "~all"
spf2 IN TXT "V=SPF1 other"
realspf IN SPF "v=spf1 real"
_imap._tcp IN SRV 1 2 143 Imap
_imap._tcp IN SRV 5 6 993 imaps.example.net.
_25._tcp.one IN TLSA 3 1 1 {"aB" * 32}
_client._smtp.yes IN SRV 1 2 0 one
_client._smtp.no IN SRV 1 1 0 one
_client._smtp.unknown IN SRV 1 3 0 one
_client._smtp.odd IN SRV 1 9 0 one
_client._smtp.version2 IN SRV 2 2 0 one
_client._smtp.assert IN SRV 1 2 1 one
under_score IN A 192.0.2.5
under_score IN TXT "under"
under_score IN MX 1 one
-odd- IN A 192.0.2.6
here IN MX 10 local
here IN MX 20 one
later IN MX 10 one
later IN MX 20 local
local IN A 127.0.0.1
loop IN A 127.0.0.1
"""
REVERSE = """
1 IN PTR One.zone.example.
2 IN PTR two.zone.example.
2 IN PTR also-two.zone.example.
"""
REVERSE6 = f"1{'.0' * 23} IN PTR six.zone.example.\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder."""
    made = machine.folder("dnsdb")
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_dnsdb(folder: Path) -> None:
    """Each answer is exim4's, failures in whatever words."""
    zones = {
        "zone.example": ZONE,
        "2.0.192.in-addr.arpa": REVERSE,
        "8.b.d.0.1.0.0.2.ip6.arpa": REVERSE6,
    }
    server = NameServer(zones, machine.free_address(), 53)
    cases = QUERIES.read_bytes().splitlines()
    (folder / "conf").write_text("primary_hostname = mail.example.test\n")
    (folder / "ours").write_text(
        f"primary_hostname = mail.example.test\ndns_servers = {server.option}\n"
    )
    try:
        server.start()
        exim = by_exim(folder, cases, server.address)
        ours = by_mailsrv(folder / "ours", cases)
    finally:
        server.close()
    different, known = [], []
    for case, theirs, mine in zip(cases, exim, ours, strict=True):
        if theirs != mine and not theirs[:6] == mine[:6] == "Failed":
            reasons = [one for one in KNOWN if f"{{{one}}}" in case.decode()]
            known += reasons
            if not reasons:
                row = f"{case.decode()}\n   exim4   {theirs!r}\n   mailsrv {mine!r}"
                different.append(row)
    assert different == [], "\n".join(different)
    assert sorted(known) == sorted(KNOWN), "each known difference is one case"

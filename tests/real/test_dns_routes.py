"""Where the DNS leads: mailsrv and the real exim4 ask the same name server, and print the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.real import machine, sandbox
from tests.real.nameserver import NameServer

ZONES = {
    "zone.example": "\n".join(
        [
            "@ IN MX 10 a",
            "@ IN MX 20 b",
            "a IN A 192.0.2.1",
            "b IN A 192.0.2.2",
            "b IN AAAA 2001:db8::2",
            "implicit IN A 192.0.2.3",
            "null IN MX 0 .",
            "nowhere IN MX 10 gone",
            "partly IN MX 5 gone",
            "partly IN MX 10 a",
            "text IN TXT nothing",
            "toip IN MX 10 192.0.2.9.",
            "toip2 IN MX 10 192.0.2.9.",
            "toip2 IN MX 20 a",
            "nulltwo IN MX 0 .",
            "nulltwo IN MX 10 a",
            "twice IN MX 10 a",
            "twice IN MX 20 a",
            "sick IN MX 10 x.unserved.test.",
            "sick IN MX 20 a",
            "allsick IN MX 10 x.unserved.test.",
            "allsick IN MX 20 gone",
            "alias IN CNAME target",
            "target IN MX 10 a",
            "mxalias IN MX 10 hostalias",
            "hostalias IN CNAME a",
            "away IN CNAME there.elsewhere.example.",
            "loop IN CNAME loop2",
            "loop2 IN CNAME loop",
            "me IN A 127.0.0.1",
            "zero IN A 0.0.0.0",
            "self IN MX 10 me",
            "zeroself IN MX 10 zero",
            "second IN MX 10 a",
            "second IN MX 20 me",
            "second IN MX 20 b",
            "second IN MX 30 b",
            "between IN MX 5 gone",
            "between IN MX 10 me",
            "between IN MX 20 a",
            "ignored IN MX 10 bad",
            "ignored IN MX 20 a",
            "allignored IN MX 10 bad",
            "bad IN A 203.0.113.1",
            "six IN MX 10 onlysix",
            "onlysix IN AAAA 2001:db8::6",
            "srv IN TXT x",
            "_smtp._tcp.srv IN SRV 10 5 2525 a",
            "_smtp._tcp.srv IN SRV 20 5 2526 b",
            "_smtp._tcp.nosrv IN SRV 0 0 0 .",
            "nosrv IN MX 10 a",
            *(f"many IN MX {10 + n} h{n}" for n in range(1000)),
            *(f"h{n} IN A 192.0.2.{n % 200 + 10}" for n in range(1000)),
        ]
    ),
    "elsewhere.example": "there IN MX 10 host\nhost IN A 192.0.2.77\n",
    "wide.example": "",
    "here.wide.example": "@ IN MX 10 me.zone.example.",
    "short.wide.example": "@ IN MX 10 host\nhost IN A 192.0.2.88\n",
}
MOST = 100
NAMES = [
    "implicit", "null", "nowhere", "partly", "text", "toip", "alias", "mxalias", "away", "loop",
    "self", "zeroself", "second", "between", "ignored", "allignored", "six", "srv", "nosrv", "gone",
    "toip2", "nulltwo", "twice", "sick", "allsick", "me",
]  # fmt: skip
HEAD = """\
exim_path = {program}
primary_hostname = relay.example
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
exim_user = {user}
exim_group = {user}
keep_environment =
dns_retrans = 1s
dns_retry = 1
{main}
begin routers
dns:
  driver = dnslookup
  transport = smtp
  {router}
  no_more
begin transports
smtp:
  driver = smtp
"""
# What each configuration is, in main options and the router's; what is asked beside NAMES.
CASES: dict[str, tuple[str, str, list[str]]] = {
    "plain": ("", "", ["u@short", "u@here", "u@nothere"]),
    "no qualifying": ("", "qualify_single = false", ["u@short"]),
    "search_parents": ("", "search_parents", ["u@short", "u@zone"]),
    "self = send": ("", "self = send", []),
    "self = fail": ("", "self = fail", []),
    "self = pass": ("", "self = pass", []),
    "self = defer": ("", "self = defer", []),
    "self = reroute": ("", "self = reroute: zone.example", []),
    "fail_defer_domains": ("", "fail_defer_domains = *", []),
    "check_secondary_mx": ("", "check_secondary_mx", []),
    "mx_domains": ("", "mx_domains = *.zone.example", []),
    "ignore_target_hosts": ("", "ignore_target_hosts = 203.0.113.0/24 : 127.0.0.0/8", []),
    "check_srv": ("", "check_srv = smtp", []),
    "widen": ("", "widen_domains = wide.example\n  rewrite_headers = false", ["u@short", "u@here"]),
    "ipv4_only": ("", "ipv4_only = 1", []),
    "no IPv6": ("disable_ipv6", "", []),
    "again means nonexist": ("dns_again_means_nonexist = *", "", ["u@unserved.test"]),
    "again": ("", "", ["u@unserved.test"]),
}


# Where they differ on purpose: a loop of CNAMEs is one failure among others here.
EXCEPT = {"again means nonexist": ("loop",)}


class Both:
    """The two programs, in a sandbox whose resolver asks our name server."""

    def __init__(self) -> None:
        self.folder = machine.folder("routes")
        self.names = NameServer(ZONES, machine.free_address(), 53)
        self.names.start()
        self._program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
        self._box = sandbox.Sandbox(self.folder, {"Debian-exim": 64901}, None)
        (self._box.etc / "resolv.conf").write_text(
            f"nameserver {self.names.address}\nsearch wide.example example\n"
        )
        (self._box.etc / "exim4").mkdir()
        shutil.chown(self.folder, 64901, 64901)

    def close(self) -> None:
        self.names.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, name: str, main: str, router: str, addresses: list[str]) -> tuple[str, str]:
        """Return what exim4 and mailsrv print for ``-bt``."""
        path = self.folder / f"{re.sub('[^a-z]', '', name.lower())}.conf"
        path.write_text(
            HEAD.format(program=self._program, folder=self.folder, user="Debian-exim",
                        main=main, router=router)
        )  # fmt: skip
        with (self._box.etc / "exim4" / "trusted_configs").open("a") as file:
            file.write(f"{path}\n")
        mailsrv = ["env", f"PYTHONPATH={machine.CHECKOUT}", sys.executable, "-m", "mailsrv"]
        programs = [[*program, "-C", path, "-bt", *addresses]
                    for program in ([self._program], mailsrv)]  # fmt: skip
        running = [
            subprocess.Popen(
                self._box.command(program),
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ),
            )
            for program in programs
        ]  # fmt: skip
        exim, ours = (each.communicate(timeout=60)[0].decode() for each in running)
        return exim, ours


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    machine.need_root("a name server on port 53, and exim4")
    both = Both()
    yield both
    both.close()


def answers(text: str) -> dict[str, list[str]]:
    """Divide what either printed by address: the line that begins with it and those below.

    Hosts of equal preference are in random order, and mailsrv names hosts in lower case.
    """
    found: dict[str, list[str]] = {}
    hosts: list[str] = []
    for line in text.replace("hostalias.", "a.").split("\n"):
        if line.startswith("  host "):
            hosts.append(re.sub("  +", " ", line.lower()).rstrip())
        elif line.startswith("u@"):
            hosts = found.setdefault(line.split()[0], [line])
        elif line:
            hosts.append(line)
    for lines in found.values():
        lines.sort(key=lambda line: int(mx[1]) if (mx := re.search(r" mx=(\d+)", line)) else -1)
        if not any(" mx=" in line for line in lines):
            lines.sort()
    return found


@pytest.mark.parametrize("name", CASES)
def test_both_agree(both: Both, name: str) -> None:
    """About outcomes, hosts, addresses and ports."""
    main, router, more = CASES[name]
    asked = [f"u@{each}.zone.example" for each in NAMES if each not in EXCEPT.get(name, ())]
    asked += ["u@zone.example", *more]
    if name == "plain":
        asked.append("u@many.zone.example")
    exim, ours = (answers(text) for text in both.ask(name, main, router, asked))
    assert len(exim) > 20
    if name == "plain":  # of many hosts mailsrv has the best hundred
        many = "u@many.zone.example"
        exim[many] = exim[many][: MOST + 2]
    assert ours == exim

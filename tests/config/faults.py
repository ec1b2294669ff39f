"""Faults of which Exim tells the first one that it comes to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

_GOOD = {
    "main": "primary_hostname = h.example\nacl_smtp_rcpt = chk\n",
    "acl": "chk:\n  accept\n",
    "routers": "r1:\n  driver = dnslookup\n  transport = out\n",
    "transports": "out:\n  driver = smtp\n",
    "retry": "* * F,2h,15m\n",
    "rewrite": "*@x.example $1@here.example\n",
    "authenticators": "p:\n  driver = plaintext\n  public_name = PLAIN\n  server_condition = no\n",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Lines of a section, and the word by which both servers' messages are known."""

    section: str
    lines: str
    word: str


FAULTS = (
    Fault("main", "nosuch_main = 1", "nosuch_main"),
    Fault("main", "recipients_max = x", "recipients_max"),
    Fault("main", "log_selector = +nosuch_log", "nosuch_log"),
    Fault("main", "spool_directory = ${nosuch_spool}", "nosuch_spool"),
    Fault("main", "localhost_number = 99999", "localhost_number"),
    Fault("main", "smtp_ratelimit_mail = x1", "ratelimit data"),
    Fault("main", "smtp_active_hostname = ${nosuch_active", "nosuch_active"),
    Fault("acl", "  accept nosuch_acl = x", "nosuch_acl"),
    Fault("routers", "r2:\n  driver = nosuch_r", "nosuch_r"),
    Fault("routers", "r3:\n  driver = accept", "r3 router"),
    Fault("routers", "r4:\n  driver = redirect\n  data = x\n  redirect_router = no_r4", "no_r4"),
    Fault("routers", "r5:\n  driver = redirect", 'one of "file" or "data"'),
    Fault("transports", "t2:\n  driver = smtp\n  nosuch_t2 = 1", "nosuch_t2"),
    Fault("transports", "t3:\n  driver = appendfile\n  file = /x\n  directory = /y", "t3"),
    Fault("retry", "x nosuch_retry F,1h,5m", "nosuch_retry"),
    Fault("rewrite", "*@q $1@z S", "S flag"),
    Fault("authenticators", "a:\n  driver = no_a", "no_a"),
    Fault("authenticators", "b:\n  driver = plaintext\n  public_name = PLAIN\n"
          "  server_condition = no", "same public name"),
)  # fmt: skip


def pairs() -> Iterator[tuple[Fault, Fault, str]]:
    """Each two faults with a configuration that has both."""
    for one, other in combinations(FAULTS, 2):
        sections = []
        for name, lines in _GOOD.items():
            text = lines if name == "main" else f"begin {name}\n{lines}"
            wrong = (each.lines for each in (one, other) if each.section == name)
            sections.append(text + "".join(f"{each}\n" for each in wrong))
        yield one, other, "".join(sections)

"""``mailsrv -brt`` prints what Exim 4.96 printed for the same rules and arguments."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from unittest import mock

import pytest

from mailsrv.commands.main import main

RULES = """\
domainlist foo = a.example : b.example
begin retry
alice@wonder.example quota_5d  F,7d,3h
wonder.example       quota_5d
*@+foo  mail_45x F,1h,5m
*   rcpt_4xx   senders=:   F,1h,30m
*                 refused_A   F,2h,20m
* data_452 F,1d,2h;G,5d,1h,1.333
*.x.example tls_required F,1d,90s
y.example Timeout_MX H,5w,1d,1.05
*  *  F,2h,15m; G,16h,1h,1.5; F,4d,6h
"""
GENERAL = "*  *  F,2h,15m; G,16h,1h,1.5; F,4d,6h; "
ANSWERS = {
    "alice@wonder.example": GENERAL,
    "alice@wonder.example quota_6d": "alice@wonder.example  quota_5d  F,1w,3h; ",
    "bob@wonder.example quota_6d": "wonder.example  quota_5d  ",
    "wonder.example quota": GENERAL,
    "u@a.example mail_452": "*@+foo  *  F,1h,5m; ",
    "u@a.example mail_4xx": GENERAL,
    "u.zz a.example mail_452": "*@+foo  *  F,1h,5m; ",
    "u@zz refused_A": "*  refused_A  F,2h,20m; ",
    "u@zz a.example refused": GENERAL,
    "h.x.example tls_required": "*.x.example  *  F,1d,1m30s; ",
    "z.example data_452": "*  *  F,1d,2h; G,5d,1h,1.333; ",
    "y.example timeout_mx": "y.example  timeout_MX  H,5w,1d; ",
    "u@zz rcpt_452": GENERAL,
    "-f  u@zz rcpt_452": "*  *  F,1h,30m; ",
}


def printed(tmp_path: Path, rules: str, *words: str) -> tuple[int, str]:
    file = tmp_path / "exim.conf"
    file.write_text(rules)
    out = io.StringIO()
    with mock.patch.object(sys, "stdout", out):
        status = main(["-C", str(file), *words])
    return status, out.getvalue()


@pytest.mark.parametrize("asked", ANSWERS)
def test_as_exim_prints(asked: str, tmp_path: Path) -> None:
    words = asked.split(" ")
    words.insert(2 if words[0] == "-f" else 0, "-brt")
    assert printed(tmp_path, RULES, *words) == (0, f"Retry rule: {ANSWERS[asked]}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "-brt needs a domain or address argument\n"),
        (["a.b", "bogus"], 'unknown or malformed retry error "bogus"\n'),
        (["a.b", "quota_x"], "bad time value\n"),
        (
            ["a.b", "mail_45"],
            "mail_4 must be followed by xx, dx, or dd, where x is literal and d is any digit\n",
        ),
    ],
)
def test_faults(words: list[str], said: str, tmp_path: Path) -> None:
    assert printed(tmp_path, RULES, "-brt", *words) == (1, said)


def test_no_rule(tmp_path: Path) -> None:
    status, said = printed(tmp_path, "begin retry\n", "-brt", "zz")
    assert (status, said.splitlines()[-1]) == (0, "No retry information found")
    assert said.startswith("Warning: \"zz\" contains no '@'")

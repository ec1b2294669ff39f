"""The real exim4 and mailsrv agree on what is in a list (specification chapter 10).

``lists/cases.txt`` goes through ``-be`` of both, each string through an exim4 of its own, for
that ends at a file that is not there.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real import machine, sandbox
from tests.real.expanded import answers, by_mailsrv

HERE = Path(__file__).parent / "lists"

# Beginnings of the cases that mailsrv answers differently, and why (docs/differences.md).  Each is
# one case, and it must differ.
_CUT = "Exim cuts the pattern at the length of the subject's local part"
_CASE = "a domain has no case, in a pattern neither"
_NAMED = "named lists in a list's file"
_BLANK = "as specified: comments and empty lines do not end an item"
KNOWN = {
    "if match_domain{[IPv6:::1]}{@[]}": "the form of RFC 5321 is an address literal",
    "if match_domain{x.example}{!+neg}{y": "$value of an item that did not match",
    "if match_domain{w.b.example}{FOLDER/domfile3}": _NAMED,
    "if match_domain{a.example}{FOLDER/domfile3}": _NAMED,
    "if match_domain{mail.example.test}{FOLDER/domfile3}": _NAMED,
    "if match_local_part{root}{FOLDER/lpfile2}": _NAMED,
    "if match_address{a@b}{FOLDER/addrfile2}": _NAMED,
    "if match_address{x@a.y}{FOLDER/addrfile2}": _NAMED,
    "if match_address{re@ww}{FOLDER/addrfile2}": _NAMED,
    "if match_address{z@zz}{FOLDER/addrfile2}": _NAMED,
    "if match_ip{10.0.0.1}{FOLDER/ipfile3}": _NAMED,
    "if match_ip{11.0.0.1}{FOLDER/ipfile3}": _NAMED,
    "if match_address{@b}{*@b}": _CUT,
    "if match_address{a@b}{*a@b}": _CUT,
    "if match_address{ab@b}{*ab@b}": _CUT,
    "if match_address{abc@b}{*abc@b}": _CUT,
    "if match_address{xxa@b}{*a@b}": _CUT,
    "if match_address{xxab@b}{*ab@b}": _CUT,
    "if match_address{xxabc@b}{*abc@b}": _CUT,
    "if match_address{axbc@b}{*@b}": _CUT,
    r"if match_address{user@mail.example.test}{*@\@}": _CUT,
    "if match_address{user@mail.example.test}{*@@}": _CUT,
    "if match_address{user@x.b.example}{*@partial-lsearch": _CUT,
    "if match_address{user@a.example}{*@FOLDER/domfile}": _CUT,
    "if match_address{a@b@c}{*@c}": _CUT,
    'if match_address{"a@x"@c}{*@c}': _CUT,
    "if match_address{user@x}{!user@!x}": "$value of an item that did not match",
    "if match_address{A@b}{+caseful:A@B}": _CASE,
    "if match_address{A@B}{+caseful:A@B}": _CASE,
    "if match_ip{10.0.0.1}{10.0.0.0/}": "a network without a length is not every address",
    "if match_ip{10.0.0.1}{net-sqlite,file=": "Exim forgets the options behind net-",
    "if match_ip{10.0.0.1}{netx-lsearch": "no type of lookup",
    "lookup{f}lsearch,ret=full": _BLANK,
    "lookup{k}lsearch": _BLANK,
    "lookup{l}lsearch": _BLANK,
    "lookup{m}lsearch": _BLANK,
    "lookup{n}lsearch": _BLANK,
}

_ASK = """n=0; while IFS= read -r line; do
  "$1" -C "$2/conf" -be "$line" </dev/null 2>"$2/errors" >"$2/said"
  if [ -s "$2/said" ]; then cat "$2/said"; else echo "Failed: $(tail -1 "$2/errors")"; fi
  echo "@@$n@@"; n=$((n + 1))
done <"$2/cases.txt" """


@pytest.fixture
def folder() -> Iterator[Path]:
    made = machine.folder("lists")
    for path in HERE.iterdir():
        text = path.read_text("utf-8").replace("FOLDER", str(made))
        if path.name == "cases.txt":
            text = re.sub(r"(?m)^#.*\n", "", text)
        (made / path.name).write_text(text, "utf-8")
    connection = sqlite3.connect(made / "db")
    connection.executescript("create table t (a text); insert into t values ('u')")
    connection.close()
    yield made
    shutil.rmtree(made, ignore_errors=True)


def _same(exim: str, ours: str) -> bool:
    """Both fail, in whatever words, or both say the same."""
    return exim == ours or (exim.startswith("Failed") and ours.startswith("Failed"))


def test_lists(folder: Path) -> None:
    """All but the known differences are answered alike."""
    cases = (folder / "cases.txt").read_bytes().splitlines()
    assert len(cases) >= 650
    program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
    (folder / "box").mkdir()
    box = sandbox.Sandbox(folder / "box", {"Debian-exim": 64901}, None)
    done = machine.run(box.command(["sh", "-c", _ASK, "sh", program, folder]))
    exim = answers(done.stdout, len(cases))
    ours = by_mailsrv(folder / "conf", cases)
    unexplained, alike, known = [], [], []
    for case, theirs, mine in zip(cases, exim, ours, strict=True):
        short = case.decode().removeprefix("${").replace(str(folder), "FOLDER")
        reasons = [one for one in KNOWN if short.startswith(one)]
        known += reasons
        if _same(theirs, mine):
            alike += reasons
        elif not reasons:
            unexplained.append(f"{short}\n   exim4   {theirs}\n   mailsrv {mine}")
    print(f"\n{len(cases) - len(known)} of {len(cases)} alike, {len(KNOWN)} known differences")
    assert unexplained == [], "\n".join(unexplained)
    assert alike == [], "known to differ, but alike now"
    assert sorted(known) == sorted(KNOWN), "each known difference is one case"

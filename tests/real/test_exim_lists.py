"""The real exim4 and mailsrv agree on what is in a list (specification chapter 10).

``lists/cases.txt`` goes through ``-be`` of both, each string through an exim4 of its own, for
that ends at a file that is not there.  The table of what differs is printed.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real import machine, sandbox

HERE = Path(__file__).parent / "lists"
AGREEMENT = 0.99

# why mailsrv answers differently, by the condition and a list (docs/differences.md)
KNOWN = {
    "domain{[IPv6:::1]}{@[]}": "the form of RFC 5321 is an address literal",
    "address{@b}{*@b}": "$value only",
    "address{a@b}{*a@b}": "$value only",
    "address{A@b}{+caseful:A@B}": "a domain has no case, in a pattern neither",
    "address{A@B}{+caseful:A@B}": "a domain has no case, in a pattern neither",
    "address{a@}{a@}": "no address of mail",
    "address{ls}{dsearch;FOLDER}": "no address of mail",
    "ip{10.0.0.1}{10.0.0.0/}": "a network without a length is not every address",
}

_ASK = """while IFS= read -r line; do
  "$1" -C "$2/conf" -be "$line" </dev/null 2>"$2/errors" | tail -1 >"$2/said"
  if [ -s "$2/said" ]; then cat "$2/said"; else echo "Failed: $(tail -1 "$2/errors")"; fi
done <"$2/cases.txt" """


@pytest.fixture
def folder() -> Iterator[Path]:
    made = machine.folder("lists")
    for path in HERE.iterdir():
        text = path.read_text().replace("FOLDER", str(made))
        (made / path.name).write_text(text)
    lines = [x for x in (made / "cases.txt").read_text().splitlines() if x and x[0] != "#"]
    (made / "cases.txt").write_text("\n".join(lines) + "\n")
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
    cases = (folder / "cases.txt").read_text().splitlines()
    program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
    (folder / "box").mkdir()
    box = sandbox.Sandbox(folder / "box", {"Debian-exim": 64901}, None)
    done = machine.run(box.command(["sh", "-c", _ASK, "sh", program, folder]))
    exim = done.stdout.decode("latin-1").splitlines()
    asked = [sys.executable, "-m", "mailsrv", "-C", str(folder / "conf"), "-be", *cases]
    said = subprocess.run(asked, capture_output=True, text=True, cwd=HERE.parents[2])
    ours = said.stdout.splitlines()
    assert len(exim) == len(cases), done.stderr
    assert len(ours) == len(cases), said.stderr
    rows, equal, compared = [], 0, 0
    for case, theirs, mine in zip(cases, exim, ours, strict=True):
        short = case.removeprefix("${if match_").replace(str(folder), "FOLDER")
        if any(short.startswith(known) for known in KNOWN):
            continue
        compared += 1
        if _same(theirs, mine):
            equal += 1
        else:
            rows.append(f"{short}\n   exim4   {theirs}\n   mailsrv {mine}")
    print(f"\n{equal} of {compared} alike, {len(KNOWN)} known differences", *rows, sep="\n")
    assert equal >= AGREEMENT * compared

"""The real exim4 and mailsrv agree on which configurations are accepted.

The collection of ``tests/config/configurations``, Debian's own configuration for each kind of
machine, a share of the variations of every option, and damaged configurations; the
tables are printed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mailsrv.commands.check import findings
from mailsrv.config.read import read
from tests.config.collection import FOLDER, Answer, ask, collection
from tests.config.faults import pairs
from tests.config.mutations import mutations
from tests.config.variations import variations
from tests.real import machine, sandbox

SHARE = 30  # one in so many variations
MUTATIONS = 30  # of each of three configurations
AGREEMENT = 0.98

_ASK = """for file in "$2"/*.conf; do
  "$1" -C "$file" -bV >"$file.said" 2>&1; echo $? >"$file.status"
done"""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = machine.folder("configurations")
    yield made
    shutil.rmtree(made, ignore_errors=True)


def exim_accepts(folder: Path) -> dict[str, bool]:
    """Ask exim4 about all the folder's configurations."""
    program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
    (folder / "box").mkdir()
    box = sandbox.Sandbox(folder / "box", {"Debian-exim": 64901}, None)
    done = machine.run(box.command(["sh", "-c", _ASK, "sh", program, folder]))
    assert done.returncode == 0, done.stderr
    return {
        path.name.removesuffix(".status"): path.read_text().strip() == "0"
        for path in folder.glob("*.status")
    }


def agreement(folder: Path, texts: Sequence[tuple[str, str]]) -> tuple[float, list[str]]:
    """Compare; returns the share of equal answers of what is built, and a table of the others."""
    for number, (_, text) in enumerate(texts):
        (folder / f"{number}.conf").write_text(text, "latin-1")
    exim = exim_accepts(folder)
    rows, equal, compared = [], 0, 0
    for number, (name, _) in enumerate(texts):
        answer = ask(folder / f"{number}.conf")
        accepts = exim[f"{number}.conf"]
        if answer.unbuilt and accepts:
            rows.append(f"not built   {name}: {answer.said}")
            continue
        compared += 1
        equal += answer.accepts == accepts
        if answer.accepts != accepts:
            rows.append(_row(name, accepts, answer))
    print(f"{equal} of {compared} are equal, {len(texts) - compared} are not built")
    print("\n".join(sorted(rows)))
    return equal / compared, rows


def _row(name: str, exim: bool, answer: Answer) -> str:
    words = ("refuses", "accepts")
    return f"different   {name}: exim4 {words[exim]}, mailsrv {words[answer.accepts]} {answer.said}"


def test_collection(folder: Path) -> None:
    """Exim says what the first line of each file says that it does."""
    files = collection()
    for each in files:
        shutil.copy(each.path, folder)
    exim = exim_accepts(folder)
    wrong = [each.path.name for each in files if exim[each.path.name] is not each.exim_accepts]
    assert not wrong
    equal = sum(ask(each.path).accepts == each.exim_accepts for each in files)
    print(f"{equal} of {len(files)} configurations: the same answer")
    assert equal >= AGREEMENT * len(files)


def test_variations(folder: Path) -> None:
    """Every option with good and bad values."""
    share, rows = agreement(folder, list(variations(SHARE)))
    assert share >= AGREEMENT, rows


def test_mutations(folder: Path) -> None:
    """Good configurations with one line damaged."""
    texts = [("debian", debian("smarthost", "maildir_home"))]
    texts += [
        (each, (FOLDER / f"typical-{each}.conf").read_text("latin-1"))
        for each in ("virtual", "lists")
    ]
    damaged = [found for name, text in texts for found in mutations(name, text, MUTATIONS)]
    share, rows = agreement(folder, damaged)
    assert share >= AGREEMENT, rows


def test_first_fault(folder: Path) -> None:
    """Of two faults both tell the same one first."""
    both = list(pairs())
    for number, (_, _, text) in enumerate(both):
        (folder / f"{number}.conf").write_text(text, "latin-1")
    exim_accepts(folder)
    different = []
    for number, (one, other, _) in enumerate(both):
        first = ask(folder / f"{number}.conf").said.split("\n")[0]
        exim = (folder / f"{number}.conf.said").read_text("latin-1")
        told = [[each.word in said for each in (one, other)] for said in (exim, first)]
        if told[0] != told[1] or sum(told[0]) != 1:
            different.append((one.lines, other.lines, exim, first))
    print("\n".join(map(repr, different)))
    assert not different


def debian(kind: str, delivery: str) -> str:
    """Debian's configuration in one file, for a kind of machine, as update-exim4.conf makes it."""
    root = sandbox.unpacked("exim4-config")
    template = (root / "etc/exim4/exim4.conf.template").read_text("latin-1")
    macros = {
        "CONFDIR": "/etc/exim4",
        "DC_eximconfig_configtype": kind,
        f"DCconfig_{kind}": "1",
        "DC_minimaldns": "false",
        "DCreadhost": "",
        "DCsmarthost": "smtp.example.org",
        "ETC_MAILNAME": "h.example",
        "LOCAL_DELIVERY": delivery,
        "MAIN_HARDCODE_PRIMARY_HOSTNAME": "h.example",
        "MAIN_LOCAL_DOMAINS": "@:localhost",
        "MAIN_RELAY_NETS": ": 127.0.0.1 : ::::1",
        "MAIN_RELAY_TO_DOMAINS": "empty",
    }
    head = "".join(f"{name}={value}\n" for name, value in macros.items())
    return head + re.sub(r"(?m)^.*UPEX4CmacrosUPEX4C.*$|DEBCONF\w+DEBCONF", "", template)


def test_debian(folder: Path) -> None:
    """Nothing in Debian's own configuration but what is not built stands in its way."""
    kinds = ("internet", "smarthost", "satellite", "local", "none")
    texts = [
        (f"{kind} {delivery}", debian(kind, delivery))
        for kind in kinds
        for delivery in ("mail_spool", "maildir_home")
    ]
    for number, (_, text) in enumerate(texts):
        (folder / f"{number}.conf").write_text(text, "latin-1")
    exim = exim_accepts(folder)
    assert all(exim.values())
    for number, (name, _) in enumerate(texts):
        answer = ask(folder / f"{number}.conf")
        print(f"{name}: {answer.said or 'accepted'}")
        assert answer.accepts or answer.unbuilt, answer.said
        if answer.accepts:
            found = findings(read(str(folder / f"{number}.conf")))
            assert not [str(each) for each in found if "known to Exim" not in each.problem]

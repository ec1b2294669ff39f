"""What a string costs in mailsrv and in exim4: ``python -m bench.strings`` writes a table.

Each string goes many times through one ``-be`` of either program, less what
the same program takes for as many lines without an expansion.  The server
reads a string once, when it reads its configuration: that figure is beside
them.  All are times of the CPU, so that a busy machine changes little.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailsrv.config.read import read
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import compile_string
from mailsrv.expansion.tree import drive
from mailsrv.lookup import registry
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Transaction
from mailsrv.mail.origin import Origin
from mailsrv.service.environment import WallClock, make_services
from tests.real import machine, sandbox

RESULTS = Path(__file__).parent / "results"
SENDER = "user@a.example"
PLAIN = "plain text"
PROGRAMS = ("exim4 -be", "mailsrv -be", "mailsrv, read once")

CONFIGURATION = """\
primary_hostname = mail.example.com
qualify_domain = example.com
spool_directory = FOLDER/spool
log_file_path = FOLDER/%slog
domainlist names = NAMES
domainlist patterns = PATTERNS
addresslist people = PEOPLE
hostlist nets = NETS
domainlist filed = lsearch;FOLDER/names
"""
LISTS = {
    "NAMES": [f"name{n}.example" for n in range(100)],
    "PATTERNS": [f"*.name{n}.example" for n in range(100)],
    "PEOPLE": [f"user@name{n}.example" for n in range(100)],
    "NETS": [f"10.{n}.0.0/16" for n in range(100)],
}

STRINGS = {
    "a variable": "$primary_hostname",
    "the issue's condition": (
        "${if and{{eq{$sender_address_domain}{a.example}}{!def:authenticated_id}}}"
    ),
    "operators": "${lc:${domain:$sender_address}}",
    "a regular expression": "${if match{$sender_address}{\\N^([a-z]+)@(.+)$\\N}{$1 at $2}{no}}",
    "sg, five matches": "${sg{a.b.c.d.e.f}{\\N\\.\\N}{-}}",
    "extract": "${extract{2}{:}{one:two:three}}",
    "map of 10": "${map{0:1:2:3:4:5:6:7:8:9}{<$item>}}",
    "reduce of 10": "${reduce{0:1:2:3:4:5:6:7:8:9}{0}{${eval:$value+$item}}}",
    "sort of 10": "${sort{5:3:9:1:0:8:2:7:4:6}{<}{$item}}",
    "sha256 of 30 octets": "${sha256:abcdefghijklmnopqrstuvwxyz1234}",
    "a file's key": "${lookup{name50.example}lsearch{FOLDER/names}}",
    "domain list, 100 names": "${if match_domain{name99.example}{+names}}",
    "domain list, 100 patterns": "${if match_domain{x.name99.example}{+patterns}}",
    "domain list, a file": "${if match_domain{name99.example}{+filed}}",
    "address list, 100": "${if match_address{user@name99.example}{+people}}",
    "host list, 100 nets": "${if match_ip{10.99.1.2}{+nets}}",
}


@contextmanager
def _folder() -> Iterator[Path]:
    folder = machine.folder("bench-strings")
    try:
        for name in ("spool", "box"):
            (folder / name).mkdir()
        text = CONFIGURATION
        for name, items in LISTS.items():
            text = text.replace(name, " : ".join(items))
        (folder / "conf").write_text(text.replace("FOLDER", str(folder)))
        (folder / "names").write_text("".join(f"{name}: x\n" for name in LISTS["NAMES"]))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _seconds(command: list[str], text: str, lines: int) -> float:
    """Return what a command takes for a line, given so many times."""
    given = (text + "\n").encode() * lines
    begun = _spent()
    done = subprocess.run(command, input=given, capture_output=True, check=True)
    taken = _spent() - begun
    if b"Failed:" in done.stdout:
        raise RuntimeError(f"{text}: {done.stdout[:200]!r} of {command[0]}")
    return taken


def _served(configuration: Path, text: str, times: int) -> float:
    """Return the seconds for a string that is read once."""
    services = make_services(read(str(configuration)), WallClock(), registry())
    transaction = Transaction(sender=SENDER)
    scope = Scope(services, connection=Connection(Origin()), message=transaction)
    template = compile_string(text)
    drive(template.expand(scope))
    begun = time.process_time()
    for _ in range(times):
        if template.waits:
            drive(template.expand(scope))
        else:
            template.value(scope)
    return time.process_time() - begun


def measure(folder: Path, rounds: int, lines: int) -> dict[str, dict[str, float]]:
    """Return microseconds by string and program, medians of rounds in which they take turns."""
    conf, words = str(folder / "conf"), ["-be", "-f", SENDER]
    commands = {"mailsrv -be": [sys.executable, "-m", "mailsrv", "-C", conf, *words]}
    try:
        program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
        box = sandbox.Sandbox(folder / "box", {"Debian-exim": 64901}, None)
        commands["exim4 -be"] = box.command([str(program), "-C", conf, *words])
    except (pytest.skip.Exception, OSError) as reason:
        print(f"exim4 is left out: {reason}")
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(rounds):
        for title, string in STRINGS.items():
            text = string.replace("FOLDER", str(folder))
            for name, command in commands.items():
                count = lines * 10 if name.startswith("exim4") else lines
                taken = _seconds(command, text, count) - _seconds(command, PLAIN, count)
                found[title][name].append(max(taken, 0.0) / count * 1e6)
            found[title]["mailsrv, read once"].append(
                _served(folder / "conf", text, lines) / lines * 1e6
            )
    return {
        title: {name: statistics.median(each) for name, each in of.items()}
        for title, of in found.items()
    }


def table_of(figures: dict[str, dict[str, float]]) -> list[str]:
    """Return microseconds for a string, and how many times faster mailsrv is, in lines."""
    lines = [f"{'microseconds a string':28}" + "".join(f"{name:>20}" for name in PROGRAMS)]
    for title, of in figures.items():
        row = "".join(f"{of[n]:20.1f}" if n in of else f"{'-':>20}" for n in PROGRAMS)
        exim, ours = of.get("exim4 -be", 0.0), of["mailsrv, read once"]
        lines.append(f"{title:28}{row}" + (f"   {exim / ours:.1f} x exim4" if exim else ""))
    return lines


def main() -> None:
    """Measure, print and write the table."""
    parser = ArgumentParser(prog="bench.strings", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of fewer lines")
    quick = parser.parse_args().quick
    with _folder() as folder:
        figures = measure(folder, rounds=1 if quick else 5, lines=500 if quick else 3000)
    table = "\n".join(table_of(figures))
    print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "strings.txt").write_text(table + "\n")


if __name__ == "__main__":
    main()

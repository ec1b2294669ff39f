"""Lookups in files that real tools made, as exim4 and mailsrv read them (specification 9.3)."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real import machine, sandbox
from tests.real.expanded import by_exim, by_mailsrv

# An alias file with all that the form has.
ALIASES = """\
# comment
alice: a@example.test
Bob:   b@example.test,
       c@example.test
  # a comment between

  ,d@example.test
"quoted key": q
"with\\"quote\\\\": r
no-colon data of it
empty:
colon: :fail: no such user
ALICE: again
é: accented
É: capital
tab	:	tabs
trailing:   x   \t
twice: 1
twice: 2
*: default
*@star.example: star
"""
KEYS = ("alice", "ALICE", "Bob", "bob", "quoted key", 'with"quote\\', "no-colon", "empty", "colon",
        "é", "É", "tab", "trailing", "twice", "none", "*", "x@star.example", "alic", "alicee",
        "")  # fmt: skip
OPTIONS = ((), ("-nolc",), ("-nozero",), ("-lastdup", "-nowarn"), ("-noduperr",))
_BUILD = "from mailsrv.commands.dbmbuild import main; raise SystemExit(main())"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with the alias file."""
    made = machine.folder("files")
    (made / "aliases").write_text(ALIASES, "utf-8")
    (made / "conf").write_text("primary_hostname = mail.example.test\n")
    yield made
    shutil.rmtree(made, ignore_errors=True)


def _queries(kind: str, file: Path) -> list[bytes]:
    """A lookup for each key."""
    keys = [key.replace("\\", r"\\") for key in KEYS]
    return [f"${{lookup{{{key}}}{kind}{{{file}}}{{<$value>}}{{none}}}}".encode() for key in keys]


def _unpacked(program: str, package: str, *libraries: str) -> tuple[Path, dict[str, str]]:
    """Return a program of a package, and the environment that it needs."""
    paths = [
        str(path)
        for library in libraries
        for path in (sandbox.unpacked(library) / "usr/lib").glob("*-linux-gnu*")
    ]
    return sandbox.unpacked(package) / program, {**os.environ, "LD_LIBRARY_PATH": ":".join(paths)}


def test_cdb(folder: Path) -> None:
    """A file of the tool ``cdb``, with many keys, equal ones and empty values."""
    program, environment = _unpacked("usr/bin/cdb", "tinycdb", "libcdb1")
    records = [(key, f"data of {key}") for key in KEYS if key]
    records += [("alice", "a second one"), ("empty", ""), *((f"k{n}", f"v{n}") for n in range(500))]
    text = b"".join(
        b"+%d,%d:%s->%s\n" % (len(key), len(data), key, data)
        for key, data in ((key.encode(), data.encode()) for key, data in records)
    )
    done = machine.run([program, "-c", folder / "f.cdb"], stdin=text + b"\n", env=environment)
    assert done.returncode == 0, done.stderr
    queries = _queries("cdb", folder / "f.cdb") + _queries("cdb*@", folder / "f.cdb")
    queries += [b"${lookup{k%d}cdb{%s}}" % (n, bytes(folder / "f.cdb")) for n in range(0, 600, 7)]
    assert by_mailsrv(folder / "conf", queries) == by_exim(folder, queries)


def test_dbm(folder: Path) -> None:
    """What mailsrv reads of mailsrv-dbmbuild's file is what exim4 reads of exim_dbmbuild's."""
    program = sandbox.unpacked("exim4-base") / "usr/sbin/exim_dbmbuild"
    queries = []
    for number, options in enumerate(OPTIONS):
        theirs = machine.run([program, *options, folder / "aliases", folder / f"exim{number}"])
        build = [
            sys.executable,
            "-c",
            _BUILD,
            *options,
            folder / "aliases",
            folder / f"our{number}",
        ]
        ours = machine.run(build, env={**os.environ, "PYTHONPATH": str(machine.CHECKOUT)})
        assert ours.returncode == theirs.returncode, ours.stderr + theirs.stderr
        assert ours.stdout == theirs.stdout
        assert ours.stderr == theirs.stderr
        for kind in ("dbmnz", "dbmnz*@") if "-nozero" in options else ("dbm", "dbm*", "dbm*@"):
            queries += _queries(kind, folder / f"FILE{number}")
    read = by_mailsrv(folder / "conf", [query.replace(b"FILE", b"our") for query in queries])
    assert read == by_exim(folder, [query.replace(b"FILE", b"exim") for query in queries])


def test_lmdb(folder: Path) -> None:
    """An LMDB file: keys without a NUL; no key, no file, a file that is none."""
    lmdb = pytest.importorskip("lmdb")
    with (
        lmdb.open(str(folder / "f.mdb"), subdir=False) as database,
        database.begin(write=True) as t,
    ):
        for key in KEYS[:-2]:
            t.put(key.encode(), f"<{key}>".encode())
    found = by_mailsrv(folder / "conf", [
        *_queries("lmdb", folder / "f.mdb")[:-2],
        b"${lookup{absent}lmdb{%s}{y}{n}}" % bytes(folder / "f.mdb"),
        b"${lookup{absent}lmdb*{%s}{$value}{n}}" % bytes(folder / "f.mdb"),
        b"${lookup{absent}lmdb{%s}{y}{n}}" % bytes(folder / "absent"),
        b"${lookup{absent}lmdb{%s}{y}{n}}" % bytes(folder / "aliases"),
        b"${lookup{absent}lmdb{%s}{y}{n}}" % bytes(folder),
    ])  # fmt: skip
    count = len(KEYS) - 2
    assert found[:count] == [f"<<{key}>>".encode().decode("latin-1") for key in KEYS[:-2]]
    assert found[count : count + 2] == ["n", "<*>"]
    assert all(text.startswith("Failed: ") for text in found[count + 2 :]), found[count + 2 :]

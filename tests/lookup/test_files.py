"""Lookups in files: formats, changes under way, errors."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Mapping
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.commands.dbmwriter import write_all
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.tree import drive
from mailsrv.lookup import registry
from mailsrv.lookup._linear import entries
from mailsrv.lookup.cdb import cdb_hash


def make_cdb(records: Mapping[bytes, bytes]) -> bytes:
    """Build a constant database as its author describes the format."""
    body, place = b"", 2048
    tables: list[list[tuple[int, int]]] = [[] for _ in range(256)]
    for key, data in records.items():
        value = cdb_hash(key)
        tables[value & 255].append((value, place))
        record = struct.pack("<LL", len(key), len(data)) + key + data
        body += record
        place += len(record)
    head, tail = b"", b""
    for table in tables:
        slots = len(table) * 2
        head += struct.pack("<LL", place, slots)
        filled = [(0, 0)] * slots
        for value, offset in table:
            slot = (value >> 8) % slots
            while filled[slot] != (0, 0):
                slot = (slot + 1) % slots
            filled[slot] = (value, offset)
        for pair in filled:
            tail += struct.pack("<LL", *pair)
            place += 8
    return head + body + tail


class FileCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.lookups = registry()

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def write(self, name: str, content: str) -> str:
        with open(self.path(name), "w", encoding="latin-1") as file:
            file.write(content)
        return self.path(name)

    def find(self, kind: str, file: str, key: str, options: str = "") -> str | None:
        lookup = self.lookups(kind)
        assert lookup is not None
        return drive(lookup.find(file, key, options))

    def reason(self, kind: str, file: str, key: str = "k") -> str:
        with self.assertRaises(TemporaryFailure) as caught:
            self.find(kind, file, key)
        return caught.exception.reason


class LinearTests(FileCase):
    def test_whole_lines(self) -> None:
        """``ret=full`` gives the line as it is, but for the quotes of the key."""
        file = self.write("f", 'a  : x\n  y\n"b c"\td\ne:\n f\n')
        for key, whole, data in (
            ("a", "a  : x y", "x y"),
            ("b c", "b c\td", "d"),
            ("E", "e: f", " f"),
        ):
            self.assertEqual(self.find("lsearch", file, key, "ret=full"), whole)
            self.assertEqual(self.find("lsearch", file, key), data)

    def test_form(self) -> None:
        """Comments, continuation lines, quoted keys, keys without a colon."""
        text = '# c\n\nkey: one\n  two\n# between\n\t three\n"a b\\"": c\nd e\nf\ng:\n'
        self.assertEqual(
            list(entries(text)),
            [("key", "one two three"), ('a b"', "c"), ("d", "e"), ("f", ""), ("g", "")],
        )

    def test_found(self) -> None:
        """Keys in any case; the first of equal ones; a key without data is "", not None."""
        file = self.write("f", "Key: 1\nkey: 2\nempty:\n")
        self.assertEqual(self.find("lsearch", file, "KEY"), "1")
        self.assertEqual(self.find("lsearch", file, "empty"), "")
        self.assertIsNone(self.find("lsearch", file, "other"))

    def test_replaced(self) -> None:
        """A file that was replaced or changed is read anew."""
        file = self.write("f", "k: old\n")
        self.assertEqual(self.find("lsearch", file, "k"), "old")
        os.replace(self.write("g", "k: new\n"), file)
        self.assertEqual(self.find("lsearch", file, "k"), "new")

    def test_reason(self) -> None:
        """A file that cannot be read defers, in Exim's words."""
        missing = self.path("none")
        self.assertEqual(
            self.reason("lsearch", missing),
            f"failed to open {missing} for linear search: No such file or directory",
        )
        self.assertIn("Is a directory", self.reason("lsearch", self.folder))
        self.assertIn("not an absolute path", self.reason("lsearch", "relative"))

    def test_unknown_type(self) -> None:
        """A type that is not built has no lookup; helpers are no types."""
        for name in ("oracle", "_files", "../x", "Lsearch", ""):
            self.assertIsNone(self.lookups(name))


class DbmTests(FileCase):
    def test_python_schema(self) -> None:
        """The file is what Python's dbm.sqlite3 writes."""
        write_all(self.path("d"), {b"k\0": b"v\0"})
        rows = sqlite3.connect(self.path("d")).execute("SELECT key, value FROM Dict").fetchall()
        self.assertEqual(rows, [(b"k\0", b"v\0")])

    def test_keys(self) -> None:
        """dbm adds a NUL to the key, dbmnz does not, dbmjz joins a list."""
        records = {b"k\0": b"with\0", b"k": b"without", b"u\0realm\0p": b"joined"}
        write_all(self.path("d"), records)
        self.assertEqual(self.find("dbm", self.path("d"), "k"), "with")
        self.assertEqual(self.find("dbmnz", self.path("d"), "k"), "without")
        self.assertEqual(self.find("dbmjz", self.path("d"), "u:realm:p"), "joined")
        self.assertIsNone(self.find("dbm", self.path("d"), "K"))

    def test_suffix(self) -> None:
        """NAME.db is found for NAME."""
        write_all(self.path("d.db"), {b"k\0": b"v"})
        self.assertEqual(self.find("dbm", self.path("d"), "k"), "v")

    def test_replaced_during_lookups(self) -> None:
        """A file that is replaced between lookups gives old or new, never an error."""
        for number in range(20):
            write_all(self.path("d"), {b"k\0": str(number).encode()})
            self.assertEqual(self.find("dbm", self.path("d"), "k"), str(number))

    def test_failures(self) -> None:
        """What cannot be read defers and says the mend."""
        self.assertIn("No such file", self.reason("dbm", self.path("none")))
        self.assertIn("mailsrv-dbmbuild", self.reason("dbm", self.write("t", "text")))
        damaged = self.write("s", "SQLite format 3\0" + "x" * 100)
        self.assertIn("mailsrv-dbmbuild", self.reason("dbm", damaged))


class CdbTests(FileCase):
    def test_found(self) -> None:
        """Records are found among others."""
        records = {f"key{n}".encode(): f"data{n}".encode() for n in range(500)}
        file = self.write("c", make_cdb(records).decode("latin-1"))
        for key, data in records.items():
            self.assertEqual(self.find("cdb", file, key.decode()), data.decode())
        self.assertIsNone(self.find("cdb", file, "other"))

    def test_cut(self) -> None:
        """A file that ends anywhere gives the record or defers, and nothing else."""
        whole = make_cdb({b"k": b"v" * 20}).decode("latin-1")
        for end in range(0, len(whole), 7):
            file = self.write("c", whole[:end])
            try:
                self.assertIn(self.find("cdb", file, "k"), (None, "v" * 20))
            except TemporaryFailure as error:
                self.assertIn("too short", error.reason)


class DsearchTests(FileCase):
    def test_names(self) -> None:
        """An entry's own name, or its path; filters by kind."""
        self.write("f", "")
        self.assertEqual(self.find("dsearch", self.folder, "f"), "f")
        self.assertEqual(self.find("dsearch", self.folder, "f", "ret=full"), self.path("f"))
        self.assertIsNone(self.find("dsearch", self.folder, "f", "filter=dir"))
        self.assertIsNone(self.find("dsearch", self.folder, "g"))
        self.assertIn("slash", self.reason("dsearch", self.folder, "a/b"))

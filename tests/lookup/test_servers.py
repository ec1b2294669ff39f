"""Lookups that ask databases: SQLite itself, a double of PyMySQL, the quoters and rows."""

from __future__ import annotations

import os
import sqlite3
import sys
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.tree import drive
from mailsrv.lookup import registry
from tests.expansion.setting import expand


def find(type: str, query: str, options: str = "", **settings: Any) -> str | None:
    """Run a query."""
    lookup = registry(settings=SimpleNamespace(**settings))(type)
    assert lookup is not None
    return drive(lookup.find("", query, options))


class SqliteTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "db")
        with sqlite3.connect(self.path) as connection:
            connection.execute("create table t (a text, b text)")
            connection.execute("insert into t values ('u', 'x y'), ('v', null)")
        connection.close()

    def test_rows(self) -> None:
        """One field alone, several with their names."""
        self.assertEqual(find("sqlite", "select a from t", f"file={self.path}"), "u\nv")
        self.assertEqual(
            find("sqlite", "select a, b from t", sqlite_dbfile=self.path),
            'a=u b="x y" \na=v b=<NULL> ',
        )
        self.assertEqual(find("sqlite", f"{self.path} select b from t where a='u'"), "x y")
        self.assertIsNone(find("sqlite", "select a from t where a=''", f"file={self.path}"))

    def test_faults(self) -> None:
        """A relative name defers; an error in the query finds nothing."""
        with self.assertRaises(TemporaryFailure):
            find("sqlite", "select 1", "file=db")
        self.assertIsNone(find("sqlite", "select a from", f"file={self.path}"))

    def test_locked(self) -> None:
        """A database that another writes to for longer than we wait is a deferral."""
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("begin exclusive")
        with self.assertRaises(TemporaryFailure) as caught:
            find("sqlite", "select a from t", f"file={self.path}", sqlite_lock_timeout=0)
        self.assertIn("locked", caught.exception.reason)


class FakeMySql(ModuleType):
    """A double of PyMySQL: the host "down" is away; a query that says "bad" is an error."""

    def __init__(self) -> None:
        super().__init__("pymysql")
        self.hosts: list[str] = []
        self.converters = SimpleNamespace(encoders={})

    def connect(self, host: str, **options: Any) -> Any:
        """Connect."""
        self.hosts.append(f"{host}:{options['port']}")
        if host == "down":
            raise OSError("refused")
        return SimpleNamespace(cursor=FakeCursor, commit=lambda: None, close=lambda: None)


class FakeCursor:
    """Two columns for every select."""

    description: Any = None
    rowcount = 3

    def execute(self, query: bytes) -> None:
        """Run a query."""
        if b"bad" in query:
            raise ValueError("near bad")
        if query.startswith(b"select"):
            self.description = (("a",), ("b",))

    def fetchall(self) -> Any:
        """The rows."""
        return [(b"1", b"x\xe9"), (None, b'say "x"')]


class ServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.module = FakeMySql()
        self.patch_module("pymysql", self.module)

    def patch_module(self, name: str, module: ModuleType | None) -> None:
        """Put a module in place of a package for this test; None = not installed."""
        patched = patch.dict(sys.modules, {name: module})
        patched.start()
        self.addCleanup(patched.stop)

    def reason(self, query: str, options: str = "", **settings: Any) -> str:
        """Why a lookup defers."""
        with self.assertRaises(TemporaryFailure) as caught:
            find("mysql", query, options, **settings)
        return caught.exception.reason

    def test_rows_and_counts(self) -> None:
        """Rows as Exim gives them; the number of rows for a statement without."""
        servers = "h/d/u/p"
        self.assertEqual(
            find("mysql", "select", mysql_servers=servers),
            'a=1 b=x\xe9 \na="" b="say \\"x\\"" ',
        )
        self.assertEqual(find("mysql", "update", mysql_servers=servers), "3")

    def test_next_server(self) -> None:
        """A server that is away is passed over, and one that finds an error in the query."""
        find("mysql", "select", mysql_servers="down/d/u/p : up::3307/d/u/p")
        self.assertEqual(self.module.hosts, ["down:3306", "up:3307"])
        reason = self.reason("select bad", mysql_servers="up/d/u/p : other/d/u/p")
        self.assertIn("near bad", reason)
        self.assertEqual(self.module.hosts[2:], ["up:3306", "other:3306"])
        self.assertIn("refused", self.reason("select", mysql_servers="down/d/u/secret"))
        self.assertNotIn("secret", self.reason("select", mysql_servers="down/d/u/secret"))

    def test_chosen_servers(self) -> None:
        """``,servers=`` and the old prefix choose by name."""
        servers = "a/d/u/p:b/d/u/p"
        find("mysql", "select", "servers=b", mysql_servers=servers)
        find("mysql", "servers=b:c/d/u/p; select", mysql_servers=servers)
        self.assertEqual(self.module.hosts, ["b:3306", "b:3306"])
        self.assertIn("not found", self.reason("select", "servers=z", mysql_servers=servers))

    def test_without(self) -> None:
        """No server and no package are deferrals that say what is missing."""
        self.assertIn("no MySQL servers defined (mysql_servers option)", self.reason("select 1"))
        self.assertIn("incomplete", self.reason("select 1", mysql_servers="h/d/u"))
        self.patch_module("pymysql", None)
        self.assertIn("PyMySQL is not installed", self.reason("select", mysql_servers="h/d/u/p"))


class QuoterTests(SynchronousTestCase):
    def test_quoters(self) -> None:
        """As Debian's Exim answers."""
        for text, wanted in (
            (r"""mysql:a'b"c\\\n%_""", r"""a\'b\"c\\\n%_"""),
            (r"""pgsql:a'b"c\\\n%_""", r"""a''b\"c\\\n%_"""),
            ("sqlite:a'b", "a''b"),
            (r"ldap:a(b)*c\\ d,\xc3\xa9", "a%5C28b%5C29%5C2Ac%5C5C%20d%2C%C3%A9"),
            ('ldap_dn:a(b)*c, d+e"<>; #', "a(b)*c%5C%2C%20d%5C+e%5C%22%5C%3C%5C%3E%5C%3B%20%23"),
            ("ldap_dn: a ", "%5C%20a%5C%20"),
            ("ldap_dn:#a", "%5C%23a"),
        ):
            self.assertEqual(expand(f"${{quote_{text}}}"), wanted)

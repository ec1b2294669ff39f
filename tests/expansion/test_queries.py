"""What a peer chose in the query of a lookup: refused unless it was quoted for that type."""

from __future__ import annotations

from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion import lists
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import compile_string
from mailsrv.expansion.tree import drive
from mailsrv.mail.message import Transaction
from mailsrv.mail.taint import Tainted, is_tainted
from tests.expansion.setting import expand, failure, make_scope


class Recorder:
    """A lookup that keeps its queries."""

    def __init__(self) -> None:
        self.queries: list[str] = []

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Keep a query (ILookup)."""
        self.queries.append(key)
        return "found"

    async def authenticates(self, key: str) -> bool:
        """Keep a query of ldapauth."""
        self.queries.append(key)
        return True


class QueryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.recorder = Recorder()

    def scope(self, sender: str = "o'x@a.example") -> Scope:
        """A scope with a sender."""
        return make_scope(message=Transaction(sender=sender), lookup=lambda name: self.recorder)


class RefusedTests(QueryCase):
    def test_unquoted(self) -> None:
        """The error names the mend; nothing is asked."""
        for type, quoter in (
            ("mysql", "mysql"),
            ("pgsql", "pgsql"),
            ("sqlite", "sqlite"),
            ("redis", "redis"),
            ("ldap", "ldap"),
            ("ldapdn", "ldap"),
            ("ldapm", "ldap"),
        ):
            reason = failure(f"${{lookup {type}{{select '$sender_address'}}}}", self.scope())
            self.assertIn("tainted query", reason)
            self.assertIn(f"${{quote_{quoter}:", reason)
        self.assertEqual(self.recorder.queries, [])

    def test_harmless_components_are_no_queries(self) -> None:
        """What may stand in a path may still end a string of SQL."""
        failure("${lookup sqlite{select '$sender_address_local_part'}}", self.scope())
        self.assertEqual(self.recorder.queries, [])

    def test_other_quoter(self) -> None:
        """The quoter of another database does not serve."""
        failure("${lookup mysql{select '${quote_pgsql:$sender_address}'}}", self.scope())

    def test_one_of_two(self) -> None:
        """Each value must be quoted."""
        failure(
            "${lookup mysql{'${quote_mysql:$sender_address}' $sender_address_domain}}",
            self.scope(),
        )

    def test_changed_after_quoting(self) -> None:
        """What an operator made of a quoted value is quoted no more."""
        failure(r"${lookup mysql{'${sg{${quote_mysql:$sender_address}}{x}{}}'}}", self.scope())
        failure("${lookup mysql{'${lc:${quote_mysql:$sender_address}}'}}", self.scope())

    def test_ldapauth(self) -> None:
        """The condition's query is one, too."""
        reason = failure("${if ldapauth{user=$sender_address pass=x ldap:///}}", self.scope())
        self.assertIn("tainted", reason)
        expand('${if ldapauth{user="${quote_ldap_dn:$sender_address}" pass=x ldap:///}}',
               self.scope())  # fmt: skip
        self.assertEqual(len(self.recorder.queries), 1)

    def test_the_password_of_ldap(self) -> None:
        """``quote`` suffices for it, as in the specification's example (34.2), and for no more."""
        user = '${if ldapauth{user="${quote_ldap_dn:$sender_address}" pass='
        expand(user + "${quote:$sender_address} ldap:///}}", self.scope())
        self.assertIn('pass="o\'x@a.example" ldap', self.recorder.queries[0])
        expand("${lookup ldap{pass=${quote:$sender_address} ldap:///}}", self.scope())
        for query in (
            user + "$sender_address ldap:///}}",
            "${lookup ldap{pass=x ldap:///${quote:$sender_address}}}",
            user + "x ldap:///${quote:$sender_address}}}",
            "${if ldapauth{user=${quote:$sender_address} pass=x ldap:///}}",
        ):
            self.assertIn("tainted", failure(query, self.scope()))
        self.assertEqual(len(self.recorder.queries), 2)

    def test_item_of_a_list(self) -> None:
        """A query in a list is held to the same; a value that divides the list is not quoted."""

        def match(text: str, scope: Scope) -> bool:
            return drive(lists.match_domain(compile_string(text), "d.example", scope)) is not None

        quoted = "sqlite;select '${quote_sqlite:$sender_address}'"
        self.assertTrue(match(quoted, self.scope()))
        self.assertEqual(self.recorder.queries, ["select 'o''x@a.example'"])
        with self.assertRaises(Exception) as caught:
            match("sqlite;select '$sender_address'", self.scope())
        self.assertIn("tainted query", str(caught.exception))
        with self.assertRaises(Exception) as caught:
            match("x : +x : " + quoted, self.scope("a:sqlite;drop table t@x"))
        self.assertEqual(len(self.recorder.queries), 1)


class PermittedTests(QueryCase):
    def test_quoted(self) -> None:
        """Quoted values may be in a query; two quoters serve LDAP."""
        for text, query in (
            ("mysql{'${quote_mysql:$sender_address}'}", r"'o\'x@a.example'"),
            ("pgsql{'${quote_pgsql:$sender_address}'}", "'o''x@a.example'"),
            ("sqlite{${quote_sqlite:$sender_address}}", "o''x@a.example"),
            (
                "ldapm{ldap:///${quote_ldap_dn:$sender_address}?cn?sub?"
                "(m=${quote_ldap:$sender_address})}",
                "ldap:///o'x%40a.example?cn?sub?(m=o'x%40a.example)",
            ),
            ("dnsdb{a=$sender_address}", "a=o'x@a.example"),
            ("passwd{$sender_address}", "o'x@a.example"),
        ):
            self.assertEqual(expand(f"${{lookup {text}}}", self.scope()), "found")
            self.assertEqual(self.recorder.queries.pop(), query)

    def test_own_text(self) -> None:
        """The configuration's own text needs no quoter."""
        expand("${lookup mysql{select '$primary_hostname'}}", self.scope())
        self.assertEqual(self.recorder.queries, ["select 'mail.example.com'"])

    def test_a_quoted_value_is_no_path(self) -> None:
        """It keeps its mark for everything else."""
        reason = failure("${lookup{x}lsearch{${quote_mysql:$sender_address}}}", self.scope())
        self.assertIn("tainted file name", reason)


class WholeNamesTests(SynchronousTestCase):
    def test_order(self) -> None:
        """Whole names at the start of a domain list are a table; what follows keeps its order."""
        for text, subject, wanted in (
            ("a.example : B.example", "b.Example", True),
            ("a.example : b.example", "c.example", False),
            ("a.example : !a.example : b.example", "a.example", True),
            ("!a.example : a.example", "a.example", False),
            ("a.example : !b.example", "c.example", True),
            ("a.example : !*.example : c.example", "c.example", False),
        ):
            found = drive(lists.match_domain(compile_string(text), subject, make_scope()))
            self.assertEqual(found is not None, wanted, text)


class KeyTests(SynchronousTestCase):
    """``ret=key``: the key in the place of the data, marked unless the file has it as it is."""

    table: ClassVar = {"a": "1", "*": "2"}

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find (ILookup)."""
        return self.table.get(key)

    def test_mark(self) -> None:
        scope = make_scope(message=Transaction(sender=Tainted("a@x")), lookup=lambda name: self)
        for text, key, marked in (
            ("${lookup{$sender_address_local_part}lsearch,ret=key{/f}}", "a", False),
            ("${lookup{$sender_address_domain}lsearch*,ret=key{/f}}", "x", True),
            ("${lookup{$sender_address_local_part}nwildlsearch,ret=key{/f}}", "a", True),
        ):
            found = expand(text, scope)
            self.assertEqual((found, is_tainted(found)), (key, marked), text)

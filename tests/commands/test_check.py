"""``mailsrv check`` finds the mistakes, and is silent about good configurations."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from mailsrv.commands.check import findings
from mailsrv.commands.main import main
from mailsrv.config.read import read
from tests.config.files import FileTestCase

ROOT = Path(__file__).parents[2]
OUT = """
begin routers
out:
  driver = dnslookup
  transport = smtp
begin transports
smtp:
  driver = smtp
"""
END = "\n transport = t\nbegin transports\nt:\n driver = smtp\n"
PLAIN = "begin authenticators\np:\n  driver = plaintext\n  public_name = PLAIN\n"
EMPTY = "server_condition = ${if eq{$auth3}{${lookup{$auth2}lsearch{/etc/none}}}}"
TLS = "  server_advertise_condition = ${if def:tls_in_cipher}\n"


class CheckTestCase(FileTestCase):
    def found(self, text: str) -> list[str]:
        """What is found, each as ``line: problem``."""
        configuration = read(self.file(text))
        return sorted(
            f"{finding.where.line if finding.where else 0}: {finding.problem}"
            for finding in set(findings(configuration))
        )

    def one(self, text: str, problem: str) -> None:
        found = self.found(text)
        self.assertEqual(len(found), 1, found)
        self.assertRegex(found[0], problem)


class MistakeTests(CheckTestCase):
    def test_what_exim_finds_at_run_time(self) -> None:
        for text, problem in {
            "smtp_banner = ${if": "^1: smtp_banner: ",
            "smtp_banner = $nosuch": '^1: smtp_banner: unknown variable name "nosuch"',
            "host_lookup = +nowhere": '^1: there is no hostlist called "nowhere"',
            "daemon_smtp_ports = nosuch": '^1: .*"nosuch"',
            "begin routers\nr:\n driver = accept\n transport = t": '^4: .*"t" is not defined',
            "begin acl\na:\n accept control = nosuch": '^3: syntax error in "control=nosuch"',
        }.items():
            self.one(text, problem)

    def test_acls_that_are_not_there(self) -> None:
        self.one("acl_smtp_rcpt = chek_rcpt", "^1: acl_smtp_rcpt: there is no ACL called")
        self.one("begin acl\na:\n deny acl = other", "^3: acl: there is no ACL called .other.")
        self.one("acl_smtp_mail = accept hots = x", "^1: acl_smtp_mail: unknown ACL condition")

    def test_conditions_that_the_phase_cannot_have(self) -> None:
        for text, problem in {
            "acl_smtp_mail = a\nbegin acl\na:\n deny domains = x": "^4: .domains = x. .*MAIL ACL",
            "acl_smtp_data = a\nbegin acl\na:\n deny verify = recipient": "^4: .*DATA ACL",
            "acl_smtp_rcpt = a\nbegin acl\na:\n deny acl = b\nb:\n deny regex = x": "^6: .*RCPT",
            "acl_smtp_connect = a\nbegin acl\na:\n warn control = freeze": "^4: .*connection ACL",
            "acl_smtp_helo = deny encrypted = *": "^1: .*EHLO or HELO ACL",
        }.items():
            self.one(text, problem)

    def test_variables_that_are_never_set(self) -> None:
        for text, problem in {
            "acl_smtp_mail = a\nbegin acl\na:\n deny message = $local_part": r"^4: \$local_part",
            "acl_smtp_rcpt = a\nbegin acl\na:\n deny message = $h_subject:": r"^4: \$h_subject",
            "acl_smtp_connect = a\nbegin acl\na:\n deny message = $sender_address": r"^4: \$sen",
            "smtp_banner = hello $sender_address": r"^1: \$sender_address .* smtp_banner",
            f"begin routers\nr:\n driver = accept\n address_data = $auth1{END}": r"^4: \$auth1",
        }.items():
            self.one(text, problem)

    def test_what_nothing_reaches(self) -> None:
        self.one(
            "begin acl\na:\n accept\n  message = x\n deny hosts = *", "^5: this statement is n"
        )
        self.one(
            "begin routers\na:\n driver = accept\n transport = t\nb:\n driver = accept\n"
            f" domains = x{END}",
            "^5: router b is never reached: a ",
        )

    def test_values_that_are_refused_as_tainted(self) -> None:
        box = "begin transports\nt:\n driver = appendfile\n file = "
        self.one(f"{box}$h_x-file:", "^4: a path .* cannot begin with what a peer chose")
        self.one("acl_smtp_rcpt = $sender_address", "^1: an ACL's name cannot begin with")
        router = "begin routers\nr:\n driver = accept\n"
        query = "${lookup mysql{SELECT x FROM y WHERE z='%s'}}"
        bad, good = query % "$local_part", query % "${quote_mysql:$local_part}"
        bad_one = self.found(f"{router} address_data = {bad}{END}")
        self.assertTrue(any("mysql query without being quoted" in text for text in bad_one))
        fine = self.found(f"{router} domains = {good}{END}")
        self.assertFalse(any("quoted" in text for text in fine))

    def test_logins_in_clear(self) -> None:
        good = "  server_condition = no\n"
        self.one(PLAIN + good, "^2: authenticator p offers PLAIN without TLS")
        for fine in (
            PLAIN + good + TLS,
            f"auth_advertise_hosts = ${{if def:tls_in_cipher{{*}}}}\n{PLAIN}{good}",
            f"daemon_smtp_ports = 465\ntls_on_connect_ports = 465\n{PLAIN}{good}",
        ):
            self.assertEqual(self.found(fine), [])

    def test_an_empty_password(self) -> None:
        """The article's condition; mailsrv refuses an empty password, unless it is told not to."""
        login = f"{PLAIN}{TLS}  {EMPTY}\n"
        self.assertEqual(self.found(login), [])
        self.one(f"{login}  server_allow_empty_password\n", "^6: .* with an empty password")
        safe = login.replace("${if eq", "${if and{{!eq{$auth3}{}}{eq").replace("}}}}", "}}}}}}")
        self.assertEqual(self.found(f"{safe}  server_allow_empty_password\n"), [])


class RelayTests(CheckTestCase):
    def test_open(self) -> None:
        for acl, lines in {
            " accept": "4",
            " require verify = sender\n accept": "4, 5",
            " deny hosts = 10.0.0.0/8\n accept": "5",
            " accept hosts = !10.0.0.0/8": "4",
            " accept domains = !here.example": "4",
            " accept local_parts = postmaster": "4",
            " accept senders = *@here.example": "4",
            " accept condition = yes": "4",
            " deny condition = ${if eq{$domain}{other.example}}\n accept": "5",
            " require acl = b\n accept\nb:\n accept verify = recipient": "7, 4, 5",
            " deny dnslists = bl.example\n accept": "5",
            " deny domains = bad.example\n accept hosts = *": "5",
        }.items():
            self.one(
                f"acl_smtp_rcpt = a\nbegin acl\na:\n{acl}\n{OUT}",
                f": open relay: .* by lines {lines}$",
            )
        self.one(f"acl_smtp_rcpt = accept\n{OUT}", "^1: open relay")

    def test_closed(self) -> None:
        lists = "domainlist ours = here.example : lsearch;/x\nhostlist relays = 10.0.0.0/8 : ::1\n"
        for acl in (
            " accept authenticated = *",
            " accept hosts = +relays",
            " accept hosts = : 192.0.2.0/24 : *.here.example",
            " accept domains = +ours",
            " accept local_parts = postmaster\n  domains = +ours",
            " require domains = +ours\n accept",
            " deny !domains = +ours\n  !hosts = +relays\n accept",
            " accept domains = +ours\n  endpass\n  verify = recipient",
            " accept condition = ${if match_domain{$domain}{+ours}}",
            " accept condition = ${lookup{$sender_host_address}lsearch{/x}{yes}{no}}",
            " require acl = b\n accept\nb:\n accept domains = +ours",
            " accept recipients = postmaster@here.example",
            " accept encrypted = *\n  verify = certificate",
            " deny message = no",
        ):
            text = f"{lists}acl_smtp_rcpt = a\nbegin acl\na:\n{acl}\n{OUT}"
            self.assertEqual(self.found(text), [], acl)

    def test_other_things_that_close_it(self) -> None:
        acl = "begin acl\na:\n accept\nb:\n require authenticated = *\n accept\n"
        for fine in (
            f"acl_smtp_mail = b\nacl_smtp_rcpt = a\n{acl}{OUT}",
            f"local_interfaces = 127.0.0.1 : ::::1\nacl_smtp_rcpt = a\n{acl}{OUT}",
            f"acl_smtp_rcpt = a\n{acl}",
            f"domainlist d = x.example\nacl_smtp_rcpt = a\n{acl}"
            + OUT.replace("  transport", "  domains = +d\n  transport"),
            OUT,
        ):
            self.assertEqual(self.found(fine), [])


class GoodConfigurationTests(CheckTestCase):
    def test_delivered_ones(self) -> None:
        """All that come with mailsrv, and those that the tests use."""
        paths = sorted([*ROOT.glob("conf/*.conf"), *ROOT.glob("tests/scenarios/*.conf")])
        self.assertGreater(len(paths), 8)
        for path in paths:
            text = path.read_text("latin-1")
            text = re.sub(r"(?m)^(exim_user|exim_group|never_users) = .*$", r"\1 = daemon", text)
            text = re.sub(r"\bT_(SMTP|SUBMISSION|NEXT|HOP)\b", "2525", text)
            text = re.sub(r"(?m)^workers = T_.*$", "", text)
            text = re.sub(r"(?m)^ *T_[A-Z]+$", "", text)
            text = text.replace("T_DNS", "127.0.0.1")
            text = re.sub(r"\b[TD][A-Z]*_(FOLDER|VAR|LMTP|AUTH)\b", "/x", text)
            self.assertEqual(self.found(text), [], path.name)


class CommandTests(CheckTestCase):
    def run_main(self, *words: str) -> tuple[int, str]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = main(words)
        return status, self.bare(out.getvalue())

    def test_output(self) -> None:
        path = self.file(f"acl_smtp_rcpt = accept\nhost_lookup = +x\n{OUT}")
        status, text = self.run_main("-C", path, "check")
        self.assertEqual(status, 1)
        first, mend, second = text.splitlines()
        self.assertRegex(first, "^line 1 of exim.conf: open relay: ")
        self.assertRegex(mend, "^  mend: accept only with")
        self.assertRegex(second, "^line 2 of exim.conf: there is no hostlist")

    def test_nothing_found(self) -> None:
        path = self.file("split_spool_directory\n")
        self.assertEqual(
            self.run_main("-C", path, "check"),
            (
                0,
                "warning: line 1 of exim.conf: split_spool_directory has no effect here: mailsrv's "
                "spool is a database\nexim.conf: nothing found\n",
            ),
        )

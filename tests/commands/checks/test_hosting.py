"""Nothing is found in a whole configuration of usual make, and each mistake that is put in is."""

from __future__ import annotations

from pathlib import Path

from tests.commands.checks.case import CheckTestCase

TEXT = Path(__file__).with_name("hosting.conf").read_text()
# What is replaced, by what, and what is found then.
MISTAKES = (
    ("         authenticated = *\n  deny message = relay", "  deny message = relay", "open relay"),
    ("relay_hosts = net-lsearch;/etc/virtual/pophosts", "relay_hosts = 0.0.0.0/0", "open relay"),
    ("127.0.0.1 : ::::1\n", "127.0.0.1 : ! ::::1\n", "open relay"),
    ("+whitelist_senders\n         domains = +relay_to_domains", "+whitelist_senders", "relay"),
    ("accept domains = +relay_to_domains\n", "accept domains = *.com\n", "open relay"),
    ("  accept hosts = :\n", "  accept hosts = *.net\n", "open relay"),
    ("  warn set acl_m_score = 0", "  deny domains = +local_domains", '"domains = .*MAIL ACL'),
    ("${if eq{$sender_helo_name}{$primary", "${if eq{$sender_address}{$primary", "never set"),
    ("acl_smtp_data = acl_check_message", "acl_smtp_data = acl_check_data", "no ACL called"),
    ("deny senders = lsearch", "deny senders = +nosuch : lsearch", "addresslist"),
    ("${if eq{$tls_in_cipher}{}{}{*}}", "*", "PLAIN without TLS"),
    ("{!eq{$auth3}{}}{crypteq{$auth3}", "{!eq{$auth3}{}}{!crypteq{$auth3}", "any password"),
    ("file = /var/mail/$local_part_data", "file = ${local_part}", "what a peer chose"),
    ("'${quote_pgsql:$auth1}'", "'$auth1'", "without being quoted"),
    ("condition = ${lookup{$local_part}lsearch{/etc/virtual/$domain_data/passwd}{yes}{no}}\n"
     "  transport = virtual\nsystem:\n  driver = accept\n  check_local_user",
     "transport = virtual\nsystem:\n  driver = accept\n  domains = lsearch;/etc/virtual/domains\n",
     "router system is never reached"),
    ("  accept hosts = +relay_hosts\n  deny message", "  accept\n  deny message", "never reached"),
)  # fmt: skip


class HostingTests(CheckTestCase):
    def test_nothing_is_found(self) -> None:
        self.assertEqual(self.found(TEXT), [])

    def test_mistakes(self) -> None:
        for old, new, problem in MISTAKES:
            if old not in TEXT:
                self.fail(old)
            found = self.found(TEXT.replace(old, new, 1))
            self.assertRegex("\n".join(found) or "nothing", problem, (new, found))

"""Open relays are found in every disguise, and closed ones are left in peace."""

from __future__ import annotations

import re

from tests.commands.checks.case import OUT, CheckTestCase

LISTS = """\
domainlist ours = here.example : lsearch;/x
hostlist relays = 10.0.0.0/8 : ::1
hostlist bad = 198.51.100.0/24
domainlist all = *
acl_smtp_rcpt = a
begin acl
a:
"""
_LINE = re.compile("(?<=by lines )[0-9, ]+$")


class OpenRelayTests(CheckTestCase):
    def relay(self, acl: str) -> str:
        """Tell the lines of what is found, "" for nothing; the first statement is in line 1."""
        found = [each for each in self.found(f"{LISTS}{acl}\n{OUT}") if "open relay" in each]
        if not found:
            return ""
        lines = _LINE.search(found[0])
        assert lines is not None, found
        return ", ".join(str(int(line) - 7) for line in lines[0].split(","))

    def test_open(self) -> None:
        expected = {
            " accept": "1",
            " require verify = sender\n accept": "1, 2",
            " deny hosts = 10.0.0.0/8\n accept": "2",
            " accept hosts = !10.0.0.0/8": "1",
            " accept domains = !here.example": "1",
            " accept local_parts = postmaster": "1",
            " accept senders = *@here.example": "1",
            " accept condition = yes": "1",
            " deny condition = ${if eq{$domain}{other.example}}\n accept": "2",
            " require acl = b\n accept\nb:\n accept verify = recipient": "4, 1, 2",
            " deny dnslists = bl.example\n accept": "2",
            " deny domains = bad.example\n accept hosts = *": "2",
            # a host list that has everybody in it, in disguise
            " accept hosts = 0.0.0.0/0": "1",
            " accept hosts = 10.0.0.0/8 : ::::/0": "1",
            " accept hosts = ! : *": "1",
            " accept hosts = <; 10.0.0.0/8 ; 0.0.0.0/1 ; 128.0.0.0/1": "1",
            " accept hosts = +include_unknown : *.here.example": "1",
            " accept hosts = *.com : *.here.example": "1",
            " accept hosts = ^.*\\.net\\$": "1",
            " accept hosts = ${if eq{$sender_host_name}{}{*}}": "1",
            " accept condition = ${if match_ip{$sender_host_address}{0.0.0.0/0}}": "1",
            " accept condition = ${if !match_ip{$sender_host_address}{10.0.0.0/8}}": "1",
            " accept condition = ${if isip{$sender_host_address}}": "1",
            " accept !hosts = +bad": "1",
            " accept hosts = +relays : !+bad": "1",
            " accept hosts = <; 10.0.0.0/8 ; ! 192.0.2.1": "1",
            " accept domains = +ours : !bad.example": "1",
            " accept domains = +ours : +all": "1",
            " deny !encrypted = *\n accept": "2",
            # the last item is no exception, and so the list is none of all others
            " deny hosts = !+relays : +bad\n accept": "2",
            " require !hosts = +bad\n accept": "1, 2",
            " deny hosts = +relays\n domains = +ours\n accept": "3",
            " accept condition = ${if eq{${lookup{$domain}lsearch{/x}}}{}}": "1",
            # domains
            " accept domains = !+ours": "1",
            " accept domains = *.com : *.org": "1",
            " accept domains = ^.*": "1",
            " accept condition = ${if !match_domain{$domain}{+ours}}": "1",
            " accept condition = ${if match{$domain}{\\N\\.(com|net)$\\N}}": "1",
            " accept domains = $domain": "1",
            " accept recipients = postmaster@* : *@+ours": "1",
            " accept recipients = *@*": "1",
            # what the peer says of itself
            " accept sender_domains = +ours": "1",
            " accept senders = :": "1",
            " accept condition = ${if eq{$sender_address_domain}{here.example}}": "1",
            " accept condition = ${if match_domain{$sender_address_domain}{+ours}}": "1",
            " accept condition = ${if match{$sender_address}{\\N@here\\.example$\\N}}": "1",
            " accept condition = ${if eq{$sender_helo_name}{trusted.here.example}}": "1",
            " accept condition = ${if eq{$local_part}{abuse}}": "1",
            " accept condition = ${if def:tls_in_cipher}": "1",
            " accept encrypted = *": "1",
            " accept condition = ${if eq{$tls_in_sni}{relay.here.example}}": "1",
            " accept condition = ${if >{$rcpt_count}{0}}": "1",
            " accept condition = ${if <{$message_size}{1000}}": "1",
            " accept condition = ${if eqi{${domain:$sender_address}}{Here.Example}}": "1",
            " accept condition = ${if match_local_part{$local_part}{postmaster}}": "1",
            " accept condition = ${if or{{match_domain{$domain}{+ours}}{def:sender_address}}}": "1",
            " accept verify = helo": "1",
            " accept verify = reverse_host_lookup": "1",
            # what is in a file, or matches, because the peer has chosen it so
            " accept condition = ${lookup{$sender_address}lsearch{/x}{yes}{no}}": "1",
            " accept condition = ${lookup{$sender_address_domain}nwildlsearch{/x}{yes}{no}}": "1",
            " accept condition = ${lookup{$local_part}lsearch{/x}{yes}{no}}": "1",
            " accept condition = ${lookup sqlite{/x select 1 where a='"
            "${quote_sqlite:$sender_address}'}{yes}{no}}": "1",
            " accept condition = ${if match{$sender_helo_name}{\\N^pc-\\d{2,3}$\\N}}": "1",
            " deny condition = ${if !match{${lc:$sender_address}}{^x\\d+@y}}\n accept": "2",
            # ACLs in strings
            " accept condition = ${acl{b}}\nb:\n accept message = yes": "1",
            " accept condition = ${if acl{{b}}}\nb:\n deny hosts = +bad\n accept": "1",
            " accept condition = ${if acl{{b}{x}}{yes}{no}}\nb:\n"
            " accept condition = ${if eq{$acl_arg1}{x}}": "1",
            " deny condition = ${if !acl{{b}}}\n accept\nb:\n accept verify = sender": "2",
            " accept set acl_m0 = 1\n condition = ${if acl{{b}}}\nb:\n"
            " accept condition = $acl_m0": "1",
            # networks that are nobody's own
            " accept hosts = 0.0.0.0/1": "1",
            " accept hosts = 64.0.0.0/2": "1",
            " accept hosts = 4.0.0.0/6 : 10.0.0.1": "1",
            " accept hosts = <; 2000::/4": "1",
            " accept condition = ${if match_ip{$sender_host_address}{64.0.0.0/2}}": "1",
            # names that end as a list asks
            " accept hosts = *.edu": "1",
            " accept hosts = *.co.uk : 10.0.0.1": "1",
            " accept domains = *.museum": "1",
            # constants, and conditions that are nothing
            " accept condition = 1": "1",
            " accept condition = ${if eq{a}{a}}": "1",
            " accept condition = ${if eq{a}{b}{no}{yes}}": "1",
            " accept condition = ${lookup{$sender_host_address}lsearch{/x}{yes}fail}": "1",
            " require condition = true\n accept": "1, 2",
            " require message = who are you\n accept": "1, 2",
            " accept condition = ${if !def:authenticated_id}": "1",
            " accept !authenticated = *": "1",
            # other verbs before it
            " deny domains = +ours\n accept": "2",
            " warn hosts = +relays\n control = submission\n accept": "3",
            " defer hosts = +relays\n accept": "2",
            " discard senders = :\n accept": "2",
            " drop hosts = +bad\n accept": "2",
            " accept hosts = +relays\n endpass\n verify = sender\n accept": "4",
            " accept hosts = *\n endpass\n verify = recipient": "1",
            # ACLs in ACLs
            " accept acl = b\nb:\n accept hosts = !+relays": "3, 1",
            " accept !acl = b\nb:\n deny hosts = *": "1",
            " deny !acl = b\n accept\nb:\n accept": "2",
            " accept acl = b $domain\nb:\n accept condition = ${if eq{$acl_arg1}{$domain}}": "3, 1",
            " accept acl = ${if eq{1}{1}{b}}\nb:\n accept": "3, 1",
            " accept acl = accept hosts = *": "1, 1",
            # variables
            " warn set acl_m_ok = yes\n accept condition = $acl_m_ok": "2",
            " warn hosts = *\n set acl_c0 = 1\n accept condition = $acl_c0": "3",
            " warn senders = *@here.example\n set acl_m0 = 1\n accept condition = $acl_m0": "3",
            " warn set acl_m_d = $sender_address_domain\n accept condition = "
            "${if eq{$acl_m_d}{here.example}}": "2",
            " warn acl = b\n accept condition = $acl_m0\nb:\n accept set acl_m0 = 1": "2",
        }
        wrong = {acl: (self.relay(acl), lines) for acl, lines in expected.items()}
        self.assertEqual({acl: pair for acl, pair in wrong.items() if pair[0] != pair[1]}, {})
        self.one(f"acl_smtp_rcpt = accept\n{OUT}", "^1: open relay")

    def test_closed(self) -> None:
        closed = (
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
            " accept hosts = ${if eq{1}{2}{*}fail}",
            " accept hosts = ! *",
            " accept hosts = @[] : @",
            " accept hosts = net-lsearch;/x : lsearch;/x",
            " accept hosts = *.here.example : relay.example",
            " accept hosts = +ignore_unknown : *.here.example",
            " accept hosts = 203.0.112.0/24",
            " accept hosts = <; 9.0.0.0/8 ; 2001:db8::/32 ; fc00::/7 ; fe80::/10 ; 224.0.0.0/4",
            " accept domains = @ : @[] : @mx_any",
            " accept domains = lsearch*;/x : partial-lsearch;/x",
            " accept domains = *.here.example : ^.*\\.here\\.example$",
            " accept recipients = *@+ours",
            " accept recipients = postmaster@here.example : *@lsearch;/x",
            " accept condition = ${lookup{$local_part@$domain}lsearch{/x}{yes}{no}}",
            " accept condition = ${lookup{$sender_host_address,$sender_address}lsearch{/x}{1}{0}}",
            " accept condition = ${if and{{match{$sender_address}{x}}{eq{$domain}{here.example}}}}",
            " accept condition = ${if match{$domain}{\\N^mail\\d\\.here\\.example$\\N}}",
            " accept condition = ${if match{$authenticated_id}{.}}",
            " accept condition = ${acl{b}}\nb:\n accept message = ${if eq{$domain}{x.y}{yes}{no}}",
            " accept condition = ${if acl{{b}}}\nb:\n accept domains = +ours",
            " accept condition = ${if acl{{a}}}",
            " deny condition = ${if !acl{{b}}}\n accept\nb:\n accept hosts = +relays",
            " accept condition = ${acl{nosuch}}",
            " accept condition = no",
            " accept condition = ${if eq{a}{b}}",
            " accept condition = ${if def:authenticated_id}",
            " accept condition = ${if and{{eq{$sender_address_domain}{here.example}}"
            "{match_domain{$domain}{+ours}}}}",
            " accept condition = ${if match_ip{$sender_host_address}{+relays}}",
            " accept condition = ${run{/bin/echo yes}}",
            " require condition = ${readsocket{/run/x}{$sender_host_address}}\n accept",
            " accept python = known{$sender_host_address}",
            " defer !domains = +ours\n accept",
            " discard !domains = +ours\n accept",
            " drop !domains = +ours\n accept",
            " discard",
            " warn !domains = +ours\n set acl_m_no = 1\n deny condition = $acl_m_no\n accept",
            " warn hosts = +relays\n set acl_m0 = 1\n accept condition = $acl_m0",
            " warn set acl_m0 = 1\n warn set acl_m0 = 0\n accept condition = $acl_m0",
            " warn set acl_m0 = ${if match_domain{$domain}{+ours}{y}{n}}\n"
            " accept condition = ${if eq{$acl_m0}{y}}",
            " accept hosts = *\n endpass\n domains = +ours\n accept",
            " accept acl = b\nb:\n deny !hosts = +relays\n accept",
            " deny acl = b\n accept\nb:\n accept !domains = +ours",
            " accept !acl = b\nb:\n accept",
            " accept acl = b $domain\nb:\n accept condition = ${if match_domain{$acl_arg1}{+ours}}",
            " accept acl = ${if eq{1}{1}{b}}\nb:\n accept domains = +ours",
            " accept acl = a",
            " deny condition = ${if !match_domain{$domain}{+ours}}\n accept",
            " require authenticated = *\n accept",
            " accept encrypted = *\n authenticated = *",
            " accept verify = certificate",
            " deny hosts = !+relays\n domains = !+ours\n accept",
            " accept domains = +ours : +all\n authenticated = *",
            " accept condition = ${if eq{$tls_in_peerdn}{CN=client}}",
            " accept condition = ${if eq{$tls_in_certificate_verified}{1}}",
            " accept hosts = net-dbm;/var/popauth",
            " accept condition = ${prvscheck{$local_part@$domain}{secret}{1}}",
            " accept domains = ${lookup{$domain}lsearch{/x}{$domain}}",
        )
        wrong = {acl: self.relay(acl) for acl in closed}
        self.assertEqual({acl: lines for acl, lines in wrong.items() if lines}, {})

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

    def test_lists_and_statements_in_files(self) -> None:
        everybody = self.file("# the world\n10.0.0.0/8\n0.0.0.0/0\n", "everybody")
        one = self.file("10.0.0.0/8\n", "one")
        self.assertEqual(self.relay(f" accept hosts = {everybody}"), "1")
        self.assertEqual(self.relay(f" accept hosts = {one}"), "")
        part = self.file("  accept\n", "part")
        found = self.found(f"{LISTS} require verify = sender\n.include {part}\n{OUT}")
        self.assertRegex(found[0], "by lines line 8 of .*exim.conf, line 1 of .*part$")

    def test_the_port_decides(self) -> None:
        acls = f"begin acl\na:\n require authenticated = *\n accept\nb:\n accept\n{OUT}"
        ports = "daemon_smtp_ports = 25 : 587\n"
        chosen = "acl_smtp_rcpt = ${if eq{$interface_port}{587}{%s}{%s}}\n"
        for names, count in ((("a", "b"), 1), (("b", "a"), 1), (("a", "a"), 0)):
            found = self.found(ports + chosen % names + acls)
            self.assertEqual(len([each for each in found if "open relay" in each]), count, names)

    def test_tls_decides(self) -> None:
        acls = f"begin acl\na:\n require authenticated = *\n accept\nb:\n accept\n{OUT}"
        for chosen in ("{$tls_in_cipher}{}{a}{b}", "{$sender_address_domain}{x.y}{b}{a}"):
            found = self.found(f"acl_smtp_rcpt = ${{if eq{chosen}}}\n{acls}")
            self.assertEqual(len([each for each in found if "open relay" in each]), 1, chosen)

    def test_routers_that_send_nothing_on(self) -> None:
        head = f"{LISTS} accept\nbegin routers\n"
        transports = "begin transports\nsmtp:\n driver = smtp\nbox:\n driver = lmtp\n socket = /x\n"
        out = "out:\n driver = dnslookup\n transport = smtp\n"
        for routers, is_open in {
            out: True,
            f"r:\n driver = redirect\n allow_fail\n domains = !+ours\n"
            f" data = :fail: no\n{out}": False,
            f"r:\n driver = accept\n transport = box\n{out}": False,
            f"r:\n driver = accept\n local_parts = x\n transport = box\n{out}": True,
            f"{out} condition = ${{if def:authenticated_id}}\n": False,
            f"{out} condition = ${{if !def:authenticated_id}}\n": True,
            f"{out} domains = +ours\n": False,
            f"{out} domains = ! +ours\n": True,
            "r:\n driver = manualroute\n transport = smtp\n route_list = * hub\n": True,
            "r:\n driver = manualroute\n transport = smtp\n route_list = here.example hub\n": False,
            "r:\n driver = manualroute\n transport = smtp\n"
            " route_data = ${lookup{$domain}lsearch{/x}}\n": False,
            "r:\n driver = accept\n transport = smtp\n": True,
        }.items():
            found = self.found(head + routers + transports)
            self.assertEqual(any("open relay" in each for each in found), is_open, routers)

    def test_what_earlier_acls_remember(self) -> None:
        tail = f" accept\nb:\n accept condition = $acl_c_known\n{OUT}"
        head = "acl_smtp_helo = a\nacl_smtp_rcpt = b\nbegin acl\na:\n warn "
        for remember, is_open in {
            "condition = ${if eq{$sender_helo_name}{friend.example}}": True,
            "hosts = 10.0.0.0/8": False,
            "condition = ${if def:authenticated_id}": False,
            "hosts = *": True,
        }.items():
            found = self.found(f"{head}{remember}\n set acl_c_known = 1\n{tail}")
            self.assertEqual(any("open relay" in each for each in found), is_open, remember)

    def test_an_acl_in_a_file(self) -> None:
        path = self.file(" require verify = sender\n accept\n", "rcpt")
        self.assertRegex(self.found(f"acl_smtp_rcpt = {path}\n{OUT}")[0], "open relay")
        closed = self.file(" accept authenticated = *\n", "closed")
        self.assertEqual(self.found(f"acl_smtp_rcpt = {closed}\n{OUT}"), [])
        self.one(f"acl_smtp_rcpt = /nonexistent/x\n{OUT}", "^1: acl_smtp_rcpt: cannot read /non")

"""Routers and statements that nothing reaches."""

from __future__ import annotations

from tests.commands.checks.case import CheckTestCase

HEAD = """\
domainlist ours = here.example
hostlist relays = 10.0.0.0/8
hostlist all = *
acl_smtp_rcpt = a
begin acl
a:
"""
TRANSPORTS = "begin transports\nt:\n driver = smtp\nl:\n driver = lmtp\n socket = /x\n"
LOCAL = "\nlast:\n driver = accept\n domains = +ours\n transport = l\n"


class StatementTests(CheckTestCase):
    def never(self, acl: str) -> list[int]:
        """The lines of the ACL, counted from one, that are found."""
        found = self.found(HEAD + acl)
        return [int(each.partition(":")[0]) - 6 for each in found if " is never " in each]

    def test_unreachable(self) -> None:
        for acl, line in {
            " accept\n deny hosts = *": 2,
            " accept message = x\n deny hosts = 10.0.0.1": 2,
            " deny\n  message = x\n  log_message = y\n accept": 4,
            " drop set acl_m0 = x\n warn": 2,
            " discard control = freeze\n accept": 2,
            " defer delay = 1s\n accept": 2,
            " accept hosts = *\n deny hosts = 10.0.0.1": 2,
            " deny domains = *\n accept": 2,
            " accept condition = yes\n deny": 2,
            " accept condition = ${if eq{a}{a}}\n deny": 2,
            " accept condition = 1\n hosts = *\n require verify = sender": 3,
            " deny !condition = false\n accept": 2,
            " require condition = no\n accept": 2,
            " require condition = ${if eq{a}{b}}\n accept": 2,
            " accept hosts = *\n endpass\n verify = recipient\n deny": 4,
            # a second one with the same conditions
            " accept hosts = +relays\n deny hosts = +relays": 2,
            " deny domains = +ours\n accept hosts = +relays\n domains = +ours": 2,
            " accept domains = +ours\n endpass\n verify = recipient\n accept domains = +ours": 4,
            " deny !domains = +ours\n warn !domains = +ours\n set acl_m0 = x": 2,
            " accept authenticated = *\n deny authenticated = *\n encrypted =": 2,
            # one list has all of the other
            " accept hosts = 10.0.0.1 : 10.0.0.2\n deny hosts = 10.0.0.2": 2,
            " accept hosts = +relays\n deny hosts = 10.1.0.0/16 : 10.2.0.1": 2,
            " deny hosts = <; 2001:db8::/32 ; 10.0.0.1\n accept hosts = <; 2001:db8::1": 2,
            " deny hosts = <; 0.0.0.0/0 ; ::/0\n accept": 2,
            " accept domains = +ours : there.example\n deny domains = there.example": 2,
            " deny domains = *.example\n accept domains = Here.Example": 2,
            " deny senders = *@bad.example\n accept senders = x@bad.example": 2,
            " deny !domains = here.example : there.example\n deny !domains = *.example": 2,
            " deny domains = !here.example\n deny domains = !*.example": 2,
            " deny condition = ${if eq{$domain}{x}}\n deny condition = ${if eq{$domain}{x}}": 2,
        }.items():
            self.assertEqual(self.never(acl), [line], acl)

    def test_reached(self) -> None:
        for acl in (
            " deny hosts = 10.0.0.1\n accept",
            " warn\n accept",
            " warn hosts = *\n require verify = sender\n accept",
            " accept condition = no\n deny",
            " require condition = yes\n accept",
            " accept hosts = +relays\n deny domains = +ours",
            " accept hosts = +relays\n domains = +ours\n deny hosts = +relays",
            " accept hosts = +relays\n require hosts = +relays",
            " accept hosts = +relays\n deny !hosts = +relays",
            " accept hosts = +relays\n verify = sender\n deny hosts = +relays\n verify = sender",
            " deny condition = $acl_m0\n warn set acl_m0 = 1\n deny condition = $acl_m0",
            " deny ratelimit = 5 / 1h\n deny ratelimit = 5 / 1h",
            " accept dnslists = x.example\n deny dnslists = x.example",
            " accept acl = b\n deny\nb:\n accept hosts = +relays",
            " accept condition = ${if exists{/etc/open}}\n deny",
            " accept condition = ${lookup{x}lsearch{/etc/x}{yes}{no}}\n deny",
            " accept hosts = +relays\n endpass\n verify = recipient\n"
            " deny domains = +ours\n hosts = 172.16.0.1",
            " accept hosts = +relays : 10.1.0.0/16\n deny hosts = +relays : 11.0.0.0/8",
            " accept hosts = !+relays\n deny hosts = 10.0.0.1",
            " accept hosts = 10.0.0.1\n deny hosts = 10.0.0.0/8",
            " accept hosts = *.x.example\n deny hosts = 10.0.0.1",
            " accept hosts = lsearch;/x\n deny hosts = lsearch;/y",
            " accept hosts = +all\n deny",
            " deny senders = x@bad.example\n deny senders = *@bad.example",
            " deny local_parts = X\n deny local_parts = x",
            " accept domains = here.example\n deny domains = *.here.example",
            " accept domains = !+ours : there.example\n deny domains = there.example",
        ):
            self.assertEqual(self.never(acl), [], acl)


class RouterTests(CheckTestCase):
    def never(self, routers: str) -> list[str]:
        found = self.found(f"domainlist ours = here.example\nbegin routers\n{routers}{TRANSPORTS}")
        return [each.split()[2] for each in found if " is never reached" in each]

    def test_unreachable(self) -> None:
        for router in (
            "driver = accept\n transport = l",
            "driver = accept\n domains = *\n transport = l",
            "driver = accept\n condition = true\n transport = l",
            "driver = accept\n local_part_suffix = +*\n local_part_suffix_optional\n transport = l",
            "driver = accept\n domains = +ours\n transport = l",
            "driver = accept\n domains = here.example : there.example\n transport = l",
            "driver = accept\n local_parts = ^.*\n transport = l",
            "driver = accept\n condition = ${if eq{1}{1}}\n transport = l",
            "driver = accept\n domains = !+ours\n transport = t\n"
            "s:\n driver = accept\n domains = here.example\n transport = l",
            "driver = manualroute\n route_list = * hub.example\n transport = t",
            'driver = manualroute\n route_list = "* hub.example byname ; x y"\n transport = t',
            "driver = dnslookup\n no_more\n transport = t",
            "driver = dnslookup\n domains = +ours\n more = false\n transport = t",
            "driver = redirect\n allow_fail\n data = :fail: go away",
        ):
            self.assertEqual(self.never(f"r:\n {router}{LOCAL}"), ["last"], router)

    def test_reached(self) -> None:
        for router in (
            "driver = accept\n check_local_user\n transport = l",
            "driver = accept\n local_parts = x\n transport = l",
            "driver = accept\n domains = there.example\n transport = l",
            "driver = accept\n condition = ${if exists{/etc/x}}\n transport = l",
            "driver = accept\n domains = !+ours\n transport = t\n"
            "s:\n driver = accept\n domains = there.example\n transport = l",
            "driver = accept\n unseen\n transport = l",
            "driver = accept\n local_part_suffix = +*\n transport = l",
            "driver = accept\n condition = ${if eq{$domain}{x}}\n transport = l",
            "driver = accept\n verify_only\n transport = l",
            "driver = accept\n no_verify\n transport = l",
            "driver = accept\n address_data = ${lookup{$domain}lsearch{/x}{$value}fail}\n"
            " transport = l",
            "driver = manualroute\n route_list = x.example hub.example\n transport = t",
            "driver = manualroute\n domains = !+ours\n route_list = * hub.example\n transport = t",
            "driver = manualroute\n route_list = * hub.example\n host_find_failed = decline\n"
            " transport = t",
            "driver = manualroute\n route_data = ${lookup{$domain}lsearch{/x}}\n transport = t",
            "driver = manualroute\n self = pass\n route_list = * hub.example\n transport = t",
            "driver = dnslookup\n transport = t",
            "driver = dnslookup\n no_more\n self = pass\n transport = t",
            "driver = dnslookup\n no_more\n domains = !+ours\n transport = t",
            "driver = redirect\n no_more\n data = ${lookup{$local_part}lsearch{/etc/aliases}}",
        ):
            self.assertEqual(self.never(f"r:\n {router}{LOCAL}"), [], router)
        around = "first:\n driver = redirect\n data = ${lookup{x}lsearch{/x}}\n"
        all_taken = f"{around} redirect_router = last\nr:\n driver = accept\n transport = l{LOCAL}"
        self.assertEqual(self.never(all_taken), [])


class RetryTests(CheckTestCase):
    def test_rules(self) -> None:
        last = "* * F,4d,6h\n"
        for rules, line in {
            f"{last}x.example * F,1h,5m\n": 3,
            f"x.example * F,1h,5m\nx.example quota F,1h,5m\n{last}": 3,
            f"* quota F,1h,5m\n* quota senders=: F,1h,5m\n{last}": 3,
        }.items():
            self.one(f"begin retry\n{rules}", f"^{line}: this retry rule is never reached")
        for rules in (
            f"x.example * F,1h,5m\n{last}",
            f"* quota F,1h,5m\n{last}",
            f"* * senders=: F,1h,5m\n{last}",
            f"x.example quota F,1h,5m\nx.example * F,1h,5m\n{last}",
        ):
            self.assertEqual(self.found(f"begin retry\n{rules}"), [], rules)

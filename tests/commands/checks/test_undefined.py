"""Names that nothing has, and arguments that cannot be read, within any string."""

from __future__ import annotations

from tests.commands.checks.case import CheckTestCase

ACL = "acl_smtp_rcpt = a\nbegin acl\na:\n deny "
ROUTER = "begin routers\nr:\n driver = accept\n"
REDIRECT = "begin routers\nr:\n driver = redirect\n data = x\n"
HUB = "begin routers\nr:\n driver = manualroute\n transport = t\n route_list = * hub "
TRANSPORT = "\nbegin transports\nt:\n driver = smtp\n"


class UndefinedTests(CheckTestCase):
    def test_found(self) -> None:
        for text, problem in {
            f"{ACL}condition = ${{if match_domain{{$domain}}{{+nolist}}}}": (
                '^4: condition: there is no domainlist called "nolist"'
            ),
            f"{ACL}condition = ${{if match_ip{{$sender_host_address}}{{10.0.0.1:+nolist}}}}": (
                "^4: .* hostlist"
            ),
            f"{ACL}condition = ${{if match_address{{$sender_address}}{{+nolist}}}}": (
                "^4: .* addresslist"
            ),
            f"{ACL}condition = ${{if match_address{{$sender_address}}{{*@+nolist}}}}": (
                "^4: .* domainlist"
            ),
            f"{ACL}condition = ${{if and{{{{eq{{a}}{{b}}}}"
            "{match_local_part{$local_part}{!+nolist}}}}": "^4: .* localpartlist",
            f"{ACL}message = ${{listnamed:nolist}}": "^4: message: .*list called",
            f"{ACL}condition = ${{acl{{nosuch}}{{x}}}}": "^4: condition: there is no ACL called",
            f"{ACL}condition = ${{if acl{{{{nosuch}}}}}}": "^4: condition: there is no ACL called",
            "acl_smtp_mail = ${if eq{a}{b}{x}{nosuch}}": '^1: acl_smtp_mail comes to "nosuch"',
            f"{ACL}python = f{{x}}": "^4: python: there are no functions",
            f"{ACL}message = ${{python{{f}}}}": "^4: message: there are no functions",
            f"{ROUTER} transport = ${{if eq{{$domain}}{{x}}{{t}}{{nosuch}}}}{TRANSPORT}": (
                '^4: router r: transport comes to "nosuch"'
            ),
            f"{ROUTER} transport = ${{if eq{{$domain}}{{x}}{{nosuch}}{{t}}}}{TRANSPORT}": (
                '^4: router r: transport comes to "nosuch"'
            ),
            "acl_smtp_mail = ${if eq{$interface_port}{587}{${if def:tls_in_cipher{nosuch}}}}": (
                '^1: acl_smtp_mail comes to "nosuch"'
            ),
            f"{ACL}domains = ${{if eq{{$domain}}{{x.y}}{{x : +nolist}}{{y}}}}": (
                '^4: domains: there is no domainlist called "nolist"'
            ),
            f"{ACL}hosts = ${{lookup{{$domain}}lsearch{{/x}}{{! +nolist}}}}": "^4: .* hostlist",
            f"{TRANSPORT} hosts_require_tls = ${{if eq{{$host}}{{x}}{{+nolist}}}}": (
                "^5: hosts_require_tls: there is no hostlist"
            ),
            f"hostlist h = 10.0.0.1\n{ACL}message = ${{listnamed_d:h}}": (
                '^5: message: there is no domainlist called "h"'
            ),
            "begin rewrite\n*@+nolist $1@x.example": "^2: rewriting rule: there is no domainlist",
            HUB.replace("*", "x.example hub ; +nolist") + TRANSPORT: (
                "^5: route_list of router r: there is no domainlist"
            ),
            f"{HUB}nosuch{TRANSPORT}": '^5: router r: "nosuch" is no transport',
            f"{REDIRECT} redirect_router = nosuch": '^5: redirect_router "nosuch" not found',
            "begin retry\n*@+nolist * F,1h,5m": "^2: retry rule: there is no domainlist",
            "begin retry\n* * senders=+nolist F,1h,5m": "^2: retry rule: there is no addresslist",
            # malformed
            f"{ACL}condition = maybe": "^4: condition: .* neither true nor false",
            f"{ACL}condition = ${{if eq{{a}}{{b}}}}}}": '^4: condition comes to "}", which',
            f"{ACL}condition = $local_part": '^4: condition comes to "somebody"',
            f"{ACL}message = ${{sg{{$domain}}{{(}}{{x}}}}": "^4: message: regular expression error",
            f"{ACL}hosts = 0/0": '^4: hosts: "0/0" is no address',
            "hostlist h = 10.0.0.256 : ::::1": "^1: .* is no address",
            "hostlist h = 10.0.0.1/255.0.0.0": "^1: .* is no address",
            ACL.replace("rcpt", "connect") + "ratelimit = 5 / 1h / strict / per_addr": (
                '^4: ratelimit: "per_addr" must not have'
            ),
            f"{ACL}acl = ${{if eq{{$domain}}{{x}}{{a}}{{nosuch}}}}": '^4: acl comes to "nosuch"',
            f"{ACL}acl = no${{if eq{{1}}{{1}}{{such}}}}": '^4: acl comes to "nosuch"',
            ACL.replace("rcpt", "data") + "regex = x : [": "^4: regex: regular expression error",
            f"{ACL}delay = soon": "^4: delay: ",
            f"{ACL}ratelimit = x / 1h": "^4: ratelimit: ",
            f"{ACL}seen = x": "^4: seen: ",
            f"{ACL}dnslists = +nosuch": "^4: dnslists: ",
            f"{ACL}domains = lsaerch;/x": "^4: domains: unknown lookup type",
            f"{ACL}hosts = 10.0.0.0/99": "^4: hosts: ",
            f"{ACL}domains = ^(": "^4: domains: regular expression error",
            "host_lookup = net99-nosuch;/x": "^1: host_lookup: ",
            "domainlist x = lsearch;/x : nosuch;/y": "^1: .*unknown lookup type",
            "begin rewrite\n*@x.example ${lookup{$1}lsearch{/x}": "^2: rewriting rule: ",
        }.items():
            found = self.found(text)
            self.assertEqual(len(found), 1, (text, found))
            self.assertRegex(found[0], problem)

    def test_not_found(self) -> None:
        lists = "domainlist d = x\nhostlist h = 10.0.0.1\naddresslist a = x@y\n"
        for text in (
            f"{lists}{ACL}condition = ${{if match_domain{{$domain}}{{+d : !x.example}}}}",
            f"{lists}{ACL}condition = ${{if match_ip{{$sender_host_address}}{{<; +h ; ::1}}}}",
            f"{lists}{ACL}condition = ${{if match_address{{$sender_address}}{{+a : *@+d}}}}",
            f"{ACL}condition = ${{if match_address{{$sender_address}}{{+caseful : a+b@x}}}}",
            f"{lists}{ACL}message = ${{listnamed_d:d}}",
            f"{ACL}condition = ${{acl{{b}}{{x}}}}\nb:\n accept",
            "acl_smtp_mail = ${if eq{a}{b}{x}{a}}\nbegin acl\na:\n accept",
            f"{ROUTER} transport = ${{if eq{{x}}{{y}}{{nosuch}}{{t}}}}{TRANSPORT}",
            f"{lists}{ACL}domains = ${{if eq{{$domain}}{{x.y}}{{+d}}{{y}}}}",
            f"{lists}{ACL}domains = ${{if match_ip{{$sender_host_address}}{{+h}}{{+d}}}}",
            f"{ACL}hosts = ${{if eq{{$domain}}{{x.y}}{{+ignore_unknown : *.x}}}}",
            f"{lists}begin rewrite\n*@+d $1@x.example",
            f"{lists}{HUB.replace('*', '!+d')}{TRANSPORT}",
            f"{HUB}randomize byname t{TRANSPORT}",
            f"{REDIRECT} redirect_router = r",
            f"{ACL}condition = ${{if eq{{a}}{{b}}}}\n delay = 5s\n seen = -5m / key=x",
            f"{ACL}dnslists = +include_unknown : x.example=127.0.0.2/$sender_address_domain",
            f"{ACL}ratelimit = 5 / 1h / strict / per_rcpt",
            ACL.replace("rcpt", "connect") + "ratelimit = 5 / 1h / strict",
            f"{ACL}condition = ${{if match{{$domain}}{{\\N^x{{1,3}}$\\N}}}}",
            f"{ACL}hosts = 10.0.0.0/8 : ::::1 : @[] : +include_unknown : *.x : ^x : net-lsearch;/x",
            f"{ACL}senders = : *@x : ^x@ : lsearch;/x : @@lsearch;/x",
        ):
            self.assertEqual(self.found(text), [], text)

    def test_functions_in_python(self) -> None:
        good = self.file(
            "from os.path import basename\ndef f(x): return x\nasync def g(): pass\n", "good"
        )
        for calls, count in (
            ("python = f{x}\n message = ${python{g}} ${python{basename}{x}}", 0),
            ("python = nosuch{x}", 1),
            ("message = ${python{nosuch}}", 1),
            ("message = ${python{_f}}", 1),
        ):
            found = self.found(f"python_startup = {good}\n{ACL}{calls}")
            self.assertEqual(len(found), count, found)
        bad = self.file("x = 1\ndef f(:\n", "bad")
        for path, problem in (
            (bad, "^2: python_startup: invalid syntax"),
            ("/nonexistent/x.py", "^1: python_startup: cannot read"),
        ):
            self.assertRegex(self.found(f"python_startup = {path}\n{ACL}python = f")[0], problem)

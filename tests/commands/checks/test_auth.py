"""Logins in clear, and logins that need no password."""

from __future__ import annotations

from tests.commands.checks.case import CheckTestCase

PLAIN = "begin authenticators\np:\n  driver = plaintext\n  public_name = PLAIN\n"
EMPTY = "server_condition = ${if eq{$auth3}{${lookup{$auth2}lsearch{/etc/none}}}}"
TLS = "  server_advertise_condition = ${if def:tls_in_cipher}\n"
CRAM = "begin authenticators\nc:\n  driver = cram_md5\n  public_name = CRAM-MD5\n"


class AuthTests(CheckTestCase):
    def test_logins_in_clear(self) -> None:
        good = "  server_condition = no\n"
        self.one(PLAIN + good, "^2: authenticator p offers PLAIN without TLS")
        for fine in (
            PLAIN + good + TLS,
            f"auth_advertise_hosts = ${{if def:tls_in_cipher{{*}}}}\n{PLAIN}{good}",
            f"daemon_smtp_ports = 465\ntls_on_connect_ports = 465\n{PLAIN}{good}",
            "daemon_smtp_ports = 25 : 465\ntls_on_connect_ports = 465\n"
            f"auth_advertise_hosts = ${{if eq{{$received_port}}{{465}}{{*}}}}\n{PLAIN}{good}",
        ):
            self.assertEqual(self.found(fine), [])

    def test_whoever_it_is_offered_to(self) -> None:
        """One port, one protocol or one kind of name is enough."""
        good = f"{PLAIN}  server_condition = no\n"
        for head, advertise in (
            ("${if eq{$received_port}{587}{*}}", "yes"),
            ("${if eq{$interface_port}{25}{}{*}}", "yes"),
            ("<; ::/0", "yes"),
            ("*.com", "yes"),
            ("*", "${if eq{$received_port}{587}}"),
            ("*", "${if or{{def:tls_in_cipher}{eq{$received_port}{587}}}}"),
        ):
            text = f"daemon_smtp_ports = 25 : 587\nauth_advertise_hosts = {head}\n{good}"
            self.one(f"{text}  server_advertise_condition = {advertise}\n", "offers PLAIN without")

    def test_an_empty_password(self) -> None:
        """The article's condition; mailsrv refuses an empty password, unless it is told not to."""
        login = f"{PLAIN}{TLS}  {EMPTY}\n"
        self.assertEqual(self.found(login), [])
        self.one(f"{login}  server_allow_empty_password\n", "^6: .* with an empty password")
        safe = login.replace("${if eq", "${if and{{!eq{$auth3}{}}{eq").replace("}}}}", "}}}}}}")
        self.assertEqual(self.found(f"{safe}  server_allow_empty_password\n"), [])

    def test_an_empty_password_for_ldap(self) -> None:
        """A server takes it as a bind without a name; what looks at it first is safe."""
        query = 'user="cn=${quote_ldap_dn:$auth2}" pass=${quote:$auth3} ldap:///o=x?cn?base?'
        for condition in (
            f"${{if ldapauth{{{query}}}}}",
            f"${{if and{{{{def:auth2}}{{ldapauth{{{query}}}}}}}}}",
            f"${{lookup ldap{{{query}}}{{yes}}fail}}",
        ):
            login = f"{PLAIN}{TLS}  server_condition = {condition}\n"
            self.assertEqual(self.found(login), [])
            self.one(f"{login}  server_allow_empty_password\n", "^6: .* empty password: an LDAP")
        safe = f"${{if and{{{{!eq{{$auth3}}{{}}}}{{ldapauth{{{query}}}}}}}}}"
        login = f"{PLAIN}{TLS}  server_condition = {safe}\n  server_allow_empty_password\n"
        self.assertEqual(self.found(login), [])

    def test_tls_that_is_asked_for_the_wrong_way(self) -> None:
        good = f"{PLAIN}  server_condition = no\n"
        for condition in (
            "${if !def:tls_in_cipher}",
            "${if eq{$tls_in_cipher}{}}",
            "true",
            "${if eq{$sender_host_address}{10.0.0.1}{no}{yes}}",
        ):
            self.one(f"{good}  server_advertise_condition = {condition}\n", "offers PLAIN without")
        for fine in (
            f"{good}  server_advertise_condition = ${{if eq{{$tls_in_cipher}}{{}}{{no}}{{yes}}}}\n",
            f"{good}  server_advertise_condition = ${{if eq{{$sender_host_address}}{{::1}}}}\n",
            f"auth_advertise_hosts = 10.0.0.0/8 : ::::1\n{good}",
            f"auth_advertise_hosts =\n{good}",
            f"auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}\n{good}",
            good.replace("PLAIN", "GSSAPI"),
        ):
            self.assertEqual(self.found(fine), [], fine)

    def test_any_password(self) -> None:
        lookup = "${lookup{$auth2}lsearch{/x}{$value}%s}"
        for condition in (
            "true",
            "${if eq{1}{1}}",
            "${if !eq{$auth3}{}}",
            "${if eq{$auth2}{" + lookup % "{$auth2}" + "}}",
            "${if !saslauthd{{$auth2}{$auth3}}}",
            "${if pam{$auth2:$auth3}{yes}{yes}}",
            "${if or{{ldapauth{user=x pass=y ldap:///}}{def:auth3}}}",
            "${if !crypteq{$auth3}{" + lookup % "{*}" + "}}",
        ):
            self.one(
                f"{PLAIN}{TLS}  server_condition = {condition}\n",
                "^6: authenticator p lets an unknown user in with any password",
            )
        for condition in (
            "${if eq{$auth3}{" + lookup % "fail" + "}}",
            "${if crypteq{$auth3}{" + lookup % "{*:*}" + "}}",
            "${if and{{!eq{$auth3}{}}{eq{$auth3}{" + lookup % "" + "}}}}",
            "${if saslauthd{{$auth2}{$auth3}}}",
            "${if ldapauth{user=x pass=y ldap:///}}",
        ):
            found = self.found(f"{PLAIN}{TLS}  server_condition = {condition}\n")
            self.assertEqual([each for each in found if "lets" in each], [], condition)

    def test_a_password_that_nothing_looks_at(self) -> None:
        login = PLAIN.replace("PLAIN", "LOGIN")
        for text in (
            f"{PLAIN}{TLS}  server_condition = ${{lookup{{$auth2}}lsearch{{/x}}{{yes}}{{no}}}}\n",
            f"{PLAIN}{TLS}  server_condition = ${{if exists{{/home/$auth2}}}}\n",
            f"{login}{TLS}  server_condition = ${{lookup{{$auth1}}lsearch{{/x}}{{yes}}{{no}}}}\n",
        ):
            self.one(text, "^6: authenticator p never looks at the password")
        for text in (
            f"{PLAIN}{TLS}  server_condition = ${{if pam{{$2:$3}}}}\n",
            f"{login}{TLS}  server_condition = ${{if pam{{$auth1:$auth2}}}}\n",
            f"acl_smtp_rcpt = a\nbegin acl\na:\n deny\n"
            f"{PLAIN}{TLS}  server_condition = ${{if acl{{{{a}}}}}}\n",
        ):
            self.assertEqual(self.found(text), [], text)

    def test_an_empty_secret(self) -> None:
        lookup = "  server_secret = ${lookup{$auth1}lsearch{/x}{$value}%s}\n"
        self.one(CRAM + lookup % "", "^5: authenticator c lets an unknown user in with an empty pa")
        self.assertEqual(self.found(CRAM + lookup % "fail"), [])
        self.assertEqual(self.found(f"{CRAM}  server_secret = same for all\n"), [])

    def test_a_name_that_nobody_proves(self) -> None:
        head = "begin authenticators\ne:\n driver = external\n public_name = EXTERNAL\n"
        for condition, found in {
            "true": True,
            "${if !eq{$auth1}{}}": True,
            "${if eq{$auth1}{$tls_in_peerdn}}": False,
            "$tls_in_certificate_verified": False,
        }.items():
            text = f"{head} server_condition = {condition}\n"
            self.assertEqual(any("lets" in each for each in self.found(text)), found, condition)
        for offered, found in {
            "$tls_in_certificate_verified": False,
            "${if eq{$sender_host_address}{::1}}": False,
            "${if def:tls_in_cipher}": True,
            "${if eq{$tls_in_cipher}{}{}{*}}": True,
        }.items():
            text = f"{head} server_condition = true\n server_advertise_condition = {offered}\n"
            self.assertEqual(any("lets" in each for each in self.found(text)), found, offered)

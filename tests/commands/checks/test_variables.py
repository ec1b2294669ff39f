"""Variables that are never set where they stand."""

from __future__ import annotations

from tests.commands.checks.case import CheckTestCase

ROUTER = "begin routers\nr:\n driver = accept\n transport = t\n"
TRANSPORT = "begin transports\nt:\n driver = smtp\n"


def acl(phase: str, text: str) -> str:
    return f"acl_smtp_{phase} = a\nbegin acl\na:\n deny {text}"


class VariableTests(CheckTestCase):
    def test_never_set(self) -> None:
        for text, problem in {
            acl("mail", "message = $local_part"): r"^4: \$local_part .* MAIL ACL",
            acl("connect", "condition = ${if def:local_part_data}"): r"^4: \$local_part_data",
            acl("rcpt", "message = $h_subject:"): r"^4: \$h_subject",
            acl("rcpt", "condition = ${if match{$message_body}{x}}"): r"^4: \$message_body",
            acl("connect", "message = $sender_address"): r"^4: \$sender_address",
            acl("helo", "hosts = ${if eq{$sender_address_domain}{x}{*}}"): r"^4: \$sender_ad",
            acl("connect", "message = $sender_helo_name"): r"^4: \$sender_helo_name",
            acl("connect", "message = $tls_in_cipher"): r"^4: \$tls_in_cipher .* connection ACL",
            acl("starttls", "message = $tls_in_sni"): r"^4: \$tls_in_sni",
            acl("rcpt", "message = $recipients"): r"^4: \$recipients .* RCPT ACL",
            acl("rcpt", "logwrite = $message_exim_id"): r"^4: \$message_exim_id",
            acl("rcpt", "logwrite = $auth2"): r"^4: \$auth2",
            acl("data", "logwrite = $domain"): r"^4: \$domain .* DATA ACL",
            acl("rcpt", "logwrite = $smtp_notquit_reason"): r"^4: \$smtp_notquit_reason",
            acl("rcpt", "message = $max_received_linelength"): r"^4: \$max_received_linelength",
            acl(
                "data", "condition = ${if >{$spam_score_int}{50}}"
            ): r"^4: \$spam_score_int .* looks",
            acl("data", "message = $mime_filename"): r"^4: \$mime_filename",
            acl("data", "message = $dkim_cur_signer"): r"^4: \$dkim_cur_signer",
            acl("connect", "condition = ${if >{$rcpt_count}{3}}"): r"^4: \$rcpt_count",
            acl("helo", "message = $message_size"): r"^4: \$message_size",
            acl("rcpt", "message = $dnslist_text"): r"^4: \$dnslist_text .*nothing that sets",
            acl("rcpt", "message = $sender_rate"): r"^4: \$sender_rate",
            acl("rcpt", "condition = ${if eq{$runrc}{1}}"): r"^4: \$runrc",
            acl("rcpt", "message = $item"): r"^4: \$item is never set in the RCPT ACL",
            acl("rcpt", "message = ${if eq{$value}{x}}"): r"^4: \$value is never set",
            acl("rcpt", "condition = $acl_m_x"): r"^4: \$acl_m_x is never set: it is always empty",
            acl("rcpt", "set acl_m_x = 1\n message = ${if eq{$acl_c_x}{1}}"): r"^5: \$acl_c_x",
            acl("rcpt", "message = $acl_arg1"): r"^4: \$acl_arg1 .* nothing calls a with values",
            acl("rcpt", "acl = b\nb:\n deny message = $acl_narg"): r"^6: \$acl_narg",
            acl("rcpt", "logwrite = $router_name"): r"^4: \$router_name",
            "tls_advertise_hosts =\n" + acl("rcpt", "condition = ${if def:tls_in_cipher}"): (
                r"^5: \$tls_in_cipher .* \(there is no TLS\)"
            ),
            "smtp_banner = hello $sender_address": r"^1: \$sender_address .* smtp_banner",
            "host_lookup = ${if eq{$sender_helo_name}{x}{*}}": r"^1: \$sender_helo_name",
            "auth_advertise_hosts = ${if eq{$local_part}{x}{*}}": r"^1: \$local_part",
            f"{ROUTER} address_data = $auth1\n{TRANSPORT}": r"^5: \$auth1",
            f"{ROUTER} condition = ${{if def:recipients}}\n{TRANSPORT}": r"^5: \$recipients",
            f"{ROUTER} address_data = $dnslist_domain\n{TRANSPORT}": r"^5: \$dnslist_domain",
            f"{ROUTER} address_data = $acl_arg1\n{TRANSPORT}": r"^5: \$acl_arg1",
            f"{TRANSPORT} helo_data = $smtp_command": r"^4: \$smtp_command",
            'begin retry\n"${if eq{$sender_host_address}{::1}{*}{x}}" * F,1h,5m': (
                r"^2: \$sender_host_address is never set in a retry rule"
            ),
            "begin retry\n* * senders=$sender_address F,1h,5m": r"^2: \$sender_address",
            "begin rewrite\n*@x.example $auth1@y.example": r"^2: \$auth1 .* a rewriting rule",
            "begin authenticators\np:\n driver = plaintext\n public_name = X\n"
            " server_condition = ${if eq{$auth1}{$local_part}}": r"^5: \$local_part",
        }.items():
            found = [each for each in self.found(text) if "never set" in each]
            self.assertEqual(len(found), 1, (text, found))
            self.assertRegex(found[0], problem)

    def test_set(self) -> None:
        for text in (
            acl("rcpt", "message = $local_part@$domain $sender_address $sender_helo_name"),
            acl("rcpt", "condition = ${if match{$local_part}{\\N^x$domain$\\N}}"),
            acl("rcpt", "message = \\$auth1"),
            acl("data", "message = $h_subject: $recipients $message_body $message_exim_id"),
            acl("predata", "logwrite = $recipients $rcpt_count"),
            acl("helo", "message = $tls_in_cipher"),
            "tls_on_connect_ports = 465\n" + acl("connect", "message = $tls_in_cipher"),
            acl("notquit", "logwrite = $smtp_notquit_reason"),
            acl("rcpt", "acl = b $local_part\nb:\n deny message = $acl_arg1"),
            acl("rcpt", "condition = ${if acl{{b}{x}}}\nb:\n deny message = $acl_arg1"),
            acl("rcpt", "message = ${acl{b}{x}}\nb:\n deny message = $acl_arg1"),
            acl("rcpt", "acl = ${if eq{1}{1}{b}} x\nb:\n deny message = $acl_arg1"),
            acl("rcpt", "condition = ${if forany{a:b}{eq{$item}{$domain}}}"),
            acl("rcpt", "message = ${lookup{x}lsearch{/x}{<$value>}} ${map{a:b}{$item}}"),
            acl("rcpt", "set acl_m_x = 1\n condition = $acl_m_x"),
            acl("rcpt", "dnslists = x.example\n message = $dnslist_text $rcpt_count"),
            acl("rcpt", "condition = ${if eq{${run{/bin/true}}}{}}\n message = $runrc"),
            "acl_smtp_helo = warn set acl_c_x = 1\n" + acl("rcpt", "condition = $acl_c_x"),
            "acl_smtp_helo = /etc/acl\n" + acl("rcpt", "condition = $acl_c_x"),
            # one of the two ACLs knows it
            "acl_smtp_mail = a\n" + acl("rcpt", "message = $local_part"),
            f"{ROUTER} condition = ${{if def:h_subject:}}\n{TRANSPORT} helo_data = $sender_address",
            f"{ROUTER} address_data = $sender_host_address $tls_in_cipher $authenticated_id\n"
            f"{TRANSPORT}",
            "begin rewrite\n*@x.example ${lookup{$local_part}lsearch{/x}{$value}fail}",
            "tls_certificate = /etc/$tls_in_sni.pem",
        ):
            self.assertEqual([each for each in self.found(text) if "never set" in each], [], text)

"""Values that will be refused because a peer chose them."""

from __future__ import annotations

from tests.commands.checks.case import CheckTestCase

ROUTER = "begin routers\nr:\n driver = accept\n transport = t\n"
SMTP = "begin transports\nt:\n driver = smtp\n"
BOX = "begin transports\nt:\n driver = appendfile\n "
PIPE = "begin transports\nt:\n driver = pipe\n user = daemon\n command = "
REDIRECT = "begin routers\nr:\n driver = redirect\n "
ACL = "acl_smtp_rcpt = a\nbegin acl\na:\n deny "


class TaintTests(CheckTestCase):
    def refused(self, text: str) -> list[str]:
        return [each for each in self.found(text) if "refused" in each]

    def test_refused(self) -> None:
        for text, problem in {
            f"{BOX}file = $h_x-file:": r"^4: a path .* what a peer chose \(\$h_x\)",
            f"{BOX}file = $local_part": r"^4: a path \(file of transport t\)",
            f"{BOX}directory = ${{lc:$local_part}}\n maildir_format": "^4: a path",
            f"{BOX}directory = ${{domain}}/Maildir\n maildir_format": "^4: a path",
            f"{REDIRECT}file = $local_part.list": "^4: a path",
            f"{BOX}file = ${{if eq{{$domain}}{{x}}{{/x}}{{$sender_address}}}}": "^4: a path",
            f"{PIPE}/bin/x $local_part": r"^5: the command of transport t .*\$local_part",
            f"{PIPE}/bin/x -f ${{sender_address}} --": "^5: the command of transport t",
            f"{PIPE}/bin/$local_part": "^5: the command of transport t",
            f'{PIPE}/bin/sh -c "echo $h_subject:"': "^5: the command of transport t",
            f"{PIPE}echo $local_part | x\n use_shell": "^5: the command of transport t",
            f"{PIPE}/bin/x\n transport_filter = /bin/f $local_part": r"^6: the transport_filter of",
            f"{REDIRECT}data = |/bin/x $local_part\n pipe_transport = t": "^4: the pipe of",
            f"{REDIRECT}data = /var/x/$domain\n file_transport = t": "^4: the file of router r",
            f"{REDIRECT}data = :include:/etc/lists/$local_part": "^4: the included file of",
            f"{REDIRECT}file = $local_part": r"^4: a path \(file of router r\)",
            f"{REDIRECT}data = ${{readfile{{$local_part}}}}": "^4: data: tainted file name",
            f"{REDIRECT}data = ${{run{{/bin/x $local_part}}}}": "^4: data: tainted arg 1",
            f"{REDIRECT}data = ${{lookup{{x}}lsearch{{$local_part}}}}": "^4: data: tainted file",
            f"{REDIRECT}data = ${{expand:$h_subject:}}": "^4: data: attempt to expand tainted",
            "acl_smtp_rcpt = $sender_address": r"^1: the name or text of an ACL .*sender_address",
            "acl_smtp_mail = deny message = $sender_helo_name": "^1: the name or text of an ACL",
            f"{ACL}acl = acl_$local_part": "^4: the name or text of an ACL",
            f"{ACL}condition = ${{run{{/bin/x $sender_address}}}}": "^4: condition: tainted arg 1",
            f"{ACL}message = ${{readfile{{$local_part}}}}": "^4: message: tainted file name",
            f"{ACL}condition = ${{lookup sqlite{{/x select '$local_part'}}}}": (
                r"^4: condition: \$local_part stands in a sqlite query without being quoted"
            ),
            f"{ACL}domains = ${{lookup{{$domain}}lsearch{{/x}}{{"
            "${lookup mysql{SELECT '$sender_address'}}}}": "^4: domains: .* mysql query",
            f"{ACL}condition = ${{acl{{$local_part}}}}": "^4: condition: tainted name of an ACL",
            f"{ACL}condition = ${{if acl{{{{b_$domain}}}}}}": "^4: condition: tainted name",
            "tls_certificate = $tls_in_sni": r"^1: a path \(tls_certificate\) .*tls_in_sni",
        }.items():
            found = self.refused(text)
            self.assertEqual(len(found), 1, (text, found))
            self.assertRegex(found[0], problem)

    def test_not_refused(self) -> None:
        for text in (
            f"{BOX}file = /var/mail/$local_part",
            f"{BOX}directory = /var/mail/$domain/${{lc:$local_part}}/Maildir\n maildir_format",
            f"{BOX}file = $local_part_data",
            f"{BOX}file = ${{lookup{{$local_part}}lsearch{{/x}}}}",
            f"{PIPE}/bin/x $pipe_addresses",
            f"{PIPE}/bin/x $local_part_data ${{lookup{{$local_part}}lsearch{{/x}}}}",
            f'{PIPE}/bin/x "${{if eq{{$local_part}}{{y}}{{a}}{{b}}}}"',
            f"{REDIRECT}data = $local_part@other.example",
            f"{REDIRECT}data = :include:/etc/lists/$local_part_data",
            f"{REDIRECT}data = |/x ${{lookup{{$local_part}}lsearch{{/x}}}}\n pipe_transport = t",
            f"{REDIRECT}data = ${{lookup{{$local_part}}lsearch{{/etc/aliases/$domain}}}}",
            f"{REDIRECT}data = ${{lookup mysql{{SELECT '${{quote_mysql:$local_part}}'}}}}",
            f"{ACL}acl = b $local_part\nb:\n deny",
            f"{ACL}condition = ${{acl{{b}}{{$local_part}}}}\nb:\n deny",
            f"{ACL}domains = $sender_address_domain",
            "tls_certificate = /etc/tls/$tls_in_sni.pem",
            f"{ACL}acl = ${{if eq{{$local_part}}{{x}}{{b}}{{c}}}}\nb:\n deny\nc:\n accept",
            f"{ACL}message = $local_part is not here: ${{readfile{{/etc/motd}}}}",
            f"{ACL}condition = ${{run{{/bin/x $sender_host_address_}}}}",
            "acl_smtp_rcpt = ${if eq{$interface_port}{25}{a}{b}}\nbegin acl\na:\n deny\nb:\n deny",
        ):
            self.assertEqual(self.refused(text), [], text)

"""Tests of options of the SMTP server: each changes what a session does."""

import os
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.interfaces import AclPhase, Action, Routed, Verdict
from mailsrv.mail.message import Recipient, Submission
from mailsrv.mail.routed import RoutedAddress
from mailsrv.mail.status import LOCAL_PROBLEM, Status
from tests.connection.server import Client, Server
from tests.doubles.resolver import DictResolver
from tests.doubles.verifier import FakeVerifier, usual

NAMES = {
    ("192.0.2.1", "PTR"): ["one.example"],
    ("one.example", "A"): ["192.0.2.1"],
    ("also.example", "A"): ["192.0.2.1"],
    ("other.example", "A"): ["192.0.2.7"],
    ("away.example", "A"): None,
}


def connect(address: str = "192.0.2.1", **settings: object) -> Client:
    server = Server(**settings)
    server.parts.resolver = DictResolver(NAMES)
    return Client(server, address)


def ready(address: str = "192.0.2.1", **settings: object) -> Client:
    client = connect(address, **settings)
    client.read()
    return client


def lines(client: Client) -> list[str]:
    return [text for _, text in client.server.log.events]


class ConnectionTests(SynchronousTestCase):
    def test_hosts_connection_nolog(self) -> None:
        self.assertTrue(any("count = 1" in line for line in lines(connect())))
        quiet = connect(hosts_connection_nolog="192.0.2.0/24")
        quiet.say("QUIT")
        self.assertFalse(any(line.startswith("SMTP connection") for line in lines(quiet)))

    def test_host_lookup(self) -> None:
        client = connect(host_lookup="*")
        self.assertEqual(client.protocol.dialogue.connection.origin.host_name, "one.example")
        self.assertTrue(client.say("HELO x").endswith("Hello one.example [192.0.2.1]"))
        self.assertEqual(connect().server.parts.resolver.queries, [])

    def test_host_reject_connection(self) -> None:
        client = connect(host_reject_connection="192.0.2.1")
        self.assertEqual(client.read(), b"554 SMTP service not available\r\n")
        self.assertTrue(client.closed)

    def test_hosts_proxy(self) -> None:
        """Those hosts would speak for others: they are refused, others are not."""
        client = connect(hosts_proxy="192.0.2.1")
        self.assertEqual(client.read(), b"421 Service not available\r\n")
        self.assertTrue(client.closed)
        self.assertTrue(any("hosts_proxy is known to Exim" in line for line in lines(client)))
        self.assertFalse(connect(hosts_proxy="192.0.2.2").closed)

    def test_reserved_connections(self) -> None:
        """The last smtp_accept_reserve connections are for smtp_reserve_hosts."""
        server = Server(smtp_accept_max=3, smtp_accept_reserve=1, smtp_reserve_hosts="192.0.2.200")
        clients = [Client(server) for _ in range(3)]
        self.assertEqual([client.closed for client in clients], [False, False, True])
        self.assertTrue(clients[2].read().startswith(b"421 Too many concurrent SMTP connections;"))
        self.assertFalse(Client(server, "192.0.2.200").closed)
        self.assertTrue(Client(server, "192.0.2.200").closed)

    def test_load(self) -> None:
        """Above smtp_load_reserve only smtp_reserve_hosts come in."""
        with mock.patch.object(os, "getloadavg", return_value=(5.0, 0.0, 0.0)):
            refused = connect(smtp_load_reserve=4.5)
            favoured = connect(smtp_load_reserve=4.5, smtp_reserve_hosts="192.0.2.1")
            light = connect(smtp_load_reserve=5.5)
        self.assertEqual(refused.read(), b"421 Too much load; please try again later.\r\n")
        self.assertTrue(
            any(line.endswith("refused: load average = 5.00") for line in lines(refused))
        )
        self.assertEqual((favoured.closed, light.closed), (False, False))


class HelloTests(SynchronousTestCase):
    def test_hosts_require_helo(self) -> None:
        client = ready(hosts_require_helo="! 192.0.2.1 : *")
        self.assertEqual(client.say("MAIL FROM:<a@b>"), "250 OK")
        other = ready("192.0.2.2", hosts_require_helo="! 192.0.2.1 : *")
        self.assertEqual(other.say("MAIL FROM:<a@b>"), "503 HELO or EHLO required")

    def test_helo_lookup_domains(self) -> None:
        """A client that says it is we is looked up."""
        client = ready(helo_lookup_domains="mx.example.com")
        self.assertTrue(client.say("HELO x").endswith("Hello x [192.0.2.1]"))
        self.assertTrue(client.say("HELO mx.example.com").endswith("one.example [192.0.2.1]"))

    def test_verified_names(self) -> None:
        for name, good in (
            ("one.example", True),
            ("ONE.example", True),
            ("also.example", True),
            ("[192.0.2.1]", True),
            ("other.example", False),
            ("away.example", False),
            ("[192.0.2.2]", False),
            ("nowhere.example", False),
        ):
            client = ready(helo_verify_hosts="*")
            reply = client.say(f"EHLO {name}")
            if good:
                self.assertTrue(reply.startswith("250-"), name)
            else:
                self.assertEqual(reply, "550 EHLO argument does not match calling host")
                self.assertEqual(client.say("MAIL FROM:<a@b>"), "503 HELO or EHLO required")
            tried = ready(helo_try_verify_hosts="*")
            self.assertTrue(tried.say(f"EHLO {name}").startswith("250-"))
            self.assertIs(tried.protocol.dialogue.connection.origin.helo_verified, good)

    def test_junk(self) -> None:
        self.assertTrue(ready(helo_accept_junk_hosts="*").say("HELO a_b!").startswith("250 "))
        self.assertTrue(ready(helo_allow_chars="_").say("HELO a_b").startswith("250 "))


class LimitTests(SynchronousTestCase):
    def test_nonmail_commands(self) -> None:
        client = ready(smtp_accept_max_nonmail=3)
        replies = [client.say("NOOP") for _ in range(4)]
        self.assertEqual(replies, ["250 OK"] * 3 + ["554 Too many nonmail commands"])
        self.assertTrue(client.closed)

    def test_nonmail_hosts(self) -> None:
        client = ready(smtp_accept_max_nonmail=3, smtp_accept_max_nonmail_hosts="!192.0.2.1:*")
        self.assertEqual({client.say("NOOP") for _ in range(9)}, {"250 OK"})

    def test_ten_thousand_recipients(self) -> None:
        """All are taken, answered in order, in one write of the client and without recursion."""
        client = ready()
        client.say("EHLO c")
        client.say("MAIL FROM:<a@b>")
        reply = client.raw(b"".join(b"RCPT TO:<u%d@d.example>\r\n" % n for n in range(10_000)))
        self.assertEqual(reply, b"250 Accepted\r\n" * 10_000)
        transaction = client.protocol.dialogue.connection.transaction
        self.assertEqual(transaction.recipients[9_999].address, "u9999@d.example")


class MailAuthTests(SynchronousTestCase):
    """AUTH= on MAIL (33.2)."""

    def sender(self, client: Client) -> str:
        self.assertEqual(client.say("MAIL FROM:<a@b> AUTH=x+3Dy@z"), "250 OK")
        found = client.protocol.dialogue.connection.origin.authenticated_sender
        client.say("RSET")
        return found

    def client(self, login: bool = True) -> Client:
        client = ready()
        client.server.auth.mechanisms = ["PLAIN"]
        client.say("EHLO c")
        if login:
            client.say("AUTH PLAIN AHVzZXIAcGFzcw==")
        return client

    def test_only_of_the_authenticated(self) -> None:
        self.assertEqual(self.sender(self.client()), "x=y@z")
        stranger = self.client(login=False)
        self.assertEqual(self.sender(stranger), "")
        self.assertIn(
            "ignoring AUTH=x=y@z from (c) [192.0.2.1] (client not authenticated)", lines(stranger)
        )

    def test_condition_of_the_authenticator(self) -> None:
        client = self.client()
        client.server.auth.mail_auth = False
        self.assertEqual(self.sender(client), "")

    def test_acl(self) -> None:
        client = self.client(login=False)
        client.server.policy.sets.add(AclPhase.MAILAUTH)
        self.assertEqual(self.sender(client), "x=y@z")
        client.server.policy.verdicts[AclPhase.MAILAUTH] = Verdict(
            Action.DENY, Status(550, 0, 0, "no")
        )
        self.assertEqual(self.sender(client), "")
        client.server.policy.verdicts[AclPhase.MAILAUTH] = Verdict(Action.DEFER, LOCAL_PROBLEM)
        self.assertTrue(client.say("MAIL FROM:<a@b> AUTH=x@z").startswith("451 "))
        self.assertEqual(client.say("RCPT TO:<a@b>"), "503 sender not yet given")

    def test_forgotten_with_the_message(self) -> None:
        client = self.client()
        self.sender(client)
        client.say("MAIL FROM:<a@b>")
        self.assertEqual(client.protocol.dialogue.connection.origin.authenticated_sender, "")


class LoginTextTests(SynchronousTestCase):
    def test_texts_of_the_configuration(self) -> None:
        client = ready()
        auth = client.server.auth
        auth.mechanisms, auth.text = ["PLAIN"], "come back later"
        client.say("EHLO c")
        self.assertEqual(client.say("AUTH PLAIN AHVzZXIAeA=="), "535 come back later")
        auth.away = True
        self.assertEqual(
            client.say("AUTH PLAIN AHVzZXIAeA=="),
            "454 Temporary authentication failure: come back later",
        )


class HeaderTests(SynchronousTestCase):
    def message(self, client: Client, header: bytes = b"From: a\r\nTo: b\r\n") -> list[str]:
        client.envelope()
        client.say("DATA")
        client.raw(header + b"\r\nx\r\n.\r\n")
        return [header.text for header in client.server.spool.messages[-1].headers]

    def test_unqualified_addresses(self) -> None:
        """Qualified only for hosts that may leave the domain out in commands, too (48.3)."""
        for settings, wanted in (
            ({}, ["From: a", "To: b"]),
            ({"sender_unqualified_hosts": "*"}, ["From: a@example.com", "To: b"]),
            ({"recipient_unqualified_hosts": "*"}, ["From: a", "To: b@example.com"]),
            ({"recipient_unqualified_hosts": "192.0.2.2"}, ["From: a", "To: b"]),
        ):
            self.assertEqual(self.message(ready(**settings)), wanted)

    def test_nothing_is_added_to_mail_of_others(self) -> None:
        self.assertEqual(self.message(ready(), b""), [])

    def test_message_id_options(self) -> None:
        client = ready(
            message_id_header_domain="id.example", message_id_header_text="$sender_helo_name x"
        )
        client.server.policy.effect = lambda phase, connection: setattr(
            connection, "submission", Submission()
        )
        self.assertIn(
            "Message-Id: <E1aaaaa-000001-00.client.example-x@id.example>", self.message(client)
        )


class QuestionTests(SynchronousTestCase):
    def client(self) -> Client:
        client = ready()
        client.server.policy.sets.update((AclPhase.VRFY, AclPhase.EXPN, AclPhase.ETRN))
        client.server.parts.verifier = usual()
        client.say("EHLO c")
        return client

    def test_vrfy(self) -> None:
        """As Exim answers where the ACL accepts: routed, not guessed."""
        client = self.client()
        for argument, reply in (
            ("", "501 empty address"),
            ("alice@local.example", "250 <alice@local.example> is deliverable"),
            ("<alice@local.example>", "250 <alice@local.example> is deliverable"),
            ("x@local.example", "550 <x@local.example> Unrouteable address"),
            ("tmp@local.example", "451 <tmp@local.example> later please"),
            ("alice", "501 alice: recipient address must contain a domain"),
            ("a@x FOO", "501 a@x FOO: malformed address"),
        ):
            self.assertEqual(client.say(f"VRFY {argument}".rstrip(" ")), reply)
        self.assertIn("VRFY failed for x@local.example H=(c) [192.0.2.1]", lines(client))

    def test_refused(self) -> None:
        """Nothing is looked up for a client that may not ask."""
        client = self.client()
        client.server.policy.verdicts[AclPhase.VRFY] = Verdict(
            Action.DENY, Status(550, 0, 0, "Administrative prohibition")
        )
        self.assertEqual(client.say("VRFY alice@local.example"), "550 Administrative prohibition")
        self.assertEqual(client.server.parts.verifier.asked, [])

    def test_expn(self) -> None:
        """Exim 4.96: 250 with the address, 553 for all that does not verify."""
        client = self.client()
        for argument, reply in (
            ("", "501 missing address"),
            ("alice@local.example", "250 <alice@local.example>"),
            ("alice", "553 alice@example.com is undeliverable"),
            ("x@local.example", "553 x@local.example is undeliverable"),
            ("tmp@local.example", "553 tmp@local.example cannot be resolved at this time"),
            ("a@x FOO", "553 a@x FOO is undeliverable"),
        ):
            self.assertEqual(client.say(f"EXPN {argument}".rstrip(" ")), reply)

    def test_expn_of_many(self) -> None:
        """All addresses that one becomes are told, one on each line, and once."""
        client = self.client()
        found = [
            RoutedAddress(Recipient("many@local.example"), f"{name}@x", name, "x")
            for name in ("a", "b", "a")
        ]
        client.server.parts.verifier = FakeVerifier(many=Routed(tuple(found)))
        self.assertEqual(client.say("EXPN many@local.example"), "250-<a@x>|250 <b@x>")

    def test_expn_refused(self) -> None:
        client = self.client()
        client.server.policy.verdicts[AclPhase.EXPN] = Verdict(
            Action.DENY, Status(550, 0, 0, "Administrative prohibition")
        )
        self.assertEqual(client.say("EXPN alice@local.example"), "550 Administrative prohibition")
        self.assertEqual(client.server.parts.verifier.asked, [])

    def test_etrn(self) -> None:
        client = self.client()
        self.assertEqual(client.say("ETRN #x"), "458 Unable to queue messages for this node")
        client.say("MAIL FROM:<a@b>")
        self.assertEqual(client.say("ETRN #x"), "503 ETRN is not permitted inside a transaction")

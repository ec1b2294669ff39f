"""The wording of log lines, compared with Exim's forms and with the filters that read them."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.logs import lines
from mailsrv.logs.selectors import ALL, DEFAULT
from mailsrv.mail.connection import Connection
from mailsrv.mail.header import Header
from mailsrv.mail.message import Recipient, Transaction
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Host, Result, RoutedAddress
from tests.logs.messages import ID, MX, RECEIVED, a_connection, a_message, an_origin, an_outcome

OCTETS = st.text(st.characters(max_codepoint=255), max_size=40)


class PrintableTests(SynchronousTestCase):
    """Hostile octets become visible escapes."""

    def test_ends_of_lines_are_escaped(self) -> None:
        self.assertEqual(lines.printable("a\r\nb\x00\x7f\xe9"), r"a\r\nb\000\177\351")

    def test_top_bit_octets_may_stay(self) -> None:
        self.assertEqual(lines.printable("\xe9\t", top_bit=True), "\xe9\\t")

    @given(OCTETS)
    def test_result_is_one_printable_line(self, text: str) -> None:
        self.assertIsNotNone(re.fullmatch(r"[\x20-\x7e]*", lines.printable(text)))


class DurationTests(SynchronousTestCase):
    """Times as Exim prints them."""

    def test_units(self) -> None:
        for seconds, text in (
            (0, "0s"),
            (59.9, "59s"),
            (225, "3m45s"),
            (3600, "1h"),
            (90061, "1d1h1m1s"),
            (694861, "1w1d1h1m1s"),
            (-3, "0s"),
        ):
            self.assertEqual(lines.duration(seconds), text)

    def test_milliseconds_only_below_five_seconds(self) -> None:
        self.assertEqual(lines.duration(0.3041, ALL), "0.304s")
        self.assertEqual(lines.duration(5.5, ALL), "5s")


class HostTests(SynchronousTestCase):
    """``$sender_fullhost``: a name in parentheses is only a claim."""

    def host(self, **facts: object) -> str:
        return lines.full_host(Origin(host_address="192.0.2.7", **facts))  # type: ignore[arg-type]

    def test_forms(self) -> None:
        self.assertEqual(self.host(), "[192.0.2.7]")
        self.assertEqual(self.host(helo_name="x"), "(x) [192.0.2.7]")
        self.assertEqual(self.host(helo_name="[192.0.2.7]"), "[192.0.2.7]")
        self.assertEqual(self.host(helo_name="[192.0.2.8]"), "([192.0.2.8]) [192.0.2.7]")
        self.assertEqual(self.host(helo_name="h.x", host_name="H.X"), "H.X [192.0.2.7]")
        self.assertEqual(self.host(helo_name="y", host_name="h.x"), "h.x (y) [192.0.2.7]")

    def test_ports_and_interface_only_on_request(self) -> None:
        self.assertEqual(
            lines.host_and_ident(an_origin(), ALL),
            "H=(client.example) [192.0.2.7]:40000 I=[192.0.2.1]:25",
        )

    def test_local_sender_has_only_a_login(self) -> None:
        self.assertEqual(lines.host_and_ident(Origin(ident="root")), "U=root")


class ReceivedTests(SynchronousTestCase):
    """``<=`` lines."""

    def test_default_selectors(self) -> None:
        self.assertEqual(
            lines.received(a_message(), DEFAULT),
            "<= from@client.example H=(client.example) [192.0.2.7] P=esmtps "
            "X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no S=321 id=one@client.example",
        )

    def test_authentication_and_every_selector(self) -> None:
        message = a_message(body_8bitmime=8)
        message.origin.authenticator = "PLAIN"
        message.origin.authenticated_id = "alice"
        self.assertEqual(
            lines.received(message, ALL),
            "<= from@client.example H=(client.example) [192.0.2.7]:40000 I=[192.0.2.1]:25 P=esmtps "
            "X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no A=PLAIN:alice S=321 M8S=8 "
            r'id=one@client.example T="a \"b\"" from <from@client.example> for to@example.org',
        )

    def test_receive_time(self) -> None:
        """How long the reception took, if it is known and wanted."""
        message = a_message()
        self.assertIn(" S=321 M8S=0 RT=0.250s id=", lines.received(message, ALL, seconds=0.25))
        self.assertIn(" RT=1m5s ", lines.received(message, ALL - {"millisec"}, seconds=65.5))
        self.assertNotIn("RT=", lines.received(message, ALL))
        self.assertNotIn("RT=", lines.received(message, DEFAULT, seconds=1))

    def test_bounce_names_the_message_it_is_about(self) -> None:
        message = a_message(sender="", origin=Origin(protocol="local", ident="mailsrv"), headers=[])
        self.assertEqual(
            lines.received(message, DEFAULT, bounce_of="1oAbCc-000001-AA"),
            "<= <> R=1oAbCc-000001-AA U=mailsrv P=local S=321",
        )

    def test_an_id_with_blanks_is_not_logged(self) -> None:
        """No header can add fields to a line."""
        message = a_message(headers=[Header("Message-ID: <a b> H=[127.0.0.1] => x")])
        self.assertNotIn("127.0.0.1", lines.received(message, DEFAULT))

    def test_an_id_made_here_needs_its_own_selector(self) -> None:
        message = a_message(headers=[Header(f"Message-Id: <E{ID}@here>")])
        self.assertNotIn("id=", lines.received(message, DEFAULT))
        self.assertIn(f" id*=E{ID}@here", lines.received(message, ALL))

    def test_encoded_subject_is_decoded(self) -> None:
        self.assertEqual(
            lines.subject(a_message(headers=[Header("Subject: =?iso-8859-1?q?=E9?=")])), "Ã©"
        )

    @given(OCTETS)
    def test_no_subject_raises(self, value: str) -> None:
        lines.subject(a_message(headers=[Header(f"Subject: =?utf-8?b?{value}?= {value}")]))


class DeliveryTests(SynchronousTestCase):
    """``=>``, ``->``, ``==``, ``**`` and ``Completed`` lines."""

    def test_remote_delivery(self) -> None:
        outcome = an_outcome(
            host=MX, remote=True, tls="TLS1.3:X:256", confirmation='250 OK "id"', seconds=0.25
        )
        self.assertEqual(
            lines.delivered(a_message(), outcome, DEFAULT, RECEIVED + 2),
            "=> to@example.org R=dovecot T=lmtp H=mx.example.net [192.0.2.25] X=TLS1.3:X:256 "
            r'CV=no C="250 OK \"id\""',
        )
        self.assertTrue(
            lines.delivered(a_message(), outcome, ALL, RECEIVED + 2).endswith("QT=2.000s DT=0.250s")
        )

    def test_size_and_interface(self) -> None:
        outcome = an_outcome(host=MX, size=307, interface="[192.0.2.1]:40000")
        selectors = DEFAULT | {"incoming_interface", "outgoing_interface", "delivery_size"}
        line = lines.delivered(a_message(), outcome, selectors, RECEIVED)
        self.assertIn(" S=307 H=mx.example.net [192.0.2.25] I=[192.0.2.1]", line)
        line = lines.delivered(a_message(), outcome, selectors | {"outgoing_port"}, RECEIVED)
        self.assertIn(" I=[192.0.2.1]:40000", line)

    def test_further_address(self) -> None:
        line = lines.delivered(a_message(), an_outcome(), DEFAULT, RECEIVED, additional=True)
        self.assertTrue(line.startswith("-> to@example.org R="))

    def test_local_part_alone_and_the_whole_address_behind(self) -> None:
        line = lines.delivered(a_message(), an_outcome(), DEFAULT, RECEIVED, as_local=True)
        self.assertEqual(line, "=> to <to@example.org> R=dovecot T=lmtp")

    def test_a_redirected_address_shows_its_origin(self) -> None:
        top = RoutedAddress(Recipient("to@example.org"), "to@example.org", "to", "example.org")
        between = RoutedAddress(top.recipient, "b@x", "b", "x", parent=top)
        last = RoutedAddress(top.recipient, "c@y", "c", "y", parent=between)
        self.assertIn(
            "=> c@y <to@example.org>",
            lines.delivered(a_message(), an_outcome(address=last), DEFAULT, RECEIVED),
        )
        self.assertIn(
            "=> c@y (b@x) <to@example.org>",
            lines.delivered(a_message(), an_outcome(address=last), ALL, RECEIVED),
        )

    def test_deferral(self) -> None:
        outcome = an_outcome(Result.DEFERRED, error="refused", seconds=0.0)
        self.assertEqual(
            lines.deferred(a_message(), outcome, DEFAULT | {"deliver_time"}),
            "== to@example.org R=dovecot T=lmtp defer (111): Connection refused DT=0s",
        )
        outcome = an_outcome(Result.DEFERRED, error="rcpt_4xx", host=MX, reason="450 no")
        self.assertEqual(
            lines.deferred(a_message(), outcome, DEFAULT),
            "== to@example.org R=dovecot T=lmtp defer (-44) H=mx.example.net [192.0.2.25]: 450 no",
        )

    def test_failure(self) -> None:
        outcome = an_outcome(Result.FAILED, host=MX, reason="550 5.1.1 no such user")
        self.assertEqual(
            lines.failed(a_message(), outcome, DEFAULT),
            "** to@example.org R=dovecot T=lmtp H=mx.example.net [192.0.2.25]: "
            "550 5.1.1 no such user",
        )

    def test_socket_of_the_next_hop_has_no_brackets(self) -> None:
        outcome = an_outcome(host=Host("/run/lmtp", "/run/lmtp"))
        line = lines.delivered(a_message(), outcome, DEFAULT, RECEIVED)
        self.assertTrue(line.endswith(" H=/run/lmtp"))

    def test_completed(self) -> None:
        self.assertEqual(lines.completed(a_message(), DEFAULT, RECEIVED + 9), "Completed")
        self.assertEqual(lines.completed(a_message(), ALL, RECEIVED + 9), "Completed QT=9s")


class RejectedTests(SynchronousTestCase):
    """Lines of refusals, and fail2ban's stock filter that reads them."""

    HOST = r"(?:\[(?P<host>[0-9.:a-f]+)\])"
    INFO = (
        r"(?:H=([\w.-]+ )?(?:\(\S+\) )?)?" + HOST + r"(?::\d+)?(?: I=\[\S+\](:\d+)?)?(?: U=\S+)?"
        r"(?: P=e?smtp)?(?: X=\S+)?(?: CV=\S+)?(?: F=(?:<>|<?[^@]+@\S+))?(?: A=\S+)?\s"
    )
    FILTERS = (
        "^" + INFO + r"sender verify fail for <\S+>: (?:Unknown user|Unrouteable address)\s*$",
        "^" + INFO + r"rejected RCPT [^@]+@\S+: (?:relay not permitted|Unknown user)\s*$",
        "^" + INFO + r"rejected (?:EHLO|HELO) .*$",
    )

    def rejected(self, what: str, text: str, transaction: bool = True) -> str:
        return lines.rejected(a_connection(transaction), what, text, DEFAULT)

    def test_form(self) -> None:
        self.assertEqual(
            self.rejected("rejected RCPT <a@b>", "relay not permitted"),
            "H=(client.example) [192.0.2.7] X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no "
            "F=<from@client.example> rejected RCPT <a@b>: relay not permitted",
        )

    def test_fail2ban_finds_the_host(self) -> None:
        for line in (
            self.rejected("rejected RCPT <a@b>", "relay not permitted"),
            self.rejected("rejected EHLO or HELO x", "no", transaction=False),
        ):
            found = [re.search(pattern, line) for pattern in self.FILTERS]
            self.assertEqual([match["host"] for match in found if match], ["192.0.2.7"], line)

    def test_local_refusal_has_no_empty_fields(self) -> None:
        self.assertEqual(
            lines.rejected(Connection(Origin()), "rejected non-SMTP message", "no", DEFAULT),
            "rejected non-SMTP message: no",
        )

    def test_header_goes_below_with_marks(self) -> None:
        connection = a_connection()
        connection.transaction = Transaction("s@x", recipients=[Recipient("a@y"), Recipient("b@y")])
        below = lines.rejected_headers(connection, [Header("From: a\n b"), Header("X-Y: z")])
        self.assertEqual(
            below,
            [
                "Envelope-from: <s@x>",
                "Envelope-to: <a@y>",
                "    <b@y>",
                "F From: a",
                "   b",
                "  X-Y: z",
            ],
        )


class HostileTests(SynchronousTestCase):
    """Whatever a peer sends, an event stays one line."""

    @given(OCTETS, OCTETS, OCTETS)
    def test_one_line_per_event(self, helo: str, sender: str, answer: str) -> None:
        message = a_message(sender=sender, headers=[Header(f"Message-ID: {helo}")])
        message.origin.helo_name = helo
        message.origin.authenticator, message.origin.authenticated_id = "A", answer
        outcome = an_outcome(confirmation=answer, reason=answer, host=MX)
        connection = Connection(message.origin, transaction=Transaction(sender=sender))
        for line in (
            lines.received(message, ALL),
            lines.delivered(message, outcome, ALL, RECEIVED),
            lines.deferred(message, outcome, ALL),
            lines.failed(message, outcome, ALL),
            lines.rejected(connection, f"rejected HELO {helo}", answer, ALL),
        ):
            self.assertNotRegex(lines.printable(line), r"[\x00-\x1f\x7f-\xff]")

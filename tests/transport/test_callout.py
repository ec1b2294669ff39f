"""Callouts over SMTP and LMTP: what is asked, what is concluded, what is remembered."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion.template import compile_string
from mailsrv.interfaces import Called, Callout
from mailsrv.mail.connection import Connection
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Host
from mailsrv.transport.callout import CalloutOptions, Callouts
from mailsrv.transport.connection import HopFailure
from mailsrv.transport.transport import Transport
from mailsrv.transport.transports.appendfile import Appendfile
from mailsrv.transport.transports.lmtp import Lmtp
from mailsrv.transport.transports.smtp import Smtp
from tests.doubles.nexthop import CLOSE, HANG, NextHop
from tests.transport.helpers import World, make, routed

HOSTS = (Host("a.example", "192.0.2.1"), Host("b.example", "192.0.2.2"))
UNKNOWN = b"550 5.1.1 unknown\r\n"


class CalloutTests(SynchronousTestCase):
    def use(self, transport: Transport, hop: NextHop) -> None:
        self.world = World(transport, hop=hop)
        options = CalloutOptions(compile_string("nobody-$primary_hostname"))
        facilities = self.world.delivering.facilities
        self.callouts = Callouts({transport.name: transport}, facilities, options)
        self.name = transport.name
        self.hop = hop

    def smtp(self, **script: Any) -> None:
        self.use(make(Smtp), NextHop(**script))

    def begin(self, address: str, **wanted: Any) -> list[Called]:
        to = routed(address, hosts=HOSTS)
        to.transport = self.name
        done: list[Called] = []
        work = self.callouts.call(to, Callout(**wanted), Connection(Origin()))
        Deferred.fromCoroutine(work).addCallback(done.append)
        return done

    def call(self, address: str = "u@e.example", **wanted: Any) -> Called:
        (called,) = self.begin(address, **wanted)
        return called

    def said(self) -> list[str]:
        """The commands of all connections but EHLO and QUIT."""
        return [
            line
            for each in self.hop.connections
            for line in each.commands
            if not line.startswith(("EHLO", "LHLO", "QUIT", "RSET"))
        ]

    def test_taken(self) -> None:
        self.smtp()
        self.assertEqual(self.call(), Called(host="192.0.2.1"))
        self.assertEqual(self.said(), ["MAIL FROM:<>", "RCPT TO:<u@e.example>"])
        self.assertFalse(self.hop.messages)

    def test_refused_and_remembered(self) -> None:
        """A refusal is not asked for again until callout_negative_expire is over."""
        self.smtp(rcpt=UNKNOWN)
        called = self.call()
        assert called.status is not None
        self.assertEqual(called.status.code, 550)
        self.assertEqual(called.what, "recipient")
        self.assertEqual(
            called.reason, 'response to "RCPT TO:<u@e.example>" was: 550 5.1.1 unknown'
        )
        again = self.call()
        self.assertEqual((again.what, again.host), ("recipient", ""))
        self.assertEqual(len(self.hop.connections), 1)
        self.call(cached=False)
        self.assertEqual(len(self.hop.connections), 2)
        self.world.clock.advance(7201)
        self.call()
        self.assertEqual(len(self.hop.connections), 3)

    def test_senders_are_remembered_apart(self) -> None:
        self.smtp()
        self.call()
        self.call(sender="s@x.example")
        self.assertIn("MAIL FROM:<s@x.example>", self.said())
        self.assertEqual(len(self.hop.connections), 2)

    def test_null_sender_refused(self) -> None:
        """Then all of the domain is refused; with another sender, this time only."""
        self.smtp(mail=b"550 no\r\n")
        self.assertEqual(self.call("u@e.example").what, "mail")
        self.assertEqual(self.call("v@e.example").host, "")
        self.assertEqual(len(self.hop.connections), 1)

    def test_next_host(self) -> None:
        """A host that cannot be asked is followed by the next; if none can, it is temporary."""
        self.smtp()
        self.hop.refuse["192.0.2.1"] = HopFailure("Connection refused", "refused")
        self.assertEqual(self.call(), Called(host="192.0.2.2"))
        self.hop.refuse["192.0.2.2"] = HopFailure("Connection refused", "refused")
        called = self.call("v@e.example")
        assert called.status is not None and called.status.temporary
        self.assertIn("Connection refused", called.reason)

    def test_broken_and_deferred(self) -> None:
        for answer in (CLOSE, b"451 later\r\n", b"nonsense\r\n"):
            self.smtp(rcpt=answer)
            called = self.call()
            assert called.status is not None and called.status.temporary
            self.assertEqual(len(self.hop.connections), 2)

    def test_timeout(self) -> None:
        """A server that hangs costs the callout's time, and maxwait ends the list of hosts."""
        self.smtp(rcpt=HANG)
        done = self.begin("u@e.example", timeout=5, maxwait=4)
        self.world.clock.advance(4.9)
        self.assertFalse(done)
        self.world.clock.advance(0.2)
        assert done[0].status is not None and done[0].status.temporary
        self.assertEqual(len(self.hop.connections), 1)

    def test_random(self) -> None:
        """A domain that takes any local part is asked no more."""
        self.smtp()
        self.assertEqual(self.call(random=True).what, "random")
        self.assertEqual(self.said()[-1], "RCPT TO:<nobody-me.example@e.example>")
        self.assertIsNone(self.call("v@e.example", random=True).status)
        self.assertEqual(len(self.hop.connections), 1)

    def test_random_refused(self) -> None:
        self.smtp(rcpt=lambda line: UNKNOWN if "nobody" in line else b"250 ok\r\n")
        self.assertEqual(self.call(random=True), Called(host="192.0.2.1"))
        self.assertEqual(self.said()[-1], "RCPT TO:<u@e.example>")

    def test_postmaster(self) -> None:
        self.smtp(rcpt=lambda line: UNKNOWN if "postmaster@" in line else b"250 ok\r\n")
        called = self.call(postmaster="me@x.example")
        self.assertEqual(called.what, "postmaster")
        self.assertIn("MAIL FROM:<me@x.example>", self.said())
        self.call("v@e.example")
        self.assertEqual(len(self.hop.connections), 1, "the domain is known to fail")

    def test_full_postmaster(self) -> None:
        self.smtp(rcpt=lambda line: UNKNOWN if "postmaster@" in line else b"250 ok\r\n")
        self.assertIsNone(self.call(postmaster="", full_postmaster=True).status)
        self.assertEqual(self.said()[-1], "RCPT TO:<postmaster>")

    def test_lmtp(self) -> None:
        """The win over Exim: a Unix socket is asked, too."""
        self.use(make(Lmtp, socket="/run/lmtp"), NextHop(lmtp=True, rcpt=UNKNOWN))
        called = self.call()
        self.assertEqual((called.what, called.host), ("recipient", "/run/lmtp"))

    def test_local_transport(self) -> None:
        self.use(make(Appendfile, file="/dev/null"), NextHop())
        self.assertEqual(self.call(), Called())
        self.assertFalse(self.hop.connections)

    def test_unsafe_address(self) -> None:
        """What could leave its place in a command is not sent."""
        self.smtp()
        called = self.call("u\r\nRSET@e.example")
        assert called.status is not None and called.status.temporary
        self.assertEqual(self.said(), [])

"""verify = …/callout: its parameters, and what client and log are told."""

from __future__ import annotations

import pytest

from mailsrv.acl.verification.callout import CalloutOptions, parse_callout
from mailsrv.interfaces import AclPhase, Called, Callout, Routed
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Recipient
from mailsrv.mail.routed import RoutedAddress
from mailsrv.mail.status import Status
from tests.acl.harness import Bench
from tests.doubles.verifier import FakeVerifier

NO = Called(
    Status(550, 1, 1, "550 no such user"),
    'response to "RCPT TO:<alice@local.example>" was: 550 no such user',
    "recipient",
    "RCPT TO:<alice@local.example>",
    "192.0.2.7",
)
LATER = Called(Status(451, 4, 4, "later"), "192.0.2.7: Connection refused")


class FakeCallout:
    """Provides ``ICallout``: always the same answer."""

    def __init__(self, answer: Called) -> None:
        self.answer = answer
        self.asked: list[tuple[str, Callout]] = []

    async def call(self, address: RoutedAddress, wanted: Callout, connection: Connection) -> Called:
        self.asked.append((address.address, wanted))
        return self.answer


def bench(acl: str, answer: Called, phase: AclPhase = AclPhase.RCPT) -> tuple[Bench, FakeCallout]:
    address = "alice@local.example"
    found = RoutedAddress(Recipient(address), address, "alice", "local.example")
    b = Bench(acl, phase, sender=address, verifier=FakeVerifier(alice=Routed((found,))))
    b.acls.callout = callout = FakeCallout(answer)
    return b, callout


def test_parameters() -> None:
    found = parse_callout("callout = 5s, connect=1s,defer_ok,random, fullpostmaster,no_cache")
    assert found == CalloutOptions(
        Callout("", 5.0, 1.0, 20.0, True, "", True, False), defer_ok=True
    )
    assert parse_callout("callout").callout == Callout()
    assert parse_callout("callout=postmaster_mailfrom=a@b").callout.postmaster == "a@b"
    assert parse_callout("callout=mailfrom=a@b,maxwait=1m").sender == "=a@b"
    assert parse_callout("callout=maxwait=1m").callout.maxwait == 60
    with pytest.raises(ValueError, match="unknown parameter"):
        parse_callout("callout=soon")
    with pytest.raises(NotImplementedError):
        parse_callout("callout=hold")


def test_recipient() -> None:
    b, callout = bench("accept verify = recipient/callout=use_sender", Called(host="192.0.2.7"))
    assert b.check().accepted
    assert callout.asked[0][1].sender == "alice@local.example"
    b, _ = bench("require verify = recipient/callout\naccept", NO)
    said, log = b.shown()
    assert said == "550 Callout verification failed:\n550 no such user"
    assert log == NO.reason
    b, _ = bench("deny message = $recipient_verify_failure\n!verify = recipient/callout", NO)
    assert b.shown()[0] == "550 recipient"


def test_deferral() -> None:
    b, _ = bench("require verify = recipient/callout\naccept", LATER)
    said, log = b.shown()
    assert said.startswith("451 ") and "Could not complete recipient verify callout" in said
    assert "Connection refused" in log
    b, _ = bench("require verify = recipient/callout=defer_ok\naccept", LATER)
    assert b.check().accepted


def test_sender() -> None:
    b, _ = bench("require verify = sender/callout=10s\naccept", NO)
    said, _ = b.shown()
    assert said == (
        "550 Verification failed for <alice@local.example>\nCalled:   192.0.2.7\n"
        "Sent:     RCPT TO:<alice@local.example>\nResponse: 550 no such user\nSender verify failed"
    )
    b, _ = bench("deny message = $sender_verify_failure\n!verify = sender/callout", NO)
    assert b.shown()[0].endswith("\nrecipient")


def test_without_a_callout_nobody_is_asked() -> None:
    b, callout = bench("require verify = recipient\naccept", NO)
    assert b.check().accepted and not callout.asked

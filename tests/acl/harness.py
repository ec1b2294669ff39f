"""Runs small ACLs as the server would, and shows what the client and the log would see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailsrv.acl.parse import TextLine, parse_section
from mailsrv.acl.run import Acls
from mailsrv.errors import Position
from mailsrv.expansion.scope import Services
from mailsrv.expansion.template import compile_string
from mailsrv.interfaces import AclPhase, Verdict
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Recipient, Transaction
from mailsrv.mail.origin import Origin
from mailsrv.mail.taint import Tainted
from mailsrv.spool.rates import MemoryRates
from tests.doubles.log import RecordingLog
from tests.doubles.verifier import FakeVerifier, usual


def lines(text: str) -> list[TextLine]:
    """The logical lines of an ACL section."""
    return [
        TextLine(line.strip(), Position("exim.conf", number))
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]


@dataclass
class Bench:
    """An ACL ``a`` (or a whole section that begins with a name) for one phase."""

    acl: str
    phase: AclPhase = AclPhase.RCPT
    option: str = "a"
    sender: str = "x@y.example"
    in_message: bool = True
    verifier: FakeVerifier = field(default_factory=usual)
    resolver: object = None
    unbuilt: dict[AclPhase, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        text = self.acl if self.acl.startswith(("a:", "b:")) else f"a:\n{self.acl}"
        self.table, self.errors = parse_section(lines(text))
        self.clock = Clock()
        self.log = RecordingLog()
        self.connection = Connection(
            Origin(host_address="192.0.2.1", helo_name=Tainted("me"), protocol="esmtp")
        )
        if self.in_message:
            self.connection.transaction = Transaction(
                sender=Tainted(self.sender), id="1xVFEI-0003bv-0y"
            )
        services = Services(
            self.clock, {"primary_hostname": "mx.example.org"}, lambda name: None, acl=self._call
        )
        self.acls = Acls(
            self.table,
            {self.phase: compile_string(self.option)},
            services,
            verifier=self.verifier,
            resolver=self.resolver,  # type: ignore[arg-type]
            clock=self.clock,
            log=self.log,
            rates=MemoryRates(self.clock),
            unbuilt=self.unbuilt,
        )

    async def _call(self, *arguments: Any) -> Any:
        return await self.acls.call(*arguments)

    @property
    def transaction(self) -> Transaction:
        assert self.connection.transaction is not None
        return self.connection.transaction

    def begin(self, address: str = "alice@local.example") -> Deferred[Verdict]:
        """Start the ACL."""
        subject = Tainted(address) if self.phase in (AclPhase.RCPT, AclPhase.VRFY) else ""
        return Deferred.fromCoroutine(self.acls.check(self.phase, self.connection, subject))

    def check(self, address: str = "alice@local.example") -> Verdict:
        """Run an ACL that does not wait."""
        results: list[Verdict] = []
        failures: list[object] = []
        self.begin(address).addCallbacks(results.append, failures.append)
        assert not failures, failures
        assert results, "the ACL waits"
        return results[0]

    def shown(self, address: str = "alice@local.example") -> tuple[str, str]:
        """The reply as on the wire ("" if the server makes it), and the text of the log line."""
        verdict = self.check(address)
        if verdict.status is None:
            return "", verdict.log_message
        enhanced = verdict.status.enhanced + " "
        if not verdict.status.subject and not verdict.status.detail:
            enhanced = ""
        return f"{verdict.status.code} {enhanced}{verdict.status.text}", verdict.log_message

    def logged(self, kind: str = "main") -> list[str]:
        return [text for event, text in self.log.events if event == kind]

    def add_recipient(self, address: str) -> None:
        self.transaction.recipients.append(Recipient(address))

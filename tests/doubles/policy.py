"""ACLs that say what a test wants."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from mailsrv.interfaces import AclPhase, Action, Verdict
from mailsrv.mail.connection import Connection


class FakePolicy:
    """Provides ``IPolicy``; ``verdicts`` by (phase, address) or phase; ``waits`` holds back."""

    def __init__(self) -> None:
        self.verdicts: dict[object, Verdict] = {}
        self.waits: set[AclPhase] = set()
        self.waiting: list[Deferred[None]] = []
        self.calls: list[tuple[AclPhase, str]] = []
        self.sets: set[AclPhase] = set()
        self.error: Exception | None = None
        self.effect = lambda phase, connection: None

    def configured(self, phase: AclPhase) -> bool:
        return phase in self.sets

    async def check(self, phase: AclPhase, connection: Connection, address: str = "") -> Verdict:
        self.calls.append((phase, address))
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if phase in self.waits:
            gate: Deferred[None] = Deferred()
            self.waiting.append(gate)
            await gate
        self.effect(phase, connection)
        found = self.verdicts.get((phase, address)) or self.verdicts.get(phase)
        return found or Verdict(Action.ACCEPT)

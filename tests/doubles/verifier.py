"""A verifier that knows its answers."""

from __future__ import annotations

from mailsrv.interfaces import Routed
from mailsrv.mail.connection import Connection
from mailsrv.mail.status import Status


class FakeVerifier:
    """Provides ``IVerifier``: ``answers`` by address; others are ``Unrouteable address``.

    ``asked`` holds (address, as sender) in order; ``failure`` is raised if it is set.
    """

    def __init__(self, **answers: Routed) -> None:
        self.answers: dict[str, Routed] = {
            f"{name}@local.example": answer for name, answer in answers.items()
        }
        self.asked: list[tuple[str, bool]] = []
        self.failure: Exception | None = None

    async def verify(
        self, address: str, connection: Connection, *, as_sender: bool = False
    ) -> Routed:
        self.asked.append((address, as_sender))
        if self.failure is not None:
            raise self.failure
        unknown = Routed(status=Status(550, 1, 1, "Unrouteable address"))
        return self.answers.get(address, unknown)

    async def expand(self, address: str, connection: Connection) -> Routed:
        return await self.verify(address, connection)


def usual() -> FakeVerifier:
    """alice is there, bad is gone, tmp is deferred; all at local.example."""
    return FakeVerifier(
        alice=Routed(),
        bad=Routed(status=Status(550, 0, 0, "user gone")),
        tmp=Routed(status=Status(451, 0, 0, "later please")),
    )

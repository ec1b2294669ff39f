"""A mail log that keeps events in a list."""

from __future__ import annotations

from collections.abc import Sequence

from mailsrv.mail.connection import Connection
from mailsrv.mail.header import Header
from mailsrv.mail.message import Message
from mailsrv.mail.routed import Outcome


class RecordingLog:
    """Provides ``IMailLog``; ``events`` holds (event, text) in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.failures: list[BaseException] = []
        self.receptions: list[float] = []  # how long each message took to receive

    def received(self, message: Message, *, bounce_of: str = "", seconds: float = -1) -> None:
        self.receptions.append(seconds)
        self.events.append(("received", message.id))

    def delivered(self, message: Message, outcome: Outcome, *, additional: bool = False) -> None:
        self.events.append(("delivered", outcome.address.address))

    def deferred(self, message: Message, outcome: Outcome) -> None:
        self.events.append(("deferred", f"{outcome.address.address} {outcome.reason}"))

    def failed(self, message: Message, outcome: Outcome) -> None:
        self.events.append(("failed", f"{outcome.address.address} {outcome.reason}"))

    def completed(self, message: Message) -> None:
        self.events.append(("completed", message.id))

    def rejected(
        self, connection: Connection, what: str, text: str, headers: Sequence[Header] = ()
    ) -> None:
        self.events.append(("rejected", f"{what}: {text}"))

    def main(self, text: str, message_id: str = "", *, rejection: bool = False) -> None:
        self.events.append(("reject" if rejection else "main", text))

    def reject(self, text: str, message_id: str = "") -> None:
        self.events.append(("reject alone", text))

    def selected(self, selector: str) -> bool:
        return True

    def panic(self, text: str, failure: BaseException | None = None) -> None:
        self.events.append(("panic", text))
        if failure is not None:
            self.failures.append(failure)

"""A log for commands that try things out: what would be logged is said on the standard error."""

from __future__ import annotations

from collections.abc import Sequence

from mailsrv.commands.terminal import say
from mailsrv.mail.connection import Connection
from mailsrv.mail.header import Header
from mailsrv.mail.message import Message
from mailsrv.mail.routed import Outcome


class QuietLog:
    """Provides ``IMailLog``; no message is received or delivered, so nothing is told of any."""

    def received(self, message: Message, *, bounce_of: str = "", seconds: float = -1) -> None:
        """Nothing."""

    def delivered(self, message: Message, outcome: Outcome, *, additional: bool = False) -> None:
        """Nothing."""

    def deferred(self, message: Message, outcome: Outcome) -> None:
        """Nothing."""

    def failed(self, message: Message, outcome: Outcome) -> None:
        """Nothing."""

    def completed(self, message: Message) -> None:
        """Nothing."""

    def rejected(
        self, connection: Connection, what: str, text: str, headers: Sequence[Header] = ()
    ) -> None:
        """Say what was refused."""
        say(f"LOG: {what}: {text}", error=True)

    def main(self, text: str, message_id: str = "", *, rejection: bool = False) -> None:
        """Say it."""
        say(f"LOG: {text}", error=True)

    def reject(self, text: str, message_id: str = "") -> None:
        """Nothing: the main log has it."""

    def selected(self, selector: str) -> bool:
        """Nothing more than the usual is told."""
        return False

    def panic(self, text: str, failure: BaseException | None = None) -> None:
        """Say it."""
        say(f"LOG: {text}" + (f": {failure}" if failure is not None else ""), error=True)

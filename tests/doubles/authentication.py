"""An authentication that knows PLAIN and LOGIN for one user."""

from __future__ import annotations

from mailsrv.interfaces import AuthResult, AuthStep
from mailsrv.mail.connection import Connection


class FakeExchange:
    """PLAIN, or LOGIN's two questions; ``away`` answers that the backend is not there."""

    def __init__(self, owner: FakeAuthentication, mechanism: str) -> None:
        self.owner, self.mechanism, self.answers = owner, mechanism, []

    async def step(self, response: bytes | None) -> AuthStep:
        if self.owner.error is not None:
            raise self.owner.error
        if self.owner.away:
            return AuthStep(AuthResult.UNAVAILABLE, authenticator="fake", text=self.owner.text)
        if self.mechanism == "PLAIN":
            if response is None:
                return AuthStep(AuthResult.CONTINUE)
            return self._judge(response == b"\0user\0pass")
        if response is not None:
            self.answers.append(response)
        if len(self.answers) < 2:
            question = (b"User Name", b"Password")[len(self.answers)]
            return AuthStep(AuthResult.CONTINUE, question)
        return self._judge(self.answers == [b"user", b"pass"])

    def _judge(self, good: bool) -> AuthStep:
        if good:
            return AuthStep(AuthResult.SUCCESS, b"", "user", "fake")
        return AuthStep(AuthResult.FAILURE, b"", "user", "fake", text=self.owner.text)

    def cancel(self) -> None:
        self.owner.cancelled += 1


class FakeAuthentication:
    """Provides ``IAuthentication``."""

    def __init__(self) -> None:
        self.mechanisms: list[str] = []
        self.away = False
        self.text = ""  # what the configuration wants the client to read
        self.mail_auth = True  # server_mail_auth_condition
        self.error: Exception | None = None
        self.cancelled = 0

    async def advertised(self, connection: Connection) -> list[str]:
        return self.mechanisms

    async def keeps_mail_auth(self, connection: Connection) -> bool:
        return self.mail_auth

    async def begin(self, mechanism: str, connection: Connection) -> FakeExchange | None:
        return FakeExchange(self, mechanism)

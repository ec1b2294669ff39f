"""What can go wrong with mail and with a configuration.

A failure carries what the peer may read (``status``) and what only our log
says (``reason``).  Any other exception is a bug: logged with its traceback in
the panic log, and a *temporary* failure for the mail, so that nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailsrv.mail.status import LOCAL_PROBLEM, Status


class MailFailure(Exception):
    """A mail, command or delivery that did not succeed."""

    def __init__(self, status: Status, reason: str = "") -> None:
        super().__init__(reason or status.text)
        self.status = status
        self.reason = reason or status.text

    @property
    def explained(self) -> str:
        """The reason, for our log: with its place in the configuration where that is known."""
        return self.reason


class TemporaryFailure(MailFailure):
    """4yz: defer; the retry rules decide when it is tried again."""

    def __init__(self, status: Status = LOCAL_PROBLEM, reason: str = "") -> None:
        super().__init__(status, reason)


class Locked(TemporaryFailure):
    """The message is being delivered now: it cannot be changed ("is locked", Exim's word)."""

    def __init__(self, id: str) -> None:
        super().__init__(reason=f"message {id} is locked")


class PermanentFailure(MailFailure):
    """5yz: reject now, or bounce."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a configuration file: its path and line, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"line {self.line} of {self.file}"


class ConfigError(Exception):
    """A fault in a configuration: what is wrong, where, and the mend.

    ``where`` is None where no single line is to blame (a missing option).  ``whole``: Exim
    finds it when it has read the whole section, after faults in lines that follow.
    """

    def __init__(
        self,
        problem: str,
        where: Position | None = None,
        hint: str = "",
        *,
        whole: bool = False,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.whole = whole
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.problem}"
        if self.where is not None:
            text = f"{self.where}: {text}"
        return f"{text} ({self.hint})" if self.hint else text


class ConfigErrors(Exception):
    """All faults that one reading of a configuration found, in the order of the file."""

    def __init__(self, errors: list[ConfigError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors

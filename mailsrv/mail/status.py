"""A reply's code, enhanced status code and text, which always travel together."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Status:
    """A reply code (RFC 5321 4.2), its enhanced status code (RFC 3463) and the peer's text.

    ``text`` may have several lines, separated by ``\\n``.  The class digit of
    the enhanced code is that of ``code`` and is not stored a second time.
    ``subject`` and ``detail`` are both 0 where nothing better is known.
    """

    code: int
    subject: int
    detail: int
    text: str

    @property
    def enhanced(self) -> str:
        """The enhanced status code, for example ``5.1.1``."""
        return f"{self.code // 100}.{self.subject}.{self.detail}"

    @property
    def temporary(self) -> bool:
        """Whether trying again later may help (4yz)."""
        return self.code // 100 == 4

    @property
    def permanent(self) -> bool:
        """Whether the answer is final (5yz)."""
        return self.code // 100 == 5

    def saying(self, text: str) -> Status:
        """Return the same status with another text."""
        return replace(self, text=text)


LOCAL_PROBLEM = Status(451, 3, 0, "Temporary local problem - please try later")

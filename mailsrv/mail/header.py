"""Header fields as Exim keeps them: whole lines, in order."""

from __future__ import annotations

from dataclasses import dataclass

# Exim's letters of the header fields that it treats specially (specification 56).
_LETTERS = {
    "bcc": "B",
    "cc": "C",
    "from": "F",
    "message-id": "I",
    "received": "P",
    "reply-to": "R",
    "sender": "S",
    "to": "T",
}


@dataclass(frozen=True, slots=True)
class Header:
    """One header field: its text from the name on, lines joined by ``\\n``, no end of line."""

    text: str

    @property
    def name(self) -> str:
        """The field name as written, without colon and trailing blanks."""
        return self.text.partition(":")[0].rstrip(" \t")

    @property
    def value(self) -> str:
        """All after the colon, as it stands."""
        return self.text.partition(":")[2]

    @property
    def letter(self) -> str:
        """The letter for the field in spool files and the reject log; a blank for most."""
        return _LETTERS.get(self.name.lower(), " ")

    def called(self, name: str) -> bool:
        """Tell whether this field has ``name``, in any case."""
        return self.name.lower() == name.lower()


def render(headers: list[Header], newline: bytes = b"\r\n") -> bytes:
    """Return header fields in wire form, without the empty line that ends them."""
    text = "\n".join(header.text for header in headers)
    raw = text.encode("latin-1")
    return raw.replace(b"\n", newline) + newline if raw else b""

"""What MAIL and RCPT say, checked so that no value can leave its place in a command."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailsrv.wire.replies import printable


class UnsafeValue(ValueError):
    """A value that would not stay inside its command; it was not sent."""


@dataclass(frozen=True, slots=True)
class EnvelopeRecipient:
    """A recipient as RCPT names it, with its DSN parameters (RFC 3461); "" = not given."""

    address: str
    notify: str = ""  # NEVER, or SUCCESS,FAILURE,DELAY in any choice
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What MAIL and RCPT say of one message."""

    sender: str
    recipients: tuple[EnvelopeRecipient, ...]
    size: int = 0  # octets as sent, at most; 0 = not said
    eight_bit: bool = False
    utf8: bool = False  # the envelope or header holds UTF-8 (RFC 6531)
    ret: str = ""
    envid: str = ""
    auth: str = ""  # AUTH= of MAIL: who wrote it (RFC 4954 5), not yet in xtext


_SAFE_PATH = re.compile(r"(?:[^\x00-\x20\x7f<>\"\\]|\"(?:[^\x00-\x1f\x7f\"\\]|\\[\x20-\x7e])*\")*")
_SAFE_WORD = re.compile(r"[!-~]+", re.ASCII)


def path(address: str) -> str:
    """Return an address in angle brackets.

    :raises UnsafeValue: it has a control character, or a blank, bracket or
        backslash outside quotes.
    """
    if _SAFE_PATH.fullmatch(address) is None:
        raise UnsafeValue(f"unsafe address {printable(address[:200])}")
    return f"<{address}>"


def xtext(text: str) -> str:
    """Return ``text`` as the xtext of RFC 3461 4."""
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)


def word(text: str) -> str:
    """Return ``text`` if it can be one word of a command, else raise :class:`UnsafeValue`."""
    if _SAFE_WORD.fullmatch(text) is None:
        raise UnsafeValue(f"unsafe word {printable(text[:200])}")
    return text

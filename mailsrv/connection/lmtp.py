"""LMTP at the server's side (RFC 2033): the same session, with LHLO and a reply for each recipient.

What differs in the dialogue is decided there by ``Connection.lmtp``; here is
what differs on the wire: enhanced status codes, which RFC 2033 5 wants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.protocol import Factory

from mailsrv.connection.protocol import SmtpProtocol
from mailsrv.wire.reply import with_enhanced

if TYPE_CHECKING:
    from mailsrv.connection.factory import SmtpFactory

_WITHOUT = ("", "LHLO")  # the greeting, and what is said to LHLO (RFC 2034 4)


class LmtpProtocol(SmtpProtocol):
    """One connection of an LMTP client."""

    lmtp: ClassVar[bool] = True

    def write(self, octets: bytes) -> None:
        """Send a reply, with an enhanced status code where there must be one."""
        dialogue = self.dialogue
        if dialogue is not None and dialogue.connection.command not in _WITHOUT:
            octets = with_enhanced(octets, dialogue.connection.command)
        super().write(octets)


class LmtpFactory(Factory):
    """Makes LMTP connections, which are ``smtp``'s: it counts, drains and configures them."""

    noisy = False

    def __init__(self, smtp: SmtpFactory) -> None:
        self._smtp = smtp

    def buildProtocol(self, addr: Any) -> Any:
        """Make the protocol of a new connection; none while the server stops."""
        return self._smtp.build(LmtpProtocol)

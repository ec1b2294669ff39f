"""The ``autoreply`` transport (chapter 27): declared, so that a configuration that has it runs.

Only filters and routers of one's own send automatic replies; the former are not
interpreted, and what a router sends here is deferred, with a warning at the start.
"""

from __future__ import annotations

from mailsrv.config.options import option
from mailsrv.config.types import ADDRESS_LIST, BOOLEAN, EXPANDED, INTEGER, OCTAL
from mailsrv.errors import TemporaryFailure
from mailsrv.transport.transport import Batch, Transport


class Autoreply(Transport):
    """Sends a message to the sender; defers whatever reaches it."""

    bcc = option(EXPANDED, help="addresses of Bcc:")
    cc = option(EXPANDED, help="addresses of Cc:")
    file = option(EXPANDED, help="a file that is part of the text")
    file_expand = option(BOOLEAN, default=False, help="expand the lines of file")
    file_optional = option(BOOLEAN, default=False, help="file need not exist")
    from_ = option(EXPANDED, help="the From: line")
    headers = option(EXPANDED, help="further header lines")
    log = option(EXPANDED, help="a file that records replies")
    mode = option(OCTAL, default=0o600, help="mode of files that are made")
    never_mail = option(ADDRESS_LIST, help="addresses that get no reply")
    once = option(EXPANDED, help="a file of those who had their reply")
    once_file_size = option(INTEGER, default=0, help="largest size of that file")
    once_repeat = option(EXPANDED, help="time after which another reply is sent")
    reply_to = option(EXPANDED, help="the Reply-To: line")
    return_message = option(BOOLEAN, default=False, help="return the message, too")
    subject = option(EXPANDED, help="the Subject: line")
    text = option(EXPANDED, help="the text")
    to = option(EXPANDED, help="addresses of To:")

    async def deliver(self, batch: Batch) -> None:
        """See :meth:`Transport.deliver`.

        :raises TemporaryFailure: always.
        """
        raise TemporaryFailure(reason=self.unusable or "automatic replies are not built")

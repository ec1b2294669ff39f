"""What transports share that write a message as a local file or pipe has it (26.2, 29.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, ClassVar

from mailsrv.config.options import option
from mailsrv.config.types import BOOLEAN, EXPANDED, STRING
from mailsrv.expansion.template import Template, compile_string
from mailsrv.transport.batching import BatchingTransport
from mailsrv.transport.transport import Batch, expand

if TYPE_CHECKING:
    from mailsrv.transport.headers import Content

FROM_LINE = compile_string(
    "From ${if def:return_path{$return_path}{MAILER-DAEMON}} ${tod_bsdinbox}\n"
)
EMPTY_LINE = compile_string("\n")


class LocalTransport(BatchingTransport):
    """A transport that writes messages with LF line ends, a line before and one after each."""

    needs_user: ClassVar[bool] = True

    check_string = option(STRING, help="replaced by escape_string at the start of a line")
    escape_string = option(STRING, help="replaces check_string at the start of a line")
    message_prefix = option(EXPANDED, help='written before each message; default a "From " line')
    message_suffix = option(EXPANDED, help="written after each message; default an empty line")
    use_crlf = option(BOOLEAN, default=False, help="end lines with CRLF")

    def use_defaults(self, **further: str) -> None:
        """Set what is not set as a mailbox file has it, and ``further`` options."""
        defaults: dict[str, str | Template] = {
            "message_prefix": FROM_LINE,
            "message_suffix": EMPTY_LINE,
            **further,
        }
        self.values = {**defaults, **self.values}

    async def pieces(self, batch: Batch, content: Content) -> AsyncIterator[bytes]:
        """Give the octets to write: prefix, message, suffix."""
        from mailsrv.transport.localtext import LocalText

        check, escape = (self.check_string or "", self.escape_string or "")
        text = LocalText(check.encode("latin-1"), escape.encode("latin-1"), crlf=self.use_crlf)
        scope = batch.scope()
        yield (await expand(self.message_prefix, scope)).encode("latin-1")
        async for piece in content.chunks():
            yield text.feed(piece)
        yield text.end() + (await expand(self.message_suffix, scope)).encode("latin-1")

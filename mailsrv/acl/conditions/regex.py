"""``regex``: a line of the message matches an expression (45.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from mailsrv.acl.item import Item
from mailsrv.acl.model import WHOLE_PHASES
from mailsrv.expansion.regex import compile_regex, groups
from mailsrv.expansion.separated import split_list

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation

LONGEST = 32 * 1024  # octets of a line that are looked at
_VARIABLES = 10  # $regex0 … $regex9


class Regex(Item):
    """One of the expressions matches; sets ``$regex_match_string`` and ``$regex1`` …"""

    name = "regex"
    phases = WHOLE_PHASES

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        texts = [text for text in split_list(await run.expanded(self.argument)) if text]
        patterns = [(text, compile_regex(text)) for text in texts]
        if not patterns:
            return False
        async for line in _lines(run):
            for text, pattern in patterns:
                match = pattern.search(line)
                if match is not None:
                    found = groups(match)[:_VARIABLES]
                    run.give(
                        regex_match_string=text,
                        **{f"regex{number}": value for number, value in enumerate(found)},
                    )
                    return True
        return False


async def _lines(run: Evaluation) -> AsyncIterator[str]:
    """The lines of header and body, without their ends."""
    for header in run.transaction.headers:
        for line in header.text.split("\n"):
            yield line.rstrip("\r")[:LONGEST]
    if run.transaction.body is None:
        return
    held = b""
    async for chunk in run.transaction.body.chunks():
        *whole, held = (held + chunk).split(b"\r\n")
        held = held[: LONGEST + 1]
        for octets in whole:
            yield octets[:LONGEST].decode("latin-1")
    if held:
        yield held[:LONGEST].decode("latin-1")

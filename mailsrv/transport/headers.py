"""The message as one delivery sends it: header lines added and left out (specification 48.17)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mailsrv.expansion.errors import ForcedFailure
from mailsrv.expansion.lists import split_list
from mailsrv.expansion.rewrite import with_domain
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import Template, compile_string
from mailsrv.mail.header import Header, render
from mailsrv.mail.message import Body
from mailsrv.transport.transport import Batch, Transport

_CR = ord("\r")


@dataclass(frozen=True, slots=True)
class Content:
    """The octets of a message in wire form, not dot-stuffed; ``body`` None leaves it out."""

    head: bytes  # the header with the empty line that ends it
    body: Body | None

    @property
    def size(self) -> int:
        """Octets in all."""
        return len(self.head) + (self.body.size if self.body is not None else 0)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the octets in order; a body in memory comes with the header, in one piece."""
        if self.body is None:
            yield self.head
        elif (inline := self.body.inline) is not None:
            yield self.head + inline
        else:
            yield self.head
            async for piece in self.body.chunks():
                yield piece

    async def longest_line(self, limit: int) -> bool:
        """Tell whether a line has more than ``limit`` octets, without its end."""
        if self.size <= limit:
            return False
        held = 0  # octets since the last line end, in earlier pieces
        async for piece in self.chunks():
            first = piece.find(b"\n")
            if held + (first if first >= 0 else len(piece)) > limit + 1 or _longer(piece, limit):
                return True
            held = held + len(piece) if first < 0 else len(piece) - piece.rfind(b"\n") - 1
        return False


def _longer(piece: bytes, limit: int) -> bool:
    """Tell whether a piece has a line with more than ``limit`` octets; the CR does not count."""
    start, end = 0, len(piece)
    while end - start > limit:
        # The last end of line that a line from ``start`` may have, with its CR: one jump
        # for many short lines.
        found = piece.rfind(b"\n", start, start + limit + 2)
        if found < 0:
            return end - start > limit + 1 or not piece.endswith(b"\r")
        if found > start + limit and piece[found - 1] != _CR:
            found = piece.rfind(b"\n", start, found)
            if found < 0:
                return True
        start = found + 1
    return False


async def content_of(transport: Transport, batch: Batch) -> Content:
    """Return what ``transport`` sends for a batch.

    :raises TemporaryFailure: an option's expansion failed.
    """
    body = None if transport.headers_only else batch.message.body
    if transport.body_only:
        return Content(b"", body)
    headers = [*await _trace(transport, batch), *await _header(transport, batch)]
    return Content(render(headers) + b"\r\n", body)


async def filtered(
    transport: Transport, batch: Batch, content: Content, values: Mapping[str, str] = {}
) -> Content:
    """Return what ``transport_filter`` makes of a message; the message itself without one.

    :raises TemporaryFailure: the filter fails, takes too long, or may not be run.
    """
    if transport.transport_filter is None or not transport.transport_filter.source:
        return content
    from mailsrv.transport.filter import run_filter

    return await run_filter(transport, batch, content, values)


async def _trace(transport: Transport, batch: Batch) -> list[Header]:
    """Return the lines that delivery itself adds on top (RFC 5321 4.4)."""
    lines = []
    if transport.return_path_add:
        lines.append(f"Return-path: <{_one_line(batch.sender)}>")
    if transport.envelope_to_add:
        originals = dict.fromkeys(_one_line(a.recipient.address) for a in batch.addresses)
        lines.append("Envelope-to: " + ",\n ".join(originals))
    if transport.delivery_date_add:
        lines.append("Delivery-date: " + await compile_string("$tod_full").expand(batch.scope()))
    return [Header(line) for line in lines]


async def _header(transport: Transport, batch: Batch) -> list[Header]:
    """Return the message's own lines that stay, then those of routers and of the transport."""
    scope, first = batch.scope(), batch.addresses[0]
    removed = [*first.headers_remove, *await expand_items(transport.headers_remove, scope, ":")]
    added = [*first.headers_add, *await expand_items(transport.headers_add, scope, "\n")]
    kept = batch.message.headers
    if removed:
        drop = leaves_out(removed)
        kept = [header for header in kept if not drop(header.name)]
    for old, new in first.renamed:
        kept = [with_domain(header, old, new) for header in kept]
    if transport.rewriter is not None:
        kept = await transport.rewriter.headers(kept, scope)
    return kept + [Header(line) for text in added for line in lines_of(text)]


def leaves_out(names: Sequence[str]) -> Callable[[str], bool]:
    """Return the test for header names of a headers_remove list; ``name*`` is a prefix."""
    lowered = [name.lower() for name in names]
    exact = {name for name in lowered if not name.endswith("*")}
    prefixes = tuple(name[:-1] for name in lowered if name.endswith("*"))
    return lambda name: name.lower() in exact or name.lower().startswith(prefixes or (" ",))


def lines_of(text: str) -> list[str]:
    """Return the header lines in an added text; a line that begins with a blank continues one.

    A line that is no header line and no continuation would end the header
    early; such a text gives what comes before it.
    """
    result: list[str] = []
    for line in text.replace("\r", "").split("\n"):
        if line[:1] in (" ", "\t") and result:
            result[-1] += "\n" + line
        elif line:
            name, colon, _ = line.partition(":")
            if not colon or not name or any(c <= " " or c > "~" for c in name.rstrip(" \t")):
                break
            result.append(line)
    return result


async def expand_items(template: Template | None, scope: Scope, separator: str) -> list[str]:
    """Expand a list's items one by one; empty ones and those that ``fail`` have no effect."""
    result = []
    for item in _items(template.source, separator) if template is not None else ():
        try:
            text = await item.expand(scope)
        except ForcedFailure:
            continue
        if text.strip(" \t\n"):
            result.append(text)
    return result


@lru_cache(maxsize=1000)
def _items(source: str, separator: str) -> tuple[Template, ...]:
    return tuple(compile_string(item) for item in split_list(source, separator))


def _one_line(address: str) -> str:
    return address.replace("\r", "").replace("\n", "")

"""``verify = header_syntax``, ``header_names_ascii`` and ``not_blind``: the message's header."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mailsrv.acl.verification.mailboxes import mailboxes
from mailsrv.mail.case import lower
from mailsrv.mail.header import Header

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation

_ADDRESS_LISTS = ("sender", "from", "reply-to", "to", "cc", "bcc")
_VISIBLE = ("to", "cc", "resent-to", "resent-cc")


def _headers(run: Evaluation, names: tuple[str, ...] | None = None) -> Iterator[Header]:
    for header in run.transaction.headers:
        if names is None or header.name.lower() in names:
            yield header


async def syntax(run: Evaluation, value: str, options: frozenset[str]) -> bool:
    """Every field that holds addresses can be read as an address list."""
    for header in _headers(run, _ADDRESS_LISTS):
        found = mailboxes(header.value)
        if found.problem:
            run.explain(
                "",
                f'{found.problem}: failing address in "{header.name}:" header is: {found.failing}',
            )
            return False
    return True


async def names_ascii(run: Evaluation, value: str, options: frozenset[str]) -> bool:
    """The names of all fields are printable ASCII."""
    for header in _headers(run):
        if not all("!" <= character <= "~" for character in header.name):
            run.explain("", f'Invalid character in header "{header.name}" found')
            return False
    return True


async def not_blind(run: Evaluation, value: str, options: frozenset[str]) -> bool:
    """Every recipient of the envelope stands in To: or Cc:."""
    fold = "case_insensitive" in options
    shown = {
        _key(address, fold)
        for header in _headers(run, _VISIBLE)
        for address in mailboxes(header.value).addresses
    }
    for recipient in run.transaction.recipients:
        if _key(recipient.address, fold) not in shown:
            run.explain("", "bcc recipient detected")
            return False
    return True


def _key(address: str, fold: bool) -> str:
    local_part, at, domain = address.rpartition("@")
    return (lower(local_part) if fold else local_part) + at + lower(domain)

"""Routing that takes its answers from a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mailsrv.interfaces import Routed
from mailsrv.mail.address import split
from mailsrv.mail.message import Message, Recipient
from mailsrv.mail.routed import RoutedAddress


def an_address(recipient: Recipient, address: str = "", **fields: Any) -> RoutedAddress:
    """What ``recipient`` is routed to, by a transport named "t" unless ``fields`` say else."""
    address = address or recipient.address
    local_part, domain = split(address)
    values = {"router": "r", "transport": "t", **fields}
    return RoutedAddress(recipient, address, local_part, domain, **values)


class TableRouting:
    """Provides ``IRouting``: ``answers`` by address (a Routed, an exception, or a function of the
    recipient); any other address is delivered as it is.  ``asked`` has the addresses in order."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Routed | Exception | Callable[[Recipient], Routed]] = answers
        self.asked: list[str] = []

    async def route(self, message: Message, recipient: Recipient) -> Routed:
        self.asked.append(recipient.address)
        answer = self.answers.get(recipient.address)
        if answer is None:
            return Routed((an_address(recipient),))
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Routed) else answer(recipient)

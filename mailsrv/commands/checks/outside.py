"""Conditions as an unauthenticated host from outside meets them, with a recipient elsewhere.

What is told of a condition is one of four things: it holds, it fails, the peer
can have it either way, or nobody can tell before it happens.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Iterable

from mailsrv.config.model import Configuration
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.separated import split_list
from mailsrv.expansion.template import Template
from mailsrv.expansion.tree import drive
from mailsrv.interfaces import AclPhase
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Recipient, Transaction
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import RoutedAddress
from mailsrv.mail.taint import Tainted
from mailsrv.service.environment import WallClock, make_services

HOST = "203.0.113.77"  # of a documentation network: nobody's relay list names it
DOMAIN = "foreign-domain.example"
LOCAL_PART = "somebody"
_DEEPEST = 20


class Told(enum.Enum):
    """What can be told of a condition."""

    TRUE = "true"
    FALSE = "false"
    CHOSEN = "as the peer likes"
    UNKNOWN = "unknown"

    def negated(self) -> Told:
        """The opposite."""
        return {Told.TRUE: Told.FALSE, Told.FALSE: Told.TRUE}.get(self, self)


class _Empty:
    """Provides ``ILookup``: nothing is found."""

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find nothing."""
        return None


class Outside:
    """The world as such a peer sees it."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        services = make_services(configuration, WallClock(), lambda name: _Empty())
        origin = Origin(host_address=HOST, helo_name=Tainted("outside.example"), protocol="esmtp")
        connection = Connection(origin, acl_phase=AclPhase.RCPT.value)
        sender = Tainted(f"someone@{DOMAIN}")
        connection.transaction = Transaction(sender=sender)
        address = Tainted(f"{LOCAL_PART}@{DOMAIN}")
        self.scope = Scope(
            services,
            connection=connection,
            message=connection.transaction,
            origin=origin,
            address=RoutedAddress(
                Recipient(address), address, Tainted(LOCAL_PART), Tainted(DOMAIN)
            ),
        )

    def text(self, template: Template, scope: Scope | None = None) -> str | None:
        """Expand a string where no lookup finds anything; None if that cannot be done here."""
        if template.constant is not None:
            return template.constant
        try:
            return drive(template.expand(scope or self.scope))
        except (ExpansionError, TypeError, NotImplementedError):
            return None

    def condition(self, template: Template) -> Told:
        """Tell what a ``condition`` comes to."""
        text = self.text(template)
        if text is None:
            return Told.UNKNOWN
        word = text.strip().lower()
        if word in ("", "no", "false") or (word.lstrip("-").isdigit() and not word.strip("-0")):
            return Told.FALSE
        return Told.TRUE

    def in_list(self, template: Template, kind: str) -> Told:
        """Tell whether the peer's host, or its recipient's domain, is in a list."""
        text = self.text(template)
        return Told.UNKNOWN if text is None else self._walk(split_list(text), kind, 0)

    def _walk(self, items: Iterable[str], kind: str, depth: int) -> Told:
        result, last_negated = Told.FALSE, False
        for written in items:
            item = written.lstrip("!").strip()
            last_negated = written.startswith("!")
            found = self._item(item, kind, depth)
            if found is Told.TRUE:
                return Told.FALSE if last_negated else Told.TRUE
            if found is not Told.FALSE and not last_negated:
                result = found
        if last_negated and result is Told.FALSE:
            return Told.TRUE
        return result

    def _item(self, item: str, kind: str, depth: int) -> Told:
        if item.startswith("+"):
            return self._named(item[1:], kind, depth)
        if item == "*":
            return Told.TRUE
        if kind == "host":
            return _host(item)
        if item.startswith("^"):
            return _regex(item)
        if item.startswith("*"):
            return Told.TRUE if DOMAIN.endswith(item[1:].lower()) else Told.FALSE
        return Told.TRUE if item.lower() == DOMAIN else Told.FALSE

    def _named(self, name: str, kind: str, depth: int) -> Told:
        named = self.configuration.named_lists[kind].get(name)
        if named is None:
            return Told.FALSE if "_" in name and kind == "host" else Told.UNKNOWN
        text = self.text(named.template)
        if text is None or depth > _DEEPEST:
            return Told.UNKNOWN
        return self._walk(split_list(text), kind, depth + 1)


def _host(item: str) -> Told:
    try:
        network = ipaddress.ip_network(item, strict=False)
    except ValueError:
        return Told.FALSE  # a name, a lookup, @[] ... : of other hosts
    return Told.TRUE if ipaddress.ip_address(HOST) in network else Told.FALSE


def _regex(item: str) -> Told:
    try:
        return Told.TRUE if re.search(item, DOMAIN) else Told.FALSE
    except re.error:
        return Told.UNKNOWN

"""What the tests of strings share: a scope with a fixed clock, and running what does not wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.lists import NamedLists
from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.template import compile_string
from mailsrv.expansion.tree import drive
from mailsrv.interfaces import ILookup
from mailsrv.lookup import registry

NOW = 1_700_000_000.0
SETTINGS = {
    "primary_hostname": "mail.example.com",
    "qualify_domain": "mail.example.com",
    "qualify_recipient": "mail.example.com",
}


def make_scope(
    lists: NamedLists | None = None,
    lookup: Callable[[str], ILookup | None] | None = None,
    **more: Any,
) -> Scope:
    """A scope without a connection; ``resolver``, ``acl`` go to its services, the rest to it."""
    clock = Clock()
    clock.advance(NOW)
    services = Services(
        clock=clock,
        settings=SETTINGS | more.pop("settings", {}),
        lookup=lookup or registry(),
        resolver=more.pop("resolver", None),
        acl=more.pop("acl", None),
        lists=lists,
        log=more.pop("log", None),
        pid=4711,
    )
    return Scope(services, **more)


def expand(text: str, scope: Scope | None = None) -> str:
    """Expand a string."""
    return drive(compile_string(text).expand(scope or make_scope()))


def failure(text: str, scope: Scope | None = None) -> str:
    """The reason why a string cannot be expanded; fails the test if it can."""
    try:
        result = expand(text, scope)
    except ExpansionError as error:
        return error.reason
    raise AssertionError(f"{text!r} gave {result!r}")

"""Types of lookup that other packages add, as plugins of Twisted (``twisted/plugins/``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.plugin import IPlugin, getPlugins
from zope.interface import Attribute, Interface

from mailsrv.interfaces import ILookup


class ILookupType(Interface):
    """A type of lookup of another package; see docs/adding-a-lookup.md."""

    name = Attribute("the type's name in a configuration: letters and digits, lower case")
    query = Attribute("True: it takes a query; False: a file and a key")

    def make(threads: Callable[..., Awaitable[Any]] | None) -> ILookup:
        """Return the lookup; ``threads(function, *arguments)`` is awaited for what blocks."""


def added_type(name: str) -> Any:
    """Return the first plugin with this name; None if there is none."""
    for plugin in getPlugins(ILookupType):
        if plugin.name == name:
            return plugin
    return None


__all__ = ["ILookupType", "IPlugin", "added_type"]

"""Drivers that other packages add, as plugins of Twisted (``twisted/plugins/``)."""

from __future__ import annotations

from twisted.plugin import getPlugins
from zope.interface import Attribute, Interface

from mailsrv.config.options import OptionSet


class IDriver(Interface):
    """A router, transport or authenticator driver of another package."""

    kind = Attribute("router, transport or authenticator")
    name = Attribute("the driver's name in a configuration")

    def load() -> type[OptionSet]:
        """Return the driver's class; it has the base class of mailsrv's own drivers of the kind."""


def plugin_class(kind: str, driver: str) -> type[OptionSet] | None:
    """Return the class of the first plugin with this kind and name, if there is one."""
    for plugin in getPlugins(IDriver):
        if plugin.kind == kind and plugin.name == driver:
            found: type[OptionSet] = plugin.load()
            return found
    return None

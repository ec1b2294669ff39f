"""Where drivers are found: one module a driver, named as in the configuration (design, decision 1).

Drivers of others are found through ``twisted.plugin``: a plugin provides
:class:`mailsrv.config.plugins.IDriver`.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Final

from mailsrv.config.known import drivers, explain
from mailsrv.config.options import OptionSet
from mailsrv.errors import ConfigError, Position

PACKAGES: Final = {
    "router": "mailsrv.routing.routers",
    "transport": "mailsrv.transport.transports",
    "authenticator": "mailsrv.auth.authenticators",
}


def built_in(kind: str) -> list[str]:
    """The names of mailsrv's own drivers of a kind, without importing them."""
    return module_names(PACKAGES[kind])


def module_names(package: str) -> list[str]:
    """The names of the public modules in a package, without importing them."""
    path = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(path) if module.name[0] != "_")


def driver_class(kind: str, driver: str, where: Position) -> type[OptionSet]:
    """Return the class of a driver, with its options.

    :raises ConfigError: there is no such driver.
    """
    found = _built_in_class(kind, driver)
    if found is None:
        from mailsrv.config.plugins import plugin_class

        found = plugin_class(kind, driver)
    if found is not None:
        return found
    known, hint = explain(driver, drivers(kind), built_in(kind))
    if known:
        raise ConfigError(f'{kind} driver "{driver}" is known to Exim, not to mailsrv', where)
    raise ConfigError(f'cannot find {kind} driver "{driver}"', where, hint)


def _built_in_class(kind: str, driver: str) -> type[OptionSet] | None:
    """Import the module of a driver; its driver is the one public class of options in it."""
    name = f"{PACKAGES[kind]}.{driver}"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", driver, re.ASCII):
        return None
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None
    classes = [
        value
        for key, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, OptionSet)
        and value.__module__ == name
        and not key.startswith("_")
    ]
    if len(classes) != 1:
        raise TypeError(f"{name} must have one public class of options, not {len(classes)}")
    return classes[0]

"""Lookups (specification chapter 9): one module a type, named as in the configuration.

Each has a class ``Lookup``, an :class:`~mailsrv.interfaces.ILookup` that is
made with the function that runs what blocks in a thread.  Modules are imported
when a string names their type, and import light themselves.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from mailsrv.expansion.added import added_type
from mailsrv.interfaces import ILookup, IResolver
from mailsrv.lookup._backing import Backing

Threads = Callable[..., Awaitable[Any]]


def registry(
    threads: Threads | None = None, resolver: IResolver | None = None, settings: Any = None
) -> Callable[[str], ILookup | None]:
    """Return what ``Services.lookup`` wants: by a type's name its lookup, None if it is not built.

    ``threads`` is awaited as ``threads(function, *arguments)``; without it
    (in commands) everything is done here and now.  Types that are ``backed`` get
    the resolver and the main options (``settings``), too.
    """
    backing = Backing(resolver, settings)
    made: dict[str, ILookup] = {}

    def find(name: str) -> ILookup | None:
        if name not in made and re.fullmatch("[a-z][a-z0-9]*", name, re.ASCII):
            module = f"mailsrv.lookup.{name}"
            try:
                kind = import_module(module).Lookup
                made[name] = kind(threads, backing) if hasattr(kind, "backed") else kind(threads)
            except ModuleNotFoundError as error:
                if error.name != module:
                    raise
                plugin = added_type(name)
                if plugin is not None:
                    made[name] = plugin.make(threads)
        return made.get(name)

    return find

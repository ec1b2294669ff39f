"""A configuration that was read: what is in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mailsrv.config.lines import Line
from mailsrv.config.main import MainOptions
from mailsrv.config.options import OptionSet
from mailsrv.errors import ConfigError, Position
from mailsrv.expansion.template import Template

LIST_KINDS = ("domain", "host", "address", "localpart")


@dataclass(frozen=True, slots=True)
class NamedList:
    """A named list of the main section (chapter 10.6); ``cached`` by ``domainlist_cache`` …"""

    name: str
    template: Template
    where: Position
    cached: bool = False
    hidden: bool = False


@dataclass(slots=True)
class Configuration:
    """All that a configuration file says.

    ``acls``, ``retry`` and ``rewrite`` are what the parsers of these sections
    return; of an absent section, what they return for no lines.  ``routers``
    and ``authenticators`` are in the order of the file.  ``warnings`` are whole
    lines that name file and line; ``late`` are faults that Exim, too, finds only
    when it reaches them: what needs them fails for the time being.  ``lines`` are
    the logical lines, with macros replaced and files included.
    """

    file: str
    main: MainOptions
    named_lists: dict[str, dict[str, NamedList]]
    authenticators: list[OptionSet] = field(default_factory=list)
    routers: list[OptionSet] = field(default_factory=list)
    transports: dict[str, OptionSet] = field(default_factory=dict)
    acls: Any = None
    retry: Any = None
    rewrite: Any = None
    macros: Mapping[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    late: list[ConfigError] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def notices(self) -> list[str]:
        """What an administrator should know of a configuration that can be used."""
        return [*self.warnings, *map(str, self.late)]

    def instances(self, kind: str) -> list[OptionSet]:
        """All driver instances of a kind: router, transport or authenticator."""
        if kind == "transport":
            return list(self.transports.values())
        return self.routers if kind == "router" else self.authenticators

"""Constant lists and arguments that cannot be read: they fail when they are reached."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailsrv.acl.conditions import dnslists, ratelimit, seen
from mailsrv.acl.item import Item
from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.checks.strings import lists, rules
from mailsrv.config.model import Configuration
from mailsrv.config.types import parse_time
from mailsrv.errors import ConfigError
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.lists import read_item
from mailsrv.expansion.separated import split_list

_DNSLISTS_SETTINGS = ("+include_unknown", "+exclude_unknown", "+defer_unknown")
_TRUTH = re.compile(r"-?[0-9]+|yes|no|true|false|", re.IGNORECASE)


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield what is malformed in lists, conditions and rules."""
    for name, kind, template in lists(configuration):
        for item in split_list(template.constant or ""):
            try:
                read_item(kind, item)
            except ExpansionError as error:
                yield Finding(template.where, f"{name}: {error.reason}")
    for each in configuration.acls.items():
        problem = _problem(each)
        if problem:
            yield Finding(each.where, f"{each.name}: {problem}")
    for name, template in rules(configuration):
        if template.error is not None:
            yield Finding(template.where, f"{name}: {template.error.reason}")


def _problem(item: Item) -> str:
    text = item.argument.constant
    if text is None:
        return ""
    try:
        match item.name:
            case "condition" if not _TRUTH.fullmatch(text.strip()):
                return f'"{text}" is neither true nor false: the condition defers'
            case "delay":
                parse_time(text)
            case "ratelimit":
                ratelimit.parse_request(text)
            case "seen":
                seen.parse_request(text)
            case "dnslists":
                for each in split_list(text):
                    if each.startswith("+") and each not in _DNSLISTS_SETTINGS:
                        return f'unknown item "{each}"'
                    dnslists.parse_item(each.lstrip("+"))
    except (ValueError, ConfigError) as error:
        return str(error.problem if isinstance(error, ConfigError) else error)
    return ""

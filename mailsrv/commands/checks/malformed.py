"""Constant lists and arguments that cannot be read: they fail when they are reached."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailsrv.acl.conditions import dnslists, ratelimit, seen
from mailsrv.acl.conditions.condition import truth
from mailsrv.acl.item import Item
from mailsrv.acl.model import PHASE_NAMES
from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.checks.outside import Outside
from mailsrv.commands.checks.strings import lists, patterns, rules
from mailsrv.commands.checks.usage import phases
from mailsrv.config.model import Configuration
from mailsrv.config.types import parse_time
from mailsrv.errors import ConfigError
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.hostpatterns import HostName
from mailsrv.expansion.lists import read_item
from mailsrv.expansion.regex import compile_regex
from mailsrv.expansion.separated import split_list

_DNSLISTS_SETTINGS = ("+include_unknown", "+exclude_unknown", "+defer_unknown")
_NO_NAME = re.compile(r"[^A-Za-z0-9_.:*-]|\A[0-9.]+\Z")

_MENDS = {
    "condition": "write yes or no, or a string that comes to one, such as ${if ...}",
    "delay": "write a time, such as 30s",
    "dnslists": "specification 44.27 has the forms",
    "regex": "mend the expression; a colon in it is written twice",
    "ratelimit": "write a number / a period / options / a key, such as 100 / 1h / strict",
    "seen": "write a time, such as -5m, / options",
}


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield what is malformed in lists, conditions and rules."""
    for name, kind, template in (*lists(configuration), *patterns(configuration)):
        for item in split_list(template.constant or ""):
            try:
                pattern = read_item("local_part" if kind == "localpart" else kind, item).pattern
            except ExpansionError as error:
                problem = f"{name}: {error.reason}"
                yield Finding(template.where, problem, "specification 10 has the forms of items")
                continue
            if isinstance(pattern, HostName) and _NO_NAME.search(pattern.name):
                problem = f'{name}: "{item}" is no address, no network and no name of a host'
                yield Finding(template.where, problem, "write a network as 10.0.0.0/8")
    for each in configuration.acls.items():
        problem = _problem(each)
        if problem:
            mend = _MENDS.get(each.name, "specification 44 has its form")
            yield Finding(each.where, f"{each.name}: {problem}", mend)
    yield from _conditions(configuration)
    for name, template in rules(configuration):
        if template.error is not None:
            problem = f"{name}: {template.error.shown}"
            yield Finding(template.where, problem, "mailsrv -be 'STRING' tries one")


def _conditions(configuration: Configuration) -> Iterator[Finding]:
    """Strings that come to no truth value for a stranger: a brace too many, for one."""
    for name, in_phases in phases(configuration).items():
        for phase in sorted(in_phases, key=PHASE_NAMES.__getitem__)[:1]:
            outside = Outside(configuration, phase=phase)
            for statement in configuration.acls.acls[name].statements:
                for clause in statement.clauses:
                    item = clause.item
                    if item.name != "condition" or item.argument.constant is not None:
                        continue
                    text = outside.said(item.argument, forced="")
                    if text is not None and truth(text.strip()) is None:
                        problem = f'condition comes to "{text}", which is neither true nor false'
                        yield Finding(item.where, f"{problem}: it defers", _MENDS["condition"])


def _problem(item: Item) -> str:
    text = item.argument.constant
    if text is None:
        return ""
    try:
        match item.name:
            case "condition" if truth(text.strip()) is None:
                return f'"{text}" is neither true nor false: the condition defers'
            case "regex":
                for each in split_list(text):
                    compile_regex(each)
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
    except ExpansionError as error:
        return error.reason
    except (ValueError, ConfigError) as error:
        return str(error.problem if isinstance(error, ConfigError) else error)
    return ""

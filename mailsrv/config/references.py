"""Finds ``+name`` items that name no list: an error with its line, not a deferral at run time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from mailsrv.config.known import explain
from mailsrv.config.lines import Line
from mailsrv.config.model import Configuration
from mailsrv.config.types import ADDRESS_LIST, DOMAIN_LIST, HOST_LIST, LOCAL_PART_LIST
from mailsrv.errors import ConfigError, Position
from mailsrv.expansion.lists import SETTINGS
from mailsrv.expansion.separated import split_list
from mailsrv.expansion.template import Template, compile_string

# The kind of list that a type of options holds, and the one that an ACL's condition takes.
LIST_TYPES: Final = {
    id(DOMAIN_LIST): "domain",
    id(HOST_LIST): "host",
    id(ADDRESS_LIST): "address",
    id(LOCAL_PART_LIST): "localpart",
}
LIST_CONDITIONS: Final = {
    "domains": "domain",
    "sender_domains": "domain",
    "hosts": "host",
    "senders": "address",
    "recipients": "address",
    "local_parts": "localpart",
}
_ACL_CONDITION: Final = re.compile(
    r"(?:(?:accept|defer|deny|discard|drop|require|warn)[ \t]+)?!?[ \t]*"
    rf"({'|'.join(LIST_CONDITIONS)})[ \t]*=[ \t]*(.*)",
    re.DOTALL,
)


def check_references(configuration: Configuration, acl_lines: Sequence[Line]) -> list[ConfigError]:
    """Return an error for each name of an undefined list, in constant lists everywhere."""
    errors = []
    for kind, template, where in _lists(configuration, acl_lines):
        for list_kind, name in _names(kind, template):
            defined = configuration.named_lists[list_kind]
            if name not in defined:
                _, hint = explain(name, (), defined)
                errors.append(
                    ConfigError(f'there is no {list_kind}list called "{name}"', where, hint)
                )
    return errors


def _lists(
    configuration: Configuration, acl_lines: Sequence[Line]
) -> Iterator[tuple[str, Template, Position]]:
    """Yield all lists that the configuration sets, with their kind and place."""
    for kind, lists in configuration.named_lists.items():
        for each in lists.values():
            yield kind, each.template, each.where
    drivers = (configuration.instances(kind) for kind in ("authenticator", "router", "transport"))
    for options in (configuration.main, *(each for group in drivers for each in group)):
        declared = type(options).options()
        for name, where in options.places.items():
            kind_of_option = LIST_TYPES.get(id(declared[name].type))
            if kind_of_option is not None:
                yield kind_of_option, options.values[name], where
    for line in acl_lines:
        found = _ACL_CONDITION.fullmatch(line.text)
        if found:
            yield LIST_CONDITIONS[found[1]], compile_string(found[2], line.where), line.where


def _names(kind: str, template: Template) -> Iterator[tuple[str, str]]:
    """Yield the names in a list with the kind of list that they name, if the text is constant."""
    if template.constant is None:
        return
    for item in split_list(template.constant):
        item = item.strip(" \t\n").removeprefix("!").lstrip(" \t")
        domain = item.partition("@+")[2] if kind == "address" and not item.startswith("+") else ""
        if domain:
            yield "domain", domain
        elif item.startswith("+") and item[1:] not in SETTINGS:
            yield kind, item[1:]

"""All strings of a configuration, wherever they stand."""

from __future__ import annotations

from collections.abc import Iterator

from mailsrv.config.model import Configuration
from mailsrv.config.options import OptionSet
from mailsrv.config.types import ADDRESS_LIST, DOMAIN_LIST, HOST_LIST, LOCAL_PART_LIST
from mailsrv.expansion.template import Template, compile_string

_KINDS = {
    id(DOMAIN_LIST): "domain",
    id(HOST_LIST): "host",
    id(ADDRESS_LIST): "address",
    id(LOCAL_PART_LIST): "local_part",
}
_CONDITIONS = {
    "domains": "domain",
    "sender_domains": "domain",
    "hosts": "host",
    "senders": "address",
    "recipients": "address",
    "local_parts": "local_part",
}


def strings(configuration: Configuration) -> Iterator[tuple[str, Template]]:
    """Yield the name of what it is, and the string."""
    for item in configuration.acls.items():
        for template in item.templates():
            yield item.name, template
    for each in _option_sets(configuration):
        for name, value in each.values.items():
            if isinstance(value, Template):
                yield name, value
    for lists in configuration.named_lists.values():
        for named in lists.values():
            yield named.name, named.template
    yield from rules(configuration)


def rules(configuration: Configuration) -> Iterator[tuple[str, Template]]:
    """Yield the strings of retry and rewriting rules."""
    for rule in getattr(configuration.retry, "rules", ()):
        for text in (rule.pattern, rule.senders or ""):
            yield "retry rule", compile_string(text, rule.where)
    for rule in getattr(configuration.rewrite, "rules", ()):
        yield from (("rewriting rule", each) for each in (rule.pattern, rule.replacement))


def lists(configuration: Configuration) -> Iterator[tuple[str, str, Template]]:
    """Yield what is a list: its name, its kind, and the string."""
    for item in configuration.acls.items():
        if item.name in _CONDITIONS:
            yield item.name, _CONDITIONS[item.name], item.argument
    for each in _option_sets(configuration):
        declared = type(each).options()
        for name, value in each.values.items():
            kind = _KINDS.get(id(declared[name].type)) if name in declared else None
            if kind is not None and isinstance(value, Template):
                yield name, kind, value
    for kind, named_lists in configuration.named_lists.items():
        for name, named in named_lists.items():
            of_kind = "local_part" if kind == "localpart" else kind
            yield f"{kind}list {name}", of_kind, named.template
    for name, template in rules(configuration):
        if name == "retry rule":
            yield name, "address", template


def _option_sets(configuration: Configuration) -> Iterator[OptionSet]:
    yield configuration.main
    for kind in ("router", "transport", "authenticator"):
        yield from configuration.instances(kind)

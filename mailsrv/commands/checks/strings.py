"""All strings of a configuration, wherever they stand."""

from __future__ import annotations

from collections.abc import Iterator

from mailsrv.config.model import Configuration
from mailsrv.config.options import OptionSet
from mailsrv.config.references import LIST_CONDITIONS, LIST_TYPES
from mailsrv.expansion.template import Template, compile_string
from mailsrv.routing.routers.manualroute import Manualroute


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
    for name, kind, template in patterns(configuration):
        if kind == "address":
            yield name, template
    for rule in getattr(configuration.rewrite, "rules", ()):
        yield "rewriting rule", rule.replacement


def patterns(configuration: Configuration) -> Iterator[tuple[str, str, Template]]:
    """Yield what is matched as a list is in rules: its name, its kind, and the string."""
    for rule in getattr(configuration.retry, "rules", ()):
        for text in (rule.pattern, rule.senders or ""):
            yield "retry rule", "address", compile_string(text, rule.where)
    for rule in getattr(configuration.rewrite, "rules", ()):
        yield "rewriting rule", "address", rule.pattern
    for router in configuration.routers:
        if isinstance(router, Manualroute):
            where = router.places.get("route_list", router.where)
            for each in router.rules:
                if each.pattern is not None:
                    pattern = compile_string(each.pattern.source, where)
                    yield f"route_list of router {router.name}", "domain", pattern


def lists(configuration: Configuration) -> Iterator[tuple[str, str, Template]]:
    """Yield what is a list: its name, its kind as the named lists have it, and the string."""
    for item in configuration.acls.items():
        if item.name in LIST_CONDITIONS:
            yield item.name, LIST_CONDITIONS[item.name], item.argument
    for each in _option_sets(configuration):
        declared = type(each).options()
        for name, value in each.values.items():
            kind = LIST_TYPES.get(id(declared[name].type)) if name in declared else None
            if kind is not None and isinstance(value, Template):
                yield name, kind, value
    for kind, named_lists in configuration.named_lists.items():
        for name, named in named_lists.items():
            yield f"{kind}list {name}", kind, named.template


def _option_sets(configuration: Configuration) -> Iterator[OptionSet]:
    yield configuration.main
    for kind in ("router", "transport", "authenticator"):
        yield from configuration.instances(kind)

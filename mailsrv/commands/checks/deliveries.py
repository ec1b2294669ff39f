"""Routers and transports that defer whatever comes to them."""

from __future__ import annotations

from collections.abc import Iterator

from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.checks.outcomes import outcomes
from mailsrv.commands.checks.outside import Outside
from mailsrv.config.model import Configuration
from mailsrv.config.options import OptionSet
from mailsrv.expansion.template import Template

_ALLOWED = {":fail:": "allow_fail", ":defer:": "allow_defer"}
_FILES = {"appendfile": ("file", "directory"), "lmtp": ("socket",), "redirect": ("file",)}


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield what is forbidden, what has no transport or place, and paths that are not absolute."""
    outside = Outside(configuration)
    for router in configuration.routers:
        data = router.values.get("data")
        if router.driver == "redirect" and isinstance(data, Template):
            for text in sorted(outcomes(outside, data)):
                yield from _redirection(router, data, text)
        yield from _paths(router)
    for transport in configuration.transports.values():
        yield from _paths(transport)
        if transport.driver == "appendfile" and not any(
            transport.values.get(name) for name in _FILES["appendfile"]
        ):
            yield from _without_place(configuration, transport)


def _redirection(router: OptionSet, data: Template, text: str) -> Iterator[Finding]:
    values = router.values
    for word, option in _ALLOWED.items():
        if text.lower().startswith(word) and not values.get(option):
            problem = f"router {router.name}: {word} is not permitted, and so it defers"
            yield Finding(data.where, problem, f"set {option}")
    kind = "pipe" if text.startswith("|") else "file" if text.startswith("/") else ""
    if not kind:
        return
    option = "directory_transport" if text.endswith("/") else f"{kind}_transport"
    if values.get(f"forbid_{kind}"):
        problem = f"router {router.name}: delivery to a {kind} is forbidden, and so it defers"
        yield Finding(data.where, problem, f"remove forbid_{kind}, or redirect to an address")
    elif values.get(option) is None:
        problem = f"router {router.name}: {option} is not set, and so {text} defers"
        yield Finding(data.where, problem, f"set {option}")


def _paths(options: OptionSet) -> Iterator[Finding]:
    for name in _FILES.get(options.driver, ()):
        value = options.values.get(name)
        if isinstance(value, Template) and value.source and value.source[0] not in "/$\\":
            problem = f"{name} of {options.kind} {options.name} is no absolute path: it defers"
            yield Finding(value.where, problem, f"begin it with a slash: /{value.source}")


def _without_place(configuration: Configuration, transport: OptionSet) -> Iterator[Finding]:
    """Only a redirection to a file brings the place with it."""
    for router in configuration.routers:
        if getattr(router.values.get("transport"), "constant", None) == transport.name:
            problem = f"transport {transport.name} has no file and no directory: it defers"
            where = f"router {router.name} ({router.where}) names it"
            yield Finding(transport.where, f"{problem}; {where}", "set file or directory")
            return

"""``mailsrv check``: mistakes that a reading does not refuse, found before the mail finds them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from mailsrv.commands import checks
from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.invocation import Invocation
from mailsrv.commands.terminal import say
from mailsrv.config.model import Configuration


def run(invocation: Invocation, configuration: Configuration) -> int:
    """Print each finding with file, line, reason and mend; returns 1 if there is one."""
    for warning in configuration.warnings:
        say(f"warning: {warning}")
    found = sorted(set(findings(configuration)), key=_place)
    for finding in found:
        say(str(finding))
    if not found:
        say(f"{configuration.file}: nothing found")
    return 1 if found else 0


def findings(configuration: Configuration) -> Iterator[Finding]:
    """Yield what all checks find."""
    for module in pkgutil.iter_modules(checks.__path__):
        find = getattr(importlib.import_module(f"{checks.__name__}.{module.name}"), "find", None)
        if find is not None:
            yield from find(configuration)


def _place(finding: Finding) -> tuple[str, int, str]:
    where = finding.where
    return ("", 0, finding.problem) if where is None else (where.file, where.line, finding.problem)

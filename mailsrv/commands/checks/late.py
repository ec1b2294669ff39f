"""What Exim finds only when a message reaches it: strings, lists, transports, ports."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator

from mailsrv.commands.checks.finding import Finding
from mailsrv.config.model import Configuration
from mailsrv.expansion.variables import VARIABLES
from mailsrv.service.environment import faults, faults_at_start

# What mends a fault whose finder has no hint of its own.
_MENDS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (
        re.compile(r'unknown variable (?:name |in )?"(?:\$\{)?(\w+)'),
        lambda found: _variable(found[1]),
    ),
    (
        re.compile(r"unknown lookup type"),
        lambda _: "specification 9 lists the types: lsearch, cdb, dbm, dsearch, sqlite ...",
    ),
    (
        re.compile(r"regular expression error"),
        lambda _: "mend the expression; \\N before and after it keeps its \\ and $ as they are",
    ),
    (
        re.compile(r"router.*not found"),
        lambda _: 'name a router that stands below it in "begin routers"',
    ),
    (re.compile(r"there is no \w+list called"), lambda _: "define it before the first begin"),
    (re.compile(r"transport \S+ is not defined"), lambda _: 'define it below "begin transports"'),
    (
        re.compile(r"known to Exim, not to mailsrv"),
        lambda _: "do without it, or keep Exim for this",
    ),
    (
        re.compile(
            r"expansion operator|unknown condition|\bcurly|syntax error in \"\w+\" item|missing"
            r"|\$ not followed by"
        ),
        lambda _: "specification 11 has the forms; mailsrv -be 'STRING' tries one",
    ),
    (
        re.compile(r"syntax error in \"control|\bcontrol\b"),
        lambda _: "specification 44.22 lists them",
    ),
    (re.compile("valid IP address"), lambda _: "write 192.0.2.1, 192.0.2.1.25 or ::::1"),
    (re.compile("port .* not found"), lambda _: "write its number, or a name of /etc/services"),
    (re.compile("verify|callout"), lambda _: "specification 44.26 has the forms"),
)


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield the late faults of the reading, and what a start would refuse."""
    for error in (*faults(configuration), *configuration.late, *faults_at_start(configuration)):
        yield Finding(error.where, error.problem, error.hint or _mend(error.problem))


def _mend(problem: str) -> str:
    for pattern, mend in _MENDS:
        found = pattern.search(problem)
        if found is not None:
            return mend(found)
    return ""


def _variable(name: str) -> str:
    close = difflib.get_close_matches(name, VARIABLES, 1)
    return f"did you mean ${close[0]}?" if close else "specification 11.9 lists the variables"

"""The collection of configurations, and what is expected of each.

A file of ``configurations/`` begins with what Exim 4.96 says to it, ``# exim4
accepts this`` or ``# exim4 refuses this``; where mailsrv says otherwise on
purpose, the next line is ``# mailsrv accepts it`` or ``# mailsrv refuses it``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mailsrv.config.read import in_order, read
from mailsrv.errors import ConfigErrors
from mailsrv.service.environment import faults

FOLDER = Path(__file__).parent / "configurations"


@dataclass(frozen=True, slots=True)
class Configuration:
    """A file with its two expectations."""

    path: Path
    exim_accepts: bool
    mailsrv_accepts: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What mailsrv says; ``unbuilt``: it refuses only what it knows and has not built."""

    accepts: bool
    unbuilt: bool = False
    said: str = ""


def collection() -> list[Configuration]:
    """All configurations."""
    found = []
    for path in sorted(FOLDER.glob("*.conf")):
        first, second, *_ = [*path.read_text("latin-1").split("\n"), ""]
        exim = {"# exim4 accepts this": True, "# exim4 refuses this": False}[first]
        ours = {"# mailsrv accepts it": True, "# mailsrv refuses it": False}.get(second, exim)
        found.append(Configuration(path, exim, ours))
    return found


def ask(path: Path) -> Answer:
    """Return what ``mailsrv -bV`` says to a file."""
    try:
        configuration = read(str(path), more=faults)
        errors = in_order(faults(configuration), configuration)
    except ConfigErrors as problems:
        errors = problems.errors
    said = "\n".join(map(str, errors))
    unbuilt = bool(errors) and all("known to Exim, not to mailsrv" in str(e) for e in errors)
    return Answer(not errors, unbuilt, said)

"""What Exim finds only when a message reaches it: strings, lists, transports, ports."""

from __future__ import annotations

from collections.abc import Iterator

from mailsrv.commands.checks.finding import Finding
from mailsrv.config.model import Configuration
from mailsrv.service.environment import faults, faults_at_start


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield the late faults of the reading, and what a start would refuse."""
    for error in (*faults(configuration), *configuration.late, *faults_at_start(configuration)):
        yield Finding(error.where, error.problem, error.hint)

"""``mailsrv -bV``: the version, what is built in, and whether the configuration is good."""

from __future__ import annotations

import sys

from mailsrv import __version__
from mailsrv.commands.invocation import Invocation
from mailsrv.commands.terminal import say
from mailsrv.config.known import is_unbuilt
from mailsrv.config.main import FIXED_NEVER_USERS
from mailsrv.config.model import Configuration
from mailsrv.config.read import in_order
from mailsrv.config.registry import built_in, module_names
from mailsrv.service.environment import faults, faults_at_start


def tell() -> None:
    """Print the version, and what is built in."""
    print(f"mailsrv version {__version__}, for configurations of Exim 4.96")
    print(f"Python {sys.version.split()[0]}")
    print(f"Lookups (built-in): {' '.join(module_names('mailsrv.lookup'))}")
    for kind in ("authenticator", "router", "transport"):
        names = (name for name in built_in(kind) if not is_unbuilt(kind, name))
        print(f"{kind.capitalize()}s: {' '.join(names)}")
    print(f"Fixed never_users: {':'.join(map(str, FIXED_NEVER_USERS))}")


def run(invocation: Invocation, configuration: Configuration) -> int:
    """Print the name of the file, what is wrong to the standard error; the version was told.

    Returns 1 if the configuration is refused.  What only a start, or a use, would
    find is a warning.
    """
    for warning in [*configuration.notices(), *faults_at_start(configuration)]:
        say(f"mailsrv: warning: {warning}", error=True)
    if errors := in_order(faults(configuration), configuration):
        for error in errors:
            say(f"mailsrv: {error}", error=True)
        return 1
    say(f"Configuration file is {configuration.file}")
    return 0

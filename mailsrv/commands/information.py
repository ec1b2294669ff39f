"""``mailsrv -bI:…``: lists for other programs (specification 5.2)."""

from __future__ import annotations

import sys

from mailsrv.commands.invocation import Invocation
from mailsrv.config.model import Configuration

_HELP = """\
The -bI: flag takes a string indicating which information to provide.
If the string is not recognised, you'll get this help (on stderr).

  mailsrv -bI:help    this information
  mailsrv -bI:dscp    list of known dscp value keywords
  mailsrv -bI:sieve   list of supported sieve extensions"""

_DSCP = (
    *(f"af{group}{drop}" for group in range(1, 5) for drop in range(1, 4)),
    *("ef", "lowcost", "lowdelay", "mincost", "reliability", "throughput"),
)


def _sieve() -> tuple[str, ...]:
    """The extensions that the Sieve interpreter of mailsrv has."""
    return ()


def run(invocation: Invocation, configuration: Configuration | None) -> int:
    """Print a list; returns 1, with the help on the standard error, for one that is not known."""
    what = invocation.action.partition(":")[2].lower()
    if what == "help":
        print(_HELP)
    elif what == "dscp":
        print("\n".join(_DSCP))
    elif what == "sieve":
        print("".join(f"{name}\n" for name in _sieve()), end="")
    else:
        print(_HELP, file=sys.stderr)
        return 1
    return 0

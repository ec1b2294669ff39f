"""``mailsrv-sendmail``: what programs call ``sendmail`` (specification chapter 5), without setuid.

Speaks to the server through its socket, or leaves the message in the drop folder.
It must start quickly, so it imports little and does not read the configuration as
a whole: of it, only where the socket is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mailsrv.commands.submit.arguments import UsageError, parse
from mailsrv.commands.submit.message import submit, submit_batch
from mailsrv.commands.submit.places import Places, settings
from mailsrv.commands.submit.server import FAILED, OK, tell
from mailsrv.commands.submit.sessions import interactive


def newaliases(command: str) -> int:
    """``-bi``: run bi_command, or do nothing."""
    if not command:
        return OK
    import shlex
    import subprocess

    return subprocess.call(shlex.split(command))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (with the program's name); returns the exit status."""
    words = list(sys.argv if argv is None else argv)
    try:
        invocation = parse(words[0], words[1:])
        if invocation.action in ("bp", "q", "bV"):
            from mailsrv.commands.main import main as mailsrv

            file = ["-C", invocation.file] if invocation.file else []
            return mailsrv(
                [
                    *file,
                    *(["-v"] if invocation.verbose else []),
                    *(invocation.words or [f"-{invocation.action}"]),
                ]
            )
        given = settings(invocation.file)
    except UsageError as problem:
        tell(str(problem))
        return FAILED
    if invocation.action == "bi":
        return newaliases(given.get("bi_command", ""))
    places = Places.of(given)
    if invocation.action == "bs":
        return interactive(invocation.request(), places, sys.stdin.buffer, sys.stdout.buffer)
    if invocation.action == "bS":
        return submit_batch(invocation, places, sys.stdin.buffer)
    return submit(invocation, places, sys.stdin.buffer)


if __name__ == "__main__":
    sys.exit(main())

"""``mailsrv -bd`` and ``-bdf``: the service of ``twistd mailsrv``, in the background or not."""

from __future__ import annotations

import sys

from mailsrv.commands.invocation import Invocation
from mailsrv.config.model import Configuration


def run(invocation: Invocation, configuration: Configuration) -> int:
    """Become ``twistd mailsrv`` with this configuration.

    In the background the process id is written to ``pid_file_path``, and twistd's
    own log goes to syslog; the mail logs are where ``log_file_path``
    says.  Returns the exit status when the server ends.
    """
    from twisted.scripts.twistd import run as twistd

    pid_file = configuration.main.pid_file_path.constant or ""
    arguments = [f"--pidfile={pid_file}", "--syslog"]
    if invocation.action == "bdf":
        arguments = ["--nodaemon", "--pidfile="]
    defines = [
        part for name, value in invocation.macros.items() for part in ("-D", f"{name}={value}")
    ]
    sys.argv = ["twistd", *arguments, "mailsrv", "--config", invocation.file, *defines]
    twistd()
    return 0

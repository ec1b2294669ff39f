"""``mailsrv -bd`` and ``-bdf``: the service of ``twistd mailsrv``, in the background or not."""

from __future__ import annotations

import sys
from collections.abc import Mapping


def run(path: str, macros: Mapping[str, str], *, foreground: bool, pid_file: str = "") -> int:
    """Become ``twistd mailsrv`` with this configuration.

    In the background the process id is written to ``pid_file`` (the main option
    ``pid_file_path``), and twistd's own log goes to syslog; the mail logs are
    where ``log_file_path`` says.  Returns the exit status when the server ends.
    """
    from twisted.scripts.twistd import run as twistd

    arguments = (
        ["--nodaemon", "--pidfile="] if foreground else [f"--pidfile={pid_file}", "--syslog"]
    )
    defines = [part for name, value in macros.items() for part in ("-D", f"{name}={value}")]
    sys.argv = ["twistd", *arguments, "mailsrv", "--config", path, *defines]
    twistd()
    return 0

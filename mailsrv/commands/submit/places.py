"""Where the server is: of the configuration only what tells that is read."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailsrv.commands.submit.arguments import UsageError
from mailsrv.connection.local.frames import DROP, SOCKET

DEFAULT_FILE = "/etc/mailsrv/exim.conf"
DEFAULT_SPOOL = "/var/spool/mailsrv"
_SETTING = re.compile(r"^[ \t]*(spool_directory|local_socket|bi_command)[ \t]*=[ \t]*(.*?)[ \t]*$")


def settings(file: str) -> dict[str, str]:
    """Read the few settings that matter here from a configuration, if it may be read.

    One whose value refers to a macro or a variable is found by reading it whole.
    """
    path = file or DEFAULT_FILE
    found: dict[str, str] = {}
    try:
        with open(path, encoding="latin-1") as lines:
            for line in lines:
                if line.startswith("begin"):
                    break
                match = _SETTING.match(line)
                if match is not None:
                    found[match[1]] = match[2].strip('"')
    except OSError as error:
        if file:
            raise UsageError(f"{path}: {error.strerror}") from error
        return {}
    if any(re.search(r"[$]|\b[A-Z][A-Z_0-9]+\b|\\$", value) for value in found.values()):
        return _expanded(path)
    return found


def _expanded(path: str) -> dict[str, str]:
    from mailsrv.config.read import read
    from mailsrv.lookup import registry
    from mailsrv.service.environment import WallClock, at_start, make_services

    configuration = read(path, {})
    services = make_services(configuration, WallClock(), registry(settings=configuration.main))
    main = configuration.main
    found = {
        name: at_start(getattr(main, name), services, name)
        for name in ("spool_directory", "local_socket")
    }
    return found | ({"bi_command": main.bi_command} if main.bi_command else {})


@dataclass(frozen=True, slots=True)
class Places:
    """Where messages go."""

    socket: str
    drop: str

    @classmethod
    def of(cls, given: dict[str, str]) -> Places:
        """The places that settings name, or those by default."""
        spool = given.get("spool_directory") or DEFAULT_SPOOL
        return cls(given.get("local_socket") or f"{spool}/{SOCKET}", f"{spool}/{DROP}")

"""``twistd mailsrv``: its options, and the service that they make."""

from __future__ import annotations

import os
import signal
import sys
from typing import ClassVar

from twisted.application import service
from twisted.python import usage

from mailsrv.errors import ConfigErrors

DEFAULT_CONFIG = "/etc/mailsrv/exim.conf"


class Options(usage.Options):
    """What may stand behind ``twistd mailsrv``."""

    synopsis = "[--config FILE] [-D NAME=VALUE]..."
    longdesc = "A mail server with Exim's configuration on Twisted's event loop."
    optParameters: ClassVar[list[list[str]]] = [
        ["config", "C", DEFAULT_CONFIG, "the configuration, in the format of exim.conf"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.macros: dict[str, str] = {}

    def opt_define(self, definition: str) -> None:
        """Define a macro of the configuration: NAME=VALUE, or NAME alone."""
        name, _, value = definition.partition("=")
        self.macros[name.strip()] = value.strip()

    opt_D = opt_define

    def postOptions(self) -> None:
        """Let no signal to a server that serves end one that is still starting."""
        for number in (signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)


def makeService(options: Options) -> service.IService:
    """Read the configuration and return the service; nothing is opened yet.

    :raises SystemExit: the configuration is wrong; every fault is told on stderr.
    """
    from mailsrv.service.server import MailService
    from mailsrv.service.source import Source

    source = Source(os.path.abspath(options["config"]), options.macros)
    try:
        configuration, files = source.read()
    except ConfigErrors as errors:
        for error in errors.errors:
            print(f"mailsrv: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    for warning in configuration.notices():
        print(f"mailsrv: {warning}", file=sys.stderr)
    foreground = options.parent is None or bool(options.parent.get("nodaemon"))
    return MailService(source, configuration, files.texts, foreground=foreground)

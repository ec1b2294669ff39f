"""``mailsrv -be``: expand strings, or the lines of the standard input (specification 5.2, 11.3)."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TextIO

from mailsrv.commands.invocation import Invocation
from mailsrv.commands.terminal import say
from mailsrv.config.model import Configuration
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import compile_string
from mailsrv.expansion.tree import drive
from mailsrv.interfaces import Routed
from mailsrv.lookup import registry
from mailsrv.mail.connection import Connection
from mailsrv.mail.origin import Origin
from mailsrv.service.environment import (
    WallClock,
    log_settings,
    make_services,
    set_environment,
)
from mailsrv.service.functions import functions_of


def expand_line(text: str, scope: Scope) -> tuple[str, bool]:
    """Expand one string; returns what to print, and whether it is a result."""
    try:
        return drive(compile_string(text).expand(scope)), True
    except TemporaryFailure as error:
        return f"Failed: {error.reason}", False
    except TypeError as error:
        return f"Failed: {error}", False


def _lines(stream: TextIO) -> Iterator[str]:
    """Lines as octets; a backslash at the end of one joins the next, without its white space."""
    held = ""
    interactive = stream.isatty()
    while True:
        if interactive:
            print("> ", end="", flush=True)
        line = stream.buffer.readline().decode("latin-1")
        if not line:
            if held:
                yield held
            return
        line = (line.lstrip(" \t") if held else line).rstrip("\n")
        if line.endswith("\\"):
            held += line[:-1]
            continue
        yield held + line
        held = ""


class _NoVerifier:
    """Provides ``IVerifier`` where nothing can be routed."""

    async def verify(
        self, address: str, connection: Connection, *, as_sender: bool = False
    ) -> Routed:
        """Refuse.

        :raises TemporaryFailure: always.
        """
        raise TemporaryFailure(reason="addresses cannot be verified here")


def _caller(configuration: Configuration) -> Callable[..., Awaitable[object]]:
    """Return what runs ACLs for ``${acl{…}}``, as at the start of a connection from nowhere."""

    async def call(name: str, arguments: tuple[str, ...], scope: Scope) -> object:
        from mailsrv.acl.run import Acls  # here: most strings call no ACL
        from mailsrv.logs.log import MailLog

        acls = Acls(
            configuration.acls,
            {},
            scope.services,
            verifier=_NoVerifier(),
            resolver=None,
            clock=WallClock(),
            log=MailLog(log_settings(configuration), WallClock()),
        )
        nowhere = replace(scope, connection=scope.connection or Connection(Origin()))
        return await acls.call(name, arguments, nowhere)

    return call


def run(invocation: Invocation, configuration: Configuration) -> int:
    """Print the expansion of each string, or how it fails; returns 0."""
    set_environment(configuration.main)
    services = make_services(
        configuration,
        WallClock(),
        registry(),
        acl=_caller(configuration),
        functions=functions_of(configuration, WallClock()),
    )
    scope = Scope(services)
    for text in invocation.arguments or _lines(sys.stdin):
        result, _ = expand_line(text, scope)
        say(result)
    return 0

"""``mailsrv -be`` and ``-bem``: expand strings, or the lines of the standard input (5.2, 11.3)."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, TextIO

from mailsrv.commands.invocation import Invocation
from mailsrv.commands.terminal import say, say_octets
from mailsrv.config.macros import Macros
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError, Position, TemporaryFailure
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.explain import Trace
from mailsrv.expansion.lists import match_domain
from mailsrv.expansion.parse import SPACE
from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.template import Template, compile_string
from mailsrv.expansion.tree import drive
from mailsrv.interfaces import IResolver, Routed
from mailsrv.lookup import registry
from mailsrv.mail.caller import Caller
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Transaction
from mailsrv.mail.origin import Origin
from mailsrv.service.environment import (
    WallClock,
    log_settings,
    make_services,
    set_environment,
)
from mailsrv.service.functions import functions_of
from mailsrv.service.waiting import WaitingResolver


def expand_line(text: str, scope: Scope, trace: Trace | None = None) -> tuple[str, bool]:
    """Expand one string; returns what to print, and whether it is a result."""
    try:
        return drive(compile_string(text, recorder=trace).expand(scope)), True
    except ExpansionError as error:
        if trace is not None:
            trace.note(error.spot)
        return f"Failed: {error.reason}", False
    except TemporaryFailure as error:
        return f"Failed: {error.reason}", False
    except TypeError as error:
        return f"Failed: {error}", False


def _lines(stream: TextIO) -> Iterator[str]:
    """Lines as octets; a backslash at the end of one joins the next, without its white space.

    A prompt stands before each, whether or not there is a terminal, and a line
    end after the last prompt: Exim's output can be compared line by line.
    """
    held: str | None = None
    while True:
        if held is None:
            print("> ", end="", flush=True)
        line = stream.buffer.readline().decode("latin-1")
        if not line:
            if held is not None:
                yield held
                print("> ", end="")
            print()
            return
        line = (line if held is None else line.lstrip(" \t")).rstrip(SPACE)
        joined = (held or "") + line.removesuffix("\\")
        if line.endswith("\\"):
            held = joined
            continue
        held = None
        yield joined


class _Strings:
    """Expands lines, in which macros are replaced and can be defined."""

    def __init__(self, configuration: Configuration, scope: Scope, *, explain: bool) -> None:
        self._explain = explain
        self._macros = Macros()
        self._macros.values.update(configuration.macros)
        self._where = Position(configuration.file, len(configuration.lines))
        self._scope = scope

    def take(self, line: str) -> None:
        """Print what a line comes to; one that begins with a capital defines a macro."""
        text, _ = self._macros.replace(line, starts_line=True)
        if not "A" <= text[:1] <= "Z":
            trace = Trace(text) if self._explain else None
            said, _ = expand_line(text, self._scope, trace)
            for explained in trace.lines() if trace is not None else ():
                say(explained, error=True)
            say_octets(said)
            return
        try:
            self._macros.define(text, self._where)
        except ConfigError as error:
            say(f"mailsrv: {error.problem}", error=True)
        else:
            say(f"Defined macro '{text.partition('=')[0].strip()}'")


class _NoVerifier:
    """Provides ``IVerifier`` where nothing can be routed."""

    async def verify(
        self, address: str, connection: Connection, *, as_sender: bool = False
    ) -> Routed:
        """Refuse.

        :raises TemporaryFailure: always.
        """
        raise TemporaryFailure(reason="addresses cannot be verified here")

    async def expand(self, address: str, connection: Connection) -> Routed:
        """Refuse, as :meth:`verify`."""
        return await self.verify(address, connection)


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
            resolver=scope.services.resolver,
            clock=WallClock(),
            log=MailLog(log_settings(configuration), WallClock()),
        )
        nowhere = replace(scope, connection=scope.connection or Connection(Origin()))
        return await acls.call(name, arguments, nowhere)

    return call


def _resolver(configuration: Configuration) -> IResolver:
    """Return the DNS; what the lists of the main options need themselves, they do not ask it."""

    def matcher(domains: Template) -> Callable[[str], Awaitable[bool]]:
        async def match(domain: str) -> bool:
            scope = Scope(make_services(configuration, WallClock(), registry()))
            return await match_domain(domains, domain, scope) is not None

        return match

    def make(reactor: Any) -> Any:
        from mailsrv.service.names import make_resolver  # here: most strings need no DNS

        return make_resolver(configuration.main, reactor, matcher)

    return WaitingResolver(make)


def _caller_scope(services: Services, configuration: Configuration, sender: str | None) -> Scope:
    """Return the scope of the user who runs the command, as if about to submit a message."""
    try:
        entry = pwd.getpwuid(os.getuid())
        login, name = entry.pw_name, entry.pw_gecos.partition(",")[0]
    except KeyError:
        login, name = str(os.getuid()), ""
    address = f"{login}@{configuration.main.qualify_domain}"
    origin = Origin(protocol="", ident=login, authenticated_id=login, authenticated_sender=address)
    connection = Connection(
        origin, caller=Caller(os.getuid(), login, name, trusted=True, gid=os.getgid())
    )
    connection.transaction = Transaction(sender=address if sender is None else sender)
    return Scope(
        services,
        connection=connection,
        message=connection.transaction,
        origin=origin,
        values={  # there is no host that it was received from, and no delivery
            "sender_rcvhost": "",
            "return_path": "",
            "config_file": configuration.file,
            "config_dir": os.path.dirname(configuration.file),
        },
    )


def run(invocation: Invocation, configuration: Configuration) -> int:
    """Print the expansion of each string, or how it fails; returns 0.

    With ``-v`` how each came to its result stands on the standard error before it.
    ``-bem FILE`` reads a message first, which the strings see; 1 if it cannot be read.
    """
    set_environment(configuration.main)
    resolver = _resolver(configuration)
    services = make_services(
        configuration,
        WallClock(),
        registry(None, resolver, configuration.main),
        resolver=resolver,
        acl=_caller(configuration),
        functions=functions_of(configuration, WallClock()),
    )
    scope = _caller_scope(services, configuration, invocation.sender)
    if invocation.action == "bem":
        from mailsrv.commands.testmessage import take_message  # here: -be alone needs less

        if invocation.sender is not None:  # it is not the caller's
            scope.origin = Origin(protocol="", ident=scope.origin.ident if scope.origin else "")
        try:
            for told in take_message(
                scope,
                configuration,
                invocation.value,
                recipients=invocation.extract,
                forced=invocation.sender is not None,
            ):
                say(told)
        except OSError as error:
            say(f"mailsrv: failed to open {invocation.value}: {error.strerror}", error=True)
            return 1
        except ExpansionError as error:
            say(f"mailsrv: {error.explained}", error=True)
            return 1
    strings = _Strings(configuration, scope, explain=invocation.verbose)
    for text in invocation.arguments or _lines(sys.stdin):
        strings.take(text)
    return 0

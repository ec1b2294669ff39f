"""What lookups in SQL servers share (specification 9.21 to 9.23): servers, in turn, on threads.

The servers are those of the main option, each ``host/database/user/password``;
``,servers=`` of the type, or ``servers=…;`` before the query, chooses among them
by host, or gives others.  A server that cannot be reached, or that finds an
error in the query, is passed over for the next one; after the last it defers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.separated import split_list
from mailsrv.lookup._backing import Backing
from mailsrv.lookup._files import Threads, in_thread

TIMEOUT = 10.0  # seconds for a connection, and for an answer
_OLD = re.compile(r"[ \t\n]*servers[ \t\n]*=[ \t\n]*([^;]*);[ \t\n]*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Server:
    """A server: a host and port, or a socket in the file system."""

    host: str
    port: int
    socket: str
    database: str
    user: str
    password: str


class Client(Protocol):
    """What differs between the kinds of servers."""

    product: str  # as messages name it
    option: str  # the main option with the servers
    package: str  # the Python package with the client
    module: str

    def connect(self, module: Any, server: Server) -> Any:
        """Connect; blocks.  Any exception means that the next server is asked."""

    def parse(self, text: str, query: str) -> Server:
        """Read the description of a server."""

    def ask(self, connection: Any, query: str) -> str | None:
        """Run a query; blocks."""

    def close(self, connection: Any) -> None:
        """End a connection."""


class SqlLookup:
    """Queries to the servers of a kind."""

    backed = True

    def __init__(self, client: Client, threads: Threads | None, backing: Backing) -> None:
        self._client = client
        self._threads = threads
        self._backing = backing

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Run a query at the first server that answers (ILookup)."""
        servers, query = self._servers(key, options)
        return await in_thread(self._threads, self._run, servers, query)

    def _servers(self, query: str, options: str) -> tuple[list[Server], str]:
        option = self._client.option
        value = self._backing.setting(option, "")
        defined = split_list(getattr(value, "source", value))
        chosen = [o[8:] for o in options.split(",") if o.startswith("servers=")]
        old = _OLD.match(query)
        text = query
        if old is not None:
            chosen, query = [old[1]], query[old.end() :]
        if not chosen and not defined:
            why = f"no {self._client.product} servers defined ({option} option)"
            raise deferred(text, why)
        wanted = split_list(chosen[-1]) if chosen else defined
        servers = [self._found(one, defined, text) for one in wanted]
        return [self._client.parse(one, text) for one in servers], query

    def _found(self, wanted: str, defined: Sequence[str], query: str) -> str:
        """Return a server's description: itself, or that of the main option with its host."""
        if "/" in wanted.partition(")")[2] or ("/" in wanted and not wanted.startswith("(")):
            return wanted
        for one in defined:
            if one.startswith(wanted + "/"):
                return one
        why = f'{self._client.product} server "{wanted}" not found in {self._client.option}'
        raise deferred(query, why)

    def _run(self, servers: Sequence[Server], query: str) -> str | None:
        try:
            module = import_module(self._client.module)
        except ModuleNotFoundError:
            package = self._client.package
            raise deferred(query, f"the Python package {package} is not installed") from None
        failure = "connection failed: no server"
        for server in servers:
            try:
                connection = self._client.connect(module, server)
            except Exception as error:  # what a client raises for a server's garbage is anything
                failure = f"connection failed: {error}"
                continue
            try:
                return self._client.ask(connection, query)
            except Exception as error:
                failure = f"query failed: {error}"
            finally:
                self._client.close(connection)
        raise deferred(query, f"{self._client.product} {failure}")


def text_of(value: Any) -> str | None:
    """Return a value of an answer as octets up to a NUL, as C sees them; None for NULL."""
    if value is None:
        return None
    raw = bytes(value) if isinstance(value, bytes | bytearray) else str(value).encode()
    return raw.partition(b"\0")[0].decode("latin-1")


def deferred(query: str, why: str) -> TemporaryFailure:
    """Return the failure of a query."""
    return TemporaryFailure(reason=f'lookup of "{query}" gave DEFER: {why}')


def parse_server(text: str, query: str) -> Server:
    """Read ``host[:port]/database/user/password``, ``(/socket)`` or ``host(/socket)`` for a host.

    :raises TemporaryFailure: a part is missing; a password is not told.
    """
    match = re.fullmatch(
        r"(?:\[([^]]*)\]|([^/(:]*))(?:::?([0-9]+))?(?:\(([^)]*)\))?(?:\[[^]]*\])?/"
        r"([^/]*)/([^/]*)/(.*)",
        text,
        re.DOTALL,
    )
    if match is None:
        host = text.partition("/")[0]
        raise deferred(query, f"incomplete server data: {host}")
    host = match[1] or match[2] or ""
    return Server(host, int(match[3] or 0), match[4] or "", match[5], match[6], match[7])

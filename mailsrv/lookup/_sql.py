"""What lookups in SQL servers share (specification 9.21 to 9.23): servers, in turn, on threads.

The servers are those of the main option, each ``host/database/user/password``;
``,servers=`` of the type, or ``servers=…;`` before the query, chooses among them
by host, or gives others.  An error in a query defers; a server that cannot be
reached is passed over for the next one.
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
from mailsrv.lookup._rows import rows_text

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


class DbApi:
    """What clients with Python's DB-API (PEP 249) share."""

    def parse(self, text: str, query: str) -> Server:
        """Read ``host/database/user/password``."""
        return parse_server(text, query)

    def ask(self, connection: Any, query: str) -> str | None:
        """Return the rows, or the number of rows that were changed."""
        cursor = connection.cursor()
        cursor.execute(query)
        if cursor.description is None:
            connection.commit()
            return str(max(cursor.rowcount, 0))
        names = [_name(column[0]) for column in cursor.description]
        found = rows_text(names, ([text_of(v) for v in row] for row in cursor.fetchall()))
        connection.commit()
        return found

    def close(self, connection: Any) -> None:
        """End a connection."""
        connection.close()


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
        failure: Exception | None = None
        for server in servers:
            try:
                connection = self._client.connect(module, server)
            except Exception as error:  # what a client raises for a server's garbage is anything
                failure = error
                continue
            try:
                return self._client.ask(connection, query)
            except Exception as error:
                raise deferred(query, f"{self._client.product}: query failed: {error}") from None
            finally:
                self._client.close(connection)
        raise deferred(query, f"{self._client.product} connection failed: {failure}")


def _name(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def text_of(value: Any) -> str | None:
    """Return a value of a row as octets, None for NULL."""
    if value is None or (isinstance(value, str) and value.isascii()):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("latin-1")
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value).encode("utf-8", "replace").decode("latin-1")


def deferred(query: str, why: str) -> TemporaryFailure:
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
    socket = (match[4] or "").partition(".s.PGSQL")[0] if match[4] else ""
    host = match[1] or match[2] or ""
    return Server(host, int(match[3] or 0), socket, match[5], match[6], match[7])

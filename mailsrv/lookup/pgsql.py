"""``pgsql`` lookups (specification 9.25), with libpq through psycopg (an optional package)."""

from __future__ import annotations

import select
from time import monotonic
from typing import Any

from mailsrv.lookup._backing import NO_BACKING, Backing
from mailsrv.lookup._files import Threads
from mailsrv.lookup._rows import rows_text
from mailsrv.lookup._sql import TIMEOUT, Server, SqlLookup, parse_server

_SOCKET = ".s.PGSQL."  # begins the name of a socket; its port follows


class PgSql:
    """How libpq is used: values are the text that the server sends, as in Exim."""

    product = "PostgreSQL"
    option = "pgsql_servers"
    package = "psycopg"
    module = "psycopg.pq"

    def parse(self, text: str, query: str) -> Server:
        """Read ``host/database/user/password``."""
        return parse_server(text, query)

    def connect(self, module: Any, server: Server) -> Any:
        """Connect."""
        host, port = server.host or "localhost", server.port or 5432
        if server.socket:
            folder, _, number = server.socket.partition(_SOCKET)
            host, port = folder.rstrip("/") or "/", int(number or port)
        settings = {
            "host": host, "port": str(port), "dbname": server.database, "user": server.user,
            "password": server.password, "connect_timeout": str(max(2, round(TIMEOUT))),
        }  # fmt: skip
        text = " ".join(f"{name}={_quoted(value)}" for name, value in settings.items() if value)
        connection = module.PGconn.connect(text.encode("latin-1"))
        if connection.status != module.ConnStatus.OK:
            raise ConnectionError(_octets(connection.error_message).strip())
        connection.exec_(b"set client_encoding to sql_ascii")  # octets go through as they are
        return connection

    def ask(self, connection: Any, query: str) -> str | None:
        """Return the rows of the last statement, or how many it changed."""
        from psycopg.pq import ExecStatus  # type: ignore[import-not-found, unused-ignore]

        ends = monotonic() + TIMEOUT
        connection.send_query(query.encode("latin-1"))
        last: Any = None
        while (result := _result(connection, ends)) is not None:
            last = result
            if result.status not in (
                ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY,
            ):  # fmt: skip
                raise ValueError(_octets(result.error_message).strip() or "not a query")
        if last is None or last.status != ExecStatus.TUPLES_OK:
            changed = None if last is None else last.command_tuples
            return None if changed is None else str(changed)
        names = [_octets(last.fname(column)) for column in range(last.nfields)]
        values = (
            [_octets(last.get_value(row, column) or b"") for column in range(last.nfields)]
            for row in range(last.ntuples)
        )
        return rows_text(names, values)

    def close(self, connection: Any) -> None:
        """End a connection."""
        connection.finish()


def _result(connection: Any, ends: float) -> Any:
    """Return the next result of a query, None after the last; blocks.

    :raises TimeoutError: it does not come in time.
    """
    while connection.is_busy():
        left = ends - monotonic()
        if left <= 0 or not select.select([connection.socket], [], [], left)[0]:
            raise TimeoutError("no answer in time")
        connection.consume_input()
    return connection.get_result()


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _octets(raw: bytes | None) -> str:
    return (raw or b"").decode("latin-1")


class Lookup(SqlLookup):
    """``pgsql`` lookups."""

    def __init__(self, threads: Threads | None = None, backing: Backing = NO_BACKING) -> None:
        super().__init__(PgSql(), threads, backing)

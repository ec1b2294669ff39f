"""``mysql`` lookups (specification 9.22), with PyMySQL (an optional package)."""

from __future__ import annotations

from typing import Any

from mailsrv.lookup._backing import NO_BACKING, Backing
from mailsrv.lookup._files import Threads
from mailsrv.lookup._rows import rows_text
from mailsrv.lookup._sql import TIMEOUT, Server, SqlLookup, parse_server, text_of


class MySql:
    """How PyMySQL is used: queries and values are octets."""

    product = "MySQL"
    option = "mysql_servers"
    package = "PyMySQL"
    module = "pymysql"

    def parse(self, text: str, query: str) -> Server:
        """Read ``host/database/user/password``."""
        return parse_server(text, query)

    def connect(self, module: Any, server: Server) -> Any:
        """Connect."""
        place = {"unix_socket": server.socket} if server.socket else {}
        return module.connect(
            host=server.host or "localhost",
            port=server.port or 3306,
            user=server.user or None,
            password=server.password,
            database=server.database or None,
            charset="utf8mb4",
            use_unicode=False,
            conv=module.converters.encoders,  # and no decoders: values are the server's text
            connect_timeout=TIMEOUT,
            read_timeout=TIMEOUT,
            write_timeout=TIMEOUT,
            autocommit=True,
            **place,
        )

    def ask(self, connection: Any, query: str) -> str | None:
        """Return the rows, or the number of rows that were changed."""
        if not query:
            return None
        cursor = connection.cursor()
        cursor.execute(query.encode("latin-1"))
        if cursor.description is None:
            return str(max(cursor.rowcount, 0))
        names = [text_of(column[0]) or "" for column in cursor.description]
        rows = [[text_of(value) for value in row] for row in cursor.fetchall()]
        if len(names) == 1:
            return _column([row[0] for row in rows])
        return rows_text(names, ([value or "" for value in row] for row in rows))

    def close(self, connection: Any) -> None:
        """End a connection."""
        connection.close()


def _column(values: list[str | None]) -> str | None:
    """Return a single column; NULL is nothing, so that a sole one finds nothing."""
    while values and values[0] is None:
        del values[0]
    return "\n".join(value or "" for value in values) if values else None


class Lookup(SqlLookup):
    """``mysql`` lookups."""

    def __init__(self, threads: Threads | None = None, backing: Backing = NO_BACKING) -> None:
        super().__init__(MySql(), threads, backing)

"""``pgsql`` lookups (specification 9.23), with pg8000 (an optional package)."""

from __future__ import annotations

from typing import Any

from mailsrv.lookup._backing import NO_BACKING, Backing
from mailsrv.lookup._files import Threads
from mailsrv.lookup._sql import TIMEOUT, DbApi, Server, SqlLookup


class PgSql(DbApi):
    """How pg8000 connects."""

    product = "PostgreSQL"
    option = "pgsql_servers"
    package = "pg8000"
    module = "pg8000.dbapi"

    def connect(self, module: Any, server: Server) -> Any:
        """Connect (DB-API)."""
        place: dict[str, Any] = {"host": server.host or "localhost", "port": server.port or 5432}
        if server.socket:
            place = {"unix_sock": f"{server.socket.rstrip('/')}/.s.PGSQL.{server.port or 5432}"}
        return module.connect(
            user=server.user,
            password=server.password,
            database=server.database,
            timeout=TIMEOUT,
            **place,
        )


class Lookup(SqlLookup):
    """``pgsql`` lookups."""

    def __init__(self, threads: Threads | None = None, backing: Backing = NO_BACKING) -> None:
        super().__init__(PgSql(), threads, backing)

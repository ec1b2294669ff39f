"""``mysql`` lookups (specification 9.22), with PyMySQL (an optional package)."""

from __future__ import annotations

from typing import Any

from mailsrv.lookup._backing import NO_BACKING, Backing
from mailsrv.lookup._files import Threads
from mailsrv.lookup._sql import TIMEOUT, DbApi, Server, SqlLookup


class MySql(DbApi):
    """How PyMySQL connects."""

    product = "MySQL"
    option = "mysql_servers"
    package = "PyMySQL"
    module = "pymysql"

    def connect(self, module: Any, server: Server) -> Any:
        """Connect (DB-API); values come as text in latin-1: an octet a character."""
        place = {"unix_socket": server.socket} if server.socket else {}
        return module.connect(
            host=server.host or "localhost",
            port=server.port or 3306,
            user=server.user or None,
            password=server.password,
            database=server.database or None,
            charset="latin1",
            conv={},
            connect_timeout=TIMEOUT,
            read_timeout=TIMEOUT,
            write_timeout=TIMEOUT,
            **place,
        )


class Lookup(SqlLookup):
    """``mysql`` lookups."""

    def __init__(self, threads: Threads | None = None, backing: Backing = NO_BACKING) -> None:
        super().__init__(MySql(), threads, backing)

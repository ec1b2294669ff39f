"""``redis`` lookups (specification 9.24), with the package redis (optional)."""

from __future__ import annotations

import re
from typing import Any

from mailsrv.lookup._backing import NO_BACKING, Backing
from mailsrv.lookup._files import Threads
from mailsrv.lookup._sql import TIMEOUT, Server, SqlLookup, deferred, parse_server, text_of

_WORD = re.compile(r"(?:[^ \t\n\r\v\f\\]|\\.)+", re.DOTALL)


class Redis:
    """How redis-py connects; a query is a command, its words divided by white space."""

    product = "REDIS"
    option = "redis_servers"
    package = "redis"
    module = "redis"

    def parse(self, text: str, query: str) -> Server:
        """Read ``host/database/password``."""
        if text.count("/") < 2:
            raise deferred(query, f"incomplete server data: {text.partition('/')[0]}")
        head, _, password = text.rpartition("/")
        return parse_server(f"{head}//{password}", query)

    def connect(self, module: Any, server: Server) -> Any:
        """Connect."""
        from redis.backoff import NoBackoff  # type: ignore[import-not-found, unused-ignore]
        from redis.retry import Retry  # type: ignore[import-not-found, unused-ignore]

        common: dict[str, Any] = {
            "retry": Retry(NoBackoff(), 0),  # there may be another server
            "db": int(server.database or 0),
            "password": server.password or None,
            "socket_timeout": TIMEOUT,
        }
        if server.socket:
            connection = module.UnixDomainSocketConnection(path=server.socket, **common)
        else:
            connection = module.Connection(
                host=server.host or "localhost",
                port=server.port or 6379,
                socket_connect_timeout=TIMEOUT,
                **common,
            )
        connection.connect()
        return connection

    def ask(self, connection: Any, query: str) -> str | None:
        """Run a command: the elements of an answer are lines."""
        words = [re.sub(r"\\(.)", r"\1", w, flags=re.DOTALL) for w in _WORD.findall(query)]
        connection.send_command(*[word.encode("latin-1", "replace") for word in words])
        return _text(connection.read_response())

    def close(self, connection: Any) -> None:
        """End a connection."""
        connection.disconnect()


def _text(answer: Any) -> str | None:
    if isinstance(answer, dict):  # of the protocol's third version
        answer = [one for pair in answer.items() for one in pair]
    if isinstance(answer, list | tuple | set):
        lines = [text for text in map(_text, answer) if text is not None]
        return "\n".join(lines) if lines else None
    return text_of(answer)


class Lookup(SqlLookup):
    """``redis`` lookups."""

    def __init__(self, threads: Threads | None = None, backing: Backing = NO_BACKING) -> None:
        super().__init__(Redis(), threads, backing)

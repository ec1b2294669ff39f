"""What every session of a server uses: made once by ``service/build.py``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mailsrv.config.main import MainOptions
from mailsrv.connection.limits import ConnectionCounts, Disk, IConnectionCounts
from mailsrv.expansion.lists import match_domain, match_host
from mailsrv.expansion.rewrite import Rewriter
from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.template import Template
from mailsrv.interfaces import (
    IAuthentication,
    IClock,
    IMailLog,
    IPolicy,
    IQueue,
    IResolver,
    ISpool,
    IVerifier,
)
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Message
from mailsrv.wire.session import Input


class IServerTls(Protocol):
    """The server's TLS contexts (``net/tls.py``)."""

    @property
    def configured(self) -> bool:
        """Tell whether there is a certificate to offer."""

    async def context(self, scope: Scope) -> Any:
        """Return an ``OpenSSL.SSL.Context`` for a connection.

        :raises TemporaryFailure: no key, no certificate, bad ciphers; the reason is for the log.
        """


class IChannel(Protocol):
    """The adapter, as a session sees it."""

    input: Input

    def write(self, octets: bytes) -> None:
        """Send a reply; it goes out with others that are made at the same moment."""

    def hang_up(self) -> None:
        """Close when all replies are sent; nothing further is read."""

    def start_tls(self, context: Any) -> None:
        """Begin TLS behind the replies that are made."""

    def sent_early(self) -> bytes:
        """What the peer sent and no event has given yet, on the socket too."""


async def no_failure(
    to: str, subject: str, lines: Sequence[str], original: bytes
) -> Message | None:
    """Build no message about one that is not taken."""
    return None


@dataclass(slots=True)
class Parts:
    """The services of a session; ``next_id`` gives a new message id each time.

    ``failure`` builds a message to a local user (its subject, its lines) about one of theirs
    that is not taken.
    """

    clock: IClock
    settings: MainOptions
    services: Services
    policy: IPolicy
    authentication: IAuthentication
    spool: ISpool
    queue: IQueue
    log: IMailLog
    next_id: Callable[[], str]
    spool_directory: str = ""  # whose disk check_spool_space watches; "" = none
    resolver: IResolver | None = None
    verifier: IVerifier | None = None  # VRFY asks it
    rewriter: Rewriter = field(default_factory=Rewriter)
    tls: IServerTls | None = None
    failure: Callable[[str, str, Sequence[str], bytes], Awaitable[Message | None]] = no_failure
    counts: IConnectionCounts = field(default_factory=ConnectionCounts)
    disk: Disk = field(default_factory=Disk)
    file_limit: int = 0  # connections that the process' open files allow; 0 = not known

    def scope(self, connection: Connection) -> Scope:
        """Return what an option's string sees."""
        return Scope(
            self.services,
            connection=connection,
            message=connection.transaction,
            origin=connection.origin,
        )

    async def listed(self, hosts: Template | None, connection: Connection) -> bool:
        """Tell whether the client is in a host list; no list has no hosts.

        :raises TemporaryFailure: the list cannot be evaluated now.
        """
        if hosts is None or hosts.constant == "":
            return False
        if hosts.constant is not None and hosts.constant.strip(" ") == "*":
            return True
        return await match_host(hosts, connection.origin, self.scope(connection)) is not None

    async def in_domains(self, domains: Template, domain: str, connection: Connection) -> bool:
        """Tell whether a domain is in a domain list.

        :raises TemporaryFailure: the list cannot be evaluated now.
        """
        return await match_domain(domains, domain, self.scope(connection)) is not None

    async def expand(self, template: Template | None, connection: Connection) -> str:
        """Expand an option; "" if it is not set.

        :raises ExpansionError: as a TemporaryFailure.
        """
        if template is None:
            return ""
        if template.constant is not None:
            return template.constant
        return await template.expand(self.scope(connection))

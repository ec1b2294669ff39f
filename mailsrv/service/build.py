"""From a configuration to a running server: the only place where the stages meet.

Each stage is handed the others as the interfaces of ``interfaces.py``; nothing
here decides anything about mail.
"""

from __future__ import annotations

from typing import Any

from mailsrv.acl.run import Acls
from mailsrv.auth.sasl import Authentication
from mailsrv.config.main import FIXED_NEVER_USERS
from mailsrv.config.model import Configuration
from mailsrv.connection.factory import SmtpFactory
from mailsrv.connection.parts import Parts
from mailsrv.connection.settings import ServerSettings
from mailsrv.dns.resolver import Resolver
from mailsrv.expansion.scope import Services
from mailsrv.interfaces import AclPhase
from mailsrv.logs.log import LogSettings, MailLog
from mailsrv.lookup import registry
from mailsrv.mail.msgid import MessageIds
from mailsrv.net.hosts import is_own_address
from mailsrv.net.threads import Threads
from mailsrv.net.tls import ServerTls, TlsOptions
from mailsrv.queue.bouncer import Bouncer
from mailsrv.queue.runner import QueueRunner, QueueSettings
from mailsrv.queue.schedule import Schedule
from mailsrv.routing.route import Routing
from mailsrv.routing.verify import Verifier
from mailsrv.service.environment import make_services
from mailsrv.service.prepare import Prepared
from mailsrv.service.reports import report_options
from mailsrv.spool.hints import SqliteHints
from mailsrv.spool.sqlite import SqliteSpool
from mailsrv.transport.deliver import Delivering

WORKER = 0  # the number of the only worker: its ids, its folder in the spool directory


class Core:
    """The parts of one server process, wired.

    Made after root was dropped, on the reactor thread.

    :raises ConfigError, SpoolError, OSError: the log, the spool or a checker cannot be had.
    """

    def __init__(self, configuration: Configuration, prepared: Prepared, reactor: Any) -> None:
        main = configuration.main
        self.configuration = configuration
        self.reactor = reactor
        self.log = MailLog(log_settings(configuration, prepared), reactor)
        self.pools = {
            name: Threads(reactor, name, workers=workers)
            for name, workers in (("lookups", 4), ("deliveries", 16), ("hints", 1), ("users", 2))
        }
        self.resolver = Resolver(
            reactor, retransmit=main.dns_retrans, retries=main.dns_retry
        )
        self.folder = f"{prepared.spool_directory}/{WORKER}"
        self.services = self._services()
        self.policy = self._policy()
        self.next_id = MessageIds(reactor.seconds, WORKER)
        self.spool = SqliteSpool(reactor, self.folder, self.log.panic)
        self.hints = SqliteHints(
            reactor,
            f"{prepared.spool_directory}/hints.sqlite3",
            self.pools["hints"],
            self.log.main,
            expire=main.retry_data_expire,
        )
        self.schedule = Schedule(
            reactor, self.hints, configuration.retry, interval_max=main.retry_interval_max
        )
        self.delivering = self._delivering()
        self.queue = self._queue()
        self.authentication = Authentication(
            reactor, configuration.authenticators, self.services, self.log
        )
        self.factory = self._factory(prepared)

    def _services(self) -> Services:
        lookups = self.pools["lookups"].run
        return make_services(
            self.configuration,
            self.reactor,
            registry(lookups),
            resolver=self.resolver,
            acl=self._call_acl,
            threads=lookups,
        )

    async def _call_acl(self, *arguments: Any) -> Any:
        """The ACLs as ``${acl{…}}`` calls them; they need the services, and the services them."""
        return await self.policy.call(*arguments)

    def _policy(self) -> Acls:
        main = self.configuration.main
        transports = self.configuration.transports
        self.routing = Routing(
            self.configuration.routers,
            self.services,
            self.log,
            self.resolver,
            self.pools["users"],
            self.reactor,
            local_transports={name: each.local for name, each in transports.items()},
            is_local=is_own_address,
        )
        return Acls(
            self.configuration.acls,
            {phase: getattr(main, f"acl_smtp_{phase.value}", None) for phase in AclPhase},
            self.services,
            verifier=Verifier(self.routing),
            resolver=self.resolver,
            clock=self.reactor,
            log=self.log,
        )

    def _delivering(self) -> Delivering:
        main = self.configuration.main
        never = {user.uid for user in main.never_users or () if user.uid is not None}
        return Delivering(
            self.configuration.transports,
            self.services,
            self.log,
            self.resolver,
            self.schedule,
            self.pools["deliveries"],
            self.reactor,
            never_users=frozenset(never.union(FIXED_NEVER_USERS)),
            drop_privilege=main.deliver_drop_privilege,
            per_message=main.remote_max_parallel,
            is_local=is_own_address,
        )

    def _queue(self) -> QueueRunner:
        main = self.configuration.main
        bouncer = Bouncer(
            self.reactor, self.next_id, **report_options(main, self.services, self.log)
        )
        return QueueRunner(
            self.reactor,
            self.spool,
            self.hints,
            self.routing,
            self.delivering,
            self.configuration.retry,
            self.log,
            bouncer,
            QueueSettings(
                queue_only=main.queue_only,
                retry_interval_max=main.retry_interval_max,
                ignore_bounce_errors_after=main.ignore_bounce_errors_after,
                timeout_frozen_after=main.timeout_frozen_after,
                auto_thaw=main.auto_thaw,
                message_logs=main.message_logs,
            ),
            self.schedule,
        )

    def _factory(self, prepared: Prepared) -> SmtpFactory:
        main = self.configuration.main
        settings = ServerSettings.from_options(main)
        settings.spool_directory = prepared.spool_directory
        return SmtpFactory(
            Parts(
                clock=self.reactor,
                settings=settings,
                services=self.services,
                policy=self.policy,
                authentication=self.authentication,
                spool=self.spool,
                queue=self.queue,
                log=self.log,
                next_id=self.next_id,
                resolver=self.resolver,
                tls=ServerTls(TlsOptions.from_options(main), prepared.keys),
                file_limit=prepared.file_limit,
            ),
            {listener.port for listener, _ in prepared.listening if listener.tls_on_connect},
        )


def log_settings(configuration: Configuration, prepared: Prepared) -> LogSettings:
    """Return what the logs want to know of the main options."""
    main = configuration.main
    taken = {
        name: getattr(main, name)
        for name in LogSettings.__dataclass_fields__
        if getattr(main, name, None) is not None
    }
    taken.update(
        spool_directory=prepared.spool_directory,
        log_file_path=prepared.log_file_path,
    )
    return LogSettings(**taken)

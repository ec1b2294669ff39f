"""From a configuration to a running server: the only place where the stages meet.

Each stage is handed the others as the interfaces of ``interfaces.py``; nothing
here decides anything about mail.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from twisted.internet.defer import maybeDeferred

from mailsrv import __version__
from mailsrv.acl.run import Acls
from mailsrv.auth.authenticator import Authenticator
from mailsrv.auth.sasl import Authentication
from mailsrv.config.model import Configuration
from mailsrv.connection.factory import SmtpFactory
from mailsrv.connection.parts import Parts
from mailsrv.dns.resolver import Resolver
from mailsrv.expansion.lists import match_address, match_domain
from mailsrv.expansion.regex import compile_regex
from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.template import Template, compile_string
from mailsrv.interfaces import AclPhase
from mailsrv.logs.log import MailLog
from mailsrv.lookup import registry
from mailsrv.mail.msgid import MessageIds
from mailsrv.net.listen import local_test
from mailsrv.net.threads import Threads
from mailsrv.net.tls import ServerTls, TlsOptions
from mailsrv.queue.bouncer import Bouncer
from mailsrv.queue.runner import QueueRunner, QueueSettings
from mailsrv.queue.schedule import Schedule
from mailsrv.routing.route import Routing
from mailsrv.routing.router import Router
from mailsrv.routing.verify import Verifier
from mailsrv.service.control import ControlFactory, listen
from mailsrv.service.environment import log_settings, make_services, set_environment
from mailsrv.service.observer import PanicObserver
from mailsrv.service.prepare import Prepared, never_users
from mailsrv.service.reports import report_options
from mailsrv.service.requests import SOCKET
from mailsrv.spool.hints import SqliteHints
from mailsrv.spool.sqlite import SqliteSpool
from mailsrv.transport.deliver import Delivering
from mailsrv.transport.transport import Transport

FILES_KEPT = 4  # a part of the open files that sessions leave to spool, next hops and lookups
GRACE = 20.0  # seconds that sessions, and then deliveries, have to end
WORKER = 0  # the number of the only worker: its ids, its folder in the spool directory


class Core:
    """The parts of one server process, wired.

    Made after root was dropped, on the reactor thread.

    :raises ConfigError, SpoolError, OSError: the log, the spool or a checker cannot be had.
    """

    def __init__(self, configuration: Configuration, prepared: Prepared, reactor: Any) -> None:
        main = configuration.main
        self.configuration = configuration
        self.transports = {
            name: each
            for name, each in configuration.transports.items()
            if isinstance(each, Transport)
        }
        self.reactor = reactor
        set_environment(main)
        self.log = MailLog(log_settings(configuration), reactor)
        self.pools = {
            name: Threads(reactor, name, workers=workers)
            for name, workers in (("lookups", 4), ("deliveries", 16), ("hints", 1), ("users", 2))
        }
        self.resolver = Resolver(
            reactor,
            retransmit=main.dns_retrans,
            retries=main.dns_retry,
            names=compile_regex(main.dns_check_names_pattern)
            if main.dns_check_names_pattern
            else None,
            ipv6=not main.disable_ipv6,
            ipv4_only=self._domains(main.dns_ipv4_lookup) if main.dns_ipv4_lookup else None,
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
        rules = configuration.retry.matching(self._retry_pattern)
        self.schedule = Schedule(reactor, self.hints, rules, interval_max=main.retry_interval_max)
        self.delivering = self._delivering(prepared.privileged)
        self.queue = self._queue()
        self.authentication = Authentication(
            reactor,
            [each for each in configuration.authenticators if isinstance(each, Authenticator)],
            self.services,
            self.log,
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
            log=self.log,
        )

    async def _call_acl(self, *arguments: Any) -> Any:
        """The ACLs as ``${acl{…}}`` calls them; they need the services, and the services them."""
        return await self.policy.call(*arguments)

    def _policy(self) -> Acls:
        main = self.configuration.main
        self.routing = Routing(
            routers_of(self.configuration),
            self.services,
            self.log,
            self.resolver,
            self.pools["users"],
            self.reactor,
            local_transports={name: each.local for name, each in self.transports.items()},
            is_local=local_test(main.extra_local_interfaces),
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

    def _delivering(self, privileged: list[socket.socket]) -> Delivering:
        main = self.configuration.main
        return Delivering(
            self.transports,
            self.services,
            self.log,
            self.resolver,
            self.schedule,
            self.pools["deliveries"],
            self.reactor,
            never_users=never_users(main),
            drop_privilege=main.deliver_drop_privilege,
            per_message=main.remote_max_parallel,
            is_local=local_test(main.extra_local_interfaces),
            privileged=privileged[0] if privileged else None,
        )

    def _queue(self) -> QueueRunner:
        main = self.configuration.main
        bouncer = Bouncer(
            self.reactor, self.next_id, **report_options(main, self.services, self.log)
        )
        return QueueRunner(
            self.reactor,
            self.spool,
            self.schedule,
            self.routing,
            self.delivering,
            self.log,
            bouncer,
            QueueSettings(
                queue_only=main.queue_only,
                ignore_bounce_errors_after=main.ignore_bounce_errors_after,
                timeout_frozen_after=main.timeout_frozen_after,
                auto_thaw=main.auto_thaw,
                message_logs=main.message_logs,
                holds=self._domains(main.hold_domains),
                later=self._domains(main.queue_domains),
            ),
        )

    def _domains(self, domains: Template | None) -> Callable[[str], Awaitable[bool]]:
        """Return what tells whether a domain is in a list of the main section."""

        async def match(domain: str) -> bool:
            if domains is None:
                return False
            return await match_domain(domains, domain, Scope(self.services)) is not None

        return match

    async def _retry_pattern(self, pattern: str, address: str) -> bool:
        """Match a retry rule's pattern that is a lookup, a named list or a regex (32.2)."""
        return (
            await match_address(compile_string(pattern), address, Scope(self.services)) is not None
        )

    def _factory(self, prepared: Prepared) -> SmtpFactory:
        main = self.configuration.main
        return SmtpFactory(
            Parts(
                clock=self.reactor,
                settings=main,
                spool_directory=prepared.spool_directory,
                services=self.services,
                policy=self.policy,
                authentication=self.authentication,
                spool=self.spool,
                queue=self.queue,
                log=self.log,
                next_id=self.next_id,
                resolver=self.resolver,
                verifier=Verifier(self.routing),
                tls=ServerTls(TlsOptions.from_options(main), prepared.keys),
                file_limit=prepared.file_limit - prepared.file_limit // FILES_KEPT,
            ),
            {listener.port for listener, _ in prepared.listening if listener.tls_on_connect},
        )


def routers_of(configuration: Configuration) -> list[Router]:
    """Return the routers of a configuration, in their order."""
    return [each for each in configuration.routers if isinstance(each, Router)]


class Server:
    """A running server: ports, sessions, queue and control socket of one process."""

    def __init__(self, core: Core, prepared: Prepared) -> None:
        self._core = core
        self._prepared = prepared
        self._ports: list[Any] = []
        self._control: Any = None
        self._observer = PanicObserver(core.log)

    def start(self) -> None:
        """Accept connections, and deliver what the spool holds."""
        core = self._core
        self._observer.start()
        self._control = listen(
            core.reactor,
            f"{core.folder}/{SOCKET}",
            ControlFactory(core.spool, core.queue, clock=core.reactor, log=core.log),
        )
        for listener, bound in self._prepared.listening:
            family = socket.AF_INET6 if listener.ipv6 else socket.AF_INET
            self._ports.append(core.reactor.adoptStreamPort(bound.fileno(), family, core.factory))
            bound.close()
        core.queue.start()
        core.log.main(self._started())
        for warning in self._prepared.warnings:
            core.log.panic(warning)

    async def stop(self) -> None:
        """End gracefully: what is not finished in time is kept in the spool for the next start.

        Further signals to end are ignored: the end is under way, and takes a bounded time.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        core = self._core
        for step in self._last_steps():
            try:
                await step()
            except Exception as error:  # the others are done all the same
                core.log.panic("a step of the end failed", error)
        core.log.main(f"mailsrv {__version__} ended: pid={os.getpid()}")
        self._observer.stop()
        core.log.close()

    def _last_steps(self) -> Iterator[Callable[[], Awaitable[object]]]:
        """What is ended, in its order."""
        core = self._core
        for port in self._ports:
            yield partial(maybeDeferred, port.stopListening)
        yield partial(core.factory.drain, GRACE)
        yield partial(core.queue.stop, GRACE)
        if self._control is not None:
            yield partial(maybeDeferred, self._control.stopListening)
        yield core.delivering.close
        yield partial(maybeDeferred, core.authentication.close)
        yield core.spool.close
        yield core.hints.close
        for pool in core.pools.values():
            yield partial(pool.stop, 1.0)

    def reopen_logs(self) -> None:
        """SIGUSR1: the log files were renamed."""
        self._core.log.reopen()

    def hang_up(self) -> None:
        """SIGHUP: go on, and say what it does not do."""
        self.reopen_logs()
        self._core.log.main("SIGHUP received: a changed configuration needs a restart")

    def _started(self) -> str:
        places: dict[tuple[int, bool], list[str]] = {}
        for listener, _ in self._prepared.listening:
            kind = (listener.port, listener.tls_on_connect)
            places.setdefault(kind, []).append(f"[{listener.address}]")
        where = " and for ".join(
            f"{'SMTPS' if tls else 'SMTP'} on port {port} of {', '.join(addresses)}"
            for (port, tls), addresses in places.items()
        )
        return f"mailsrv {__version__} daemon started: pid={os.getpid()}, listening for {where}"

"""From a configuration to the stages that obey it: the only place where the stages meet.

Each stage is handed the others as the interfaces of ``interfaces.py``; nothing
here decides anything about mail.  Another configuration is other stages; what
outlives it is in :class:`Lasting`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mailsrv.acl.run import Acls
from mailsrv.auth.authenticator import Authenticator
from mailsrv.auth.client import ClientAuthentication
from mailsrv.auth.sasl import Authentication
from mailsrv.config.main import MainOptions
from mailsrv.config.model import Configuration
from mailsrv.connection.limits import IConnectionCounts
from mailsrv.connection.parts import Parts
from mailsrv.expansion.lists import match_address, match_domain
from mailsrv.expansion.rewrite import Rewriter
from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.separated import split_list
from mailsrv.expansion.template import Template, compile_string
from mailsrv.interfaces import AclPhase, IHints, IMailLog, IRates, ISpool
from mailsrv.lookup import registry
from mailsrv.net.listen import local_test
from mailsrv.net.listfile import ListFile
from mailsrv.net.threads import Threads
from mailsrv.net.tls import KeyStore, ServerTls, TlsOptions
from mailsrv.net.tlsclient import ClientTls
from mailsrv.queue.bouncer import Bouncer
from mailsrv.queue.runner import QueueRunner, QueueSettings
from mailsrv.queue.schedule import Schedule
from mailsrv.routing.route import Routing
from mailsrv.routing.router import Router
from mailsrv.routing.verify import Verifier
from mailsrv.service.environment import make_services
from mailsrv.service.functions import functions_of
from mailsrv.service.names import make_resolver
from mailsrv.service.prepare import Prepared, never_users
from mailsrv.service.reports import report_options
from mailsrv.transport.callout import CalloutOptions, Callouts
from mailsrv.transport.deliver import Delivering
from mailsrv.transport.privileged.client import read_list
from mailsrv.transport.transport import Transport
from mailsrv.transport.users import uid_of

KINDS = ("router", "transport", "authenticator")
FILES_KEPT = 4  # a part of the open files that sessions leave to spool, next hops and lookups


@dataclass(frozen=True, slots=True)
class Lasting:
    """What a process has for life, whatever its configuration; ``reactor`` is its clock, too."""

    reactor: Any
    log: IMailLog
    pools: Mapping[str, Threads]
    hints: IHints
    next_id: Callable[[], str]
    counts: IConnectionCounts
    rates: IRates


class Stages:
    """The stages of one configuration, wired; nothing has begun yet.

    Made after root was dropped, on the reactor thread.

    :raises ConfigError, OSError: a checker cannot be had.
    """

    def __init__(self, configuration: Configuration, prepared: Prepared, lasting: Lasting) -> None:
        main = configuration.main
        self.configuration = configuration
        for options in (main, *(each for kind in KINDS for each in configuration.instances(kind))):
            options.settled = True
        self.lasting = lasting
        self.reactor = lasting.reactor
        self.log = lasting.log
        self.transports = {
            name: each
            for name, each in configuration.transports.items()
            if isinstance(each, Transport)
        }
        self.resolver = make_resolver(main, self.reactor, self._domains)
        self.services = self._services()
        rules = configuration.retry.matching(self._retry_pattern)
        self.schedule = Schedule(
            self.reactor, lasting.hints, rules, interval_max=main.retry_interval_max
        )
        self.delivering = self._delivering(prepared.privileged, prepared.keys)
        self.policy = self._policy(prepared.privileged)
        self.bouncer = Bouncer(
            self.reactor,
            lasting.next_id,
            **report_options(
                main,
                self.services,
                self.log,
                lasting.pools["lookups"],
                self.routing.facilities.rewriter,
            ),
        )
        self.authentication = Authentication(
            self.reactor,
            authenticators_of(configuration),
            self.services,
            self.log,
        )
        self.tls = ServerTls(TlsOptions.from_options(main), prepared.keys)
        self.prepared = prepared

    def _services(self) -> Services:
        lookups = self.lasting.pools["lookups"].run
        return make_services(
            self.configuration,
            self.reactor,
            registry(lookups, self.resolver, self.configuration.main),
            resolver=self.resolver,
            acl=self._call_acl,
            threads=lookups,
            log=self.log,
            functions=functions_of(self.configuration, self.reactor, self.log),
        )

    async def _call_acl(self, *arguments: Any) -> Any:
        """The ACLs as ``${acl{…}}`` calls them; they need the services, and the services them."""
        return await self.policy.call(*arguments)

    def _policy(self, privileged: list[socket.socket]) -> Acls:
        main = self.configuration.main
        self.routing = Routing(
            routers_of(self.configuration),
            self.services,
            self.log,
            self.resolver,
            self.lasting.pools["users"],
            self.reactor,
            local_transports={name: each.local for name, each in self.transports.items()},
            is_local=local_test(main.extra_local_interfaces),
            is_local_name=self._domains(main.hosts_treat_as_local),
            read_as=self._reader(privileged[0]) if privileged else None,
            rewriter=Rewriter(self.configuration.rewrite),
            search=self.resolver.search,
        )
        return Acls(
            self.configuration.acls,
            {phase: getattr(main, phase.option, None) for phase in AclPhase},
            self.services,
            verifier=Verifier(self.routing),
            callout=Callouts(self.transports, self.delivering.facilities, callout_options(main)),
            resolver=self.resolver,
            clock=self.reactor,
            log=self.log,
            rates=self.lasting.rates,
            unbuilt=_unbuilt(main),
        )

    def _reader(self, channel: socket.socket) -> Callable[..., Awaitable[str | None]]:
        """Return what reads a redirection list as another system user."""
        never = never_users(self.configuration.main)

        def read(router: str, user: str, file: ListFile) -> str | None:
            uid = uid_of(user)
            if uid == os.geteuid() or uid in never:
                return file.read()
            return read_list(channel, router, user, file)

        async def read_as(router: str, user: str, file: ListFile) -> str | None:
            return await self.lasting.pools["users"].run(read, router, user, file)

        return read_as

    def _delivering(self, privileged: list[socket.socket], keys: KeyStore) -> Delivering:
        main = self.configuration.main
        return Delivering(
            self.transports,
            self.services,
            self.log,
            self.resolver,
            self.schedule,
            self.lasting.pools["deliveries"],
            self.reactor,
            never_users=never_users(main),
            drop_privilege=main.deliver_drop_privilege,
            per_message=main.remote_max_parallel,
            is_local=local_test(main.extra_local_interfaces),
            privileged=privileged[0] if privileged else None,
            commands=self.lasting.pools["commands"],
            client_tls=ClientTls(keys),
            authentication=ClientAuthentication(authenticators_of(self.configuration)),
        )

    def queue_settings(self) -> QueueSettings:
        """Return what queue runners are told."""
        main = self.configuration.main
        return QueueSettings(
            queue_only=main.queue_only,
            queue_only_files=_files(main.queue_only_file or ""),
            ignore_bounce_errors_after=main.ignore_bounce_errors_after,
            timeout_frozen_after=main.timeout_frozen_after,
            auto_thaw=main.auto_thaw,
            message_logs=main.message_logs,
            holds=self._domains(main.hold_domains),
            later=self._domains(main.queue_domains),
            later_remote=self._domains(main.queue_smtp_domains),
            remote=self._remote() if main.queue_smtp_domains else frozenset(),
            halted="system_filter is known to Exim, not to mailsrv" if main.system_filter else "",
        )

    def _remote(self) -> frozenset[str]:
        return frozenset(name for name, each in self.transports.items() if not each.local)

    def runner(self, spool: ISpool) -> QueueRunner:
        """Return what delivers a spool's messages."""
        return QueueRunner(
            self.reactor,
            spool,
            self.schedule,
            self.routing,
            self.delivering,
            self.log,
            self.bouncer,
            self.queue_settings(),
        )

    def renew(self, runner: QueueRunner) -> None:
        """Let a runner that other stages made go on with these."""
        runner.renew(
            self.schedule, self.routing, self.delivering, self.bouncer, self.queue_settings()
        )

    def parts(self, spool: ISpool, queue: QueueRunner) -> Parts:
        """Return what sessions use that begin from now on."""
        return Parts(
            clock=self.reactor,
            settings=self.configuration.main,
            spool_directory=self.prepared.spool_directory,
            services=self.services,
            policy=self.policy,
            authentication=self.authentication,
            spool=spool,
            queue=queue,
            log=self.log,
            next_id=self.lasting.next_id,
            resolver=self.resolver,
            verifier=Verifier(self.routing),
            rewriter=self.routing.facilities.rewriter,
            tls=self.tls,
            failure=self.bouncer.refused,
            counts=self.lasting.counts,
            file_limit=self.prepared.file_limit - self.prepared.file_limit // FILES_KEPT,
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


def callout_options(main: MainOptions) -> CalloutOptions:
    """Return what callouts remember, and for how long."""
    return CalloutOptions(
        main.callout_random_local_part,
        main.callout_positive_expire,
        main.callout_negative_expire,
        main.callout_domain_positive_expire,
        main.callout_domain_negative_expire,
    )


def authenticators_of(configuration: Configuration) -> list[Authenticator]:
    """Return the authenticators of a configuration, in their order."""
    return [each for each in configuration.authenticators if isinstance(each, Authenticator)]


def routers_of(configuration: Configuration) -> list[Router]:
    """Return the routers of a configuration, in their order."""
    return [each for each in configuration.routers if isinstance(each, Router)]


def _files(queue_only_file: str) -> tuple[str, ...]:
    """The paths in queue_only_file; those with ``smtp`` before them hold all mail, too."""
    return tuple(path.removeprefix("smtp") for path in split_list(queue_only_file) if path)


def _unbuilt(main: MainOptions) -> dict[AclPhase, list[str]]:
    """Return what is set and cannot be done, by the phase that reaches it."""
    wanted: dict[AclPhase, dict[str, object]] = {
        AclPhase.DATA: {"acl_smtp_mime": main.acl_smtp_mime, "acl_smtp_dkim": main.acl_smtp_dkim},
        AclPhase.NOT_SMTP: {
            "acl_not_smtp_mime": main.acl_not_smtp_mime,
            "mua_wrapper": main.mua_wrapper,
        },
    }
    found = {phase: [name for name, value in of.items() if value] for phase, of in wanted.items()}
    return {phase: names for phase, names in found.items() if names}

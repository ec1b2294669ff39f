"""What is done before root is dropped: limits, private keys, folders, ports."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field

from mailsrv.config.main import DEFAULT_USER, FIXED_NEVER_USERS, MainOptions
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError, ConfigErrors
from mailsrv.expansion.scope import Services
from mailsrv.lookup import registry
from mailsrv.net.listen import Listener, bind, listen_on
from mailsrv.net.tls import KeyStore
from mailsrv.service.environment import WallClock, at_start, faults, make_services
from mailsrv.service.preload import preload
from mailsrv.service.privileges import Account, account, make_folder, raise_file_limit
from mailsrv.transport.privileged.policy import policy_for
from mailsrv.transport.privileged.start import start


@dataclass(slots=True)
class Prepared:
    """What root made ready: ``account`` is None for a server that root did not start."""

    listening: list[tuple[Listener, socket.socket]]
    keys: KeyStore
    file_limit: int
    account: Account | None
    spool_directory: str
    log_file_path: str
    warnings: list[str] = field(default_factory=list)  # for the log, when there is one
    # One for each serving process: the way to the process that delivers as other users.
    privileged: list[socket.socket] = field(default_factory=list)


def prepare(configuration: Configuration) -> Prepared:
    """Do it; the ports are bound when this returns.

    :raises ConfigError, ConfigErrors: something in the configuration cannot be.
    :raises OSError: a port or folder is not to be had; the text names it.
    """
    main = configuration.main
    services = make_services(configuration, WallClock(), registry())
    if errors := faults(configuration):
        raise ConfigErrors(errors)
    become = serving_account(main) if os.geteuid() == 0 else None
    spool_directory = at_start(main.spool_directory, services, "spool_directory")
    log_file_path = at_start(main.log_file_path, services, "log_file_path")
    keys = KeyStore()
    unread = keys.preload_templates(main.tls_certificate, main.tls_privatekey)
    folders = dict.fromkeys(_log_folders(log_file_path), "log_file_path")
    for path, name in {spool_directory: "spool_directory", **folders}.items():
        try:
            make_folder(path, 0o750, become)
        except OSError as error:
            problem = f"{name}: cannot make {path}: {error.strerror}"
            raise ConfigError(problem, main.places.get(name)) from error
    listening = _listen(main, services)
    if become is not None:
        preload()
    return Prepared(
        listening,
        keys,
        raise_file_limit(),
        become,
        spool_directory,
        log_file_path,
        [f"TLS is not available: {error.filename}: {error.strerror}" for error in unread],
        privileged_process(configuration, become) if become is not None else [],
    )


def privileged_process(
    configuration: Configuration, own: Account, serving: int = 1
) -> list[socket.socket]:
    """Start what delivers as other users, if the configuration needs it (specification 23.2).

    Returns a channel to it for each of the ``serving`` processes.
    """
    main = configuration.main
    if main.deliver_drop_privilege:
        return []
    policy = policy_for(configuration.routers, configuration.transports, never_users(main), own.uid)
    return start(policy, serving) if policy is not None else []


def never_users(main: MainOptions) -> frozenset[int]:
    """Return the uids as which nothing is delivered."""
    named = {user.uid for user in main.never_users or () if user.uid is not None}
    return frozenset(named.union(FIXED_NEVER_USERS))


def serving_account(main: MainOptions) -> Account:
    """Return the account that a server started by root runs as.

    :raises ConfigError: there is none.
    """
    user, group = main.exim_user, main.exim_group
    wanted = user.name if user is not None else DEFAULT_USER
    uid = None if user is None else user.uid
    return account(uid, None if group is None else group.gid, wanted)


def _log_folders(log_file_path: str) -> list[str]:
    """The folders of the log files; a template's ``%D`` may only be in the file's name."""
    items = [item.strip(" ") for item in log_file_path.split(":")]
    return [os.path.dirname(item) for item in items if item.startswith("/")]


def _listen(main: MainOptions, services: Services) -> list[tuple[Listener, socket.socket]]:
    def text(name: str) -> str | None:
        value = getattr(main, name)
        if value is None or isinstance(value, str):
            return value
        return at_start(value, services, name)

    wanted = listen_on(
        text("local_interfaces"),
        text("daemon_smtp_ports"),
        text("tls_on_connect_ports"),
        ipv6=not main.disable_ipv6 and socket.has_ipv6,
    )
    given = main.local_interfaces is not None and "local_interfaces" in main.values
    made: list[tuple[Listener, socket.socket]] = []
    try:
        for listener in wanted:
            try:
                made.append((listener, bind(listener, backlog=main.smtp_connect_backlog)))
            except OSError as error:
                if listener.ipv6 and not given:
                    continue  # a machine without IPv6, and nobody asked for it by name
                raise OSError(
                    error.errno,
                    f"cannot listen on [{listener.address}]:{listener.port}: {error.strerror}",
                ) from error
        if not made:
            raise ConfigError("there is no address to listen on")
    except BaseException:
        for _, each in made:
            each.close()
        raise
    return made

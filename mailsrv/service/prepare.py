"""What is done before root is dropped: limits, private keys, folders, ports."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from mailsrv.config.main import DEFAULT_USER, FIXED_NEVER_USERS, MainOptions
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError, ConfigErrors
from mailsrv.expansion.scope import Services
from mailsrv.lookup import registry
from mailsrv.net.listen import BACKLOG, Listener, bind, listen_on, local_sockets
from mailsrv.net.tls import KeyStore
from mailsrv.net.unixsocket import bind_unix
from mailsrv.service.environment import WallClock, at_start, faults, faults_at_start, make_services
from mailsrv.service.environment import spool_directory as path_of_spool
from mailsrv.service.preload import preload
from mailsrv.service.privileges import Account, account, make_folder, raise_file_limit
from mailsrv.spool.files import SpoolError, SpoolInUse
from mailsrv.transport.privileged.policy import policy_for
from mailsrv.transport.privileged.start import start

PATIENCE = 2.0  # seconds that a port may be in use by the server before
# Main options whose change a running server cannot follow.
AT_START = (
    "exim_user",
    "exim_group",
    "lmtp_socket_group",
    "lmtp_socket_mode",
    "spool_directory",
    "workers",
)
Sockets = dict[Listener, socket.socket]  # where a process listens


@dataclass(slots=True)
class Prepared:
    """What root made ready: ``account`` is None for a server that root did not start.

    ``listening`` and ``privileged`` have an item for each serving process.
    """

    listening: list[Sockets]
    keys: KeyStore
    file_limit: int
    account: Account | None
    spool_directory: str
    log_file_path: str
    warnings: list[str] = field(default_factory=list)  # for the log, when there is one
    # The ways to the process that delivers as other users, if the configuration needs it.
    privileged: list[socket.socket] = field(default_factory=list)
    lock: int = -1  # the open spool directory, locked for the server's life
    at_start: dict[str, object] = field(default_factory=dict)  # what AT_START's options were


def prepare(configuration: Configuration) -> Prepared:
    """Do it; the ports are bound when this returns.

    :raises ConfigError, ConfigErrors: something in the configuration cannot be.
    :raises SpoolInUse: another server has the spool directory.
    :raises OSError: a port or folder is not to be had; the text names it.
    """
    main = configuration.main
    services = make_services(configuration, WallClock(), registry(settings=configuration.main))
    if errors := faults(configuration) + faults_at_start(configuration):
        raise ConfigErrors(errors)
    become = serving_account(main) if os.geteuid() == 0 else None
    spool_directory = path_of_spool(configuration)
    log_file_path = at_start(main.log_file_path, services, "log_file_path")
    keys, warnings = _keys(configuration)
    _make_folders(main, "spool_directory", [spool_directory], become)
    _make_folders(main, "log_file_path", _log_folders(log_file_path), become)
    lock = _lock(spool_directory)
    try:
        listening = listen(main, _wanted(main, services), main.workers)
    except BaseException:
        os.close(lock)
        raise
    if become is not None and main.workers == 1:
        preload()
    return Prepared(
        listening,
        keys,
        raise_file_limit(),
        become,
        spool_directory,
        log_file_path,
        warnings,
        privileged_process(configuration, become, main.workers) if become is not None else [],
        lock,
        {name: _shown(main, name) for name in AT_START},
    )


def prepare_without_ports(configuration: Configuration) -> Prepared:
    """Prepare a process that works on the spools of a server that does not run, and hears nobody.

    :raises ConfigError, ConfigErrors, SpoolInUse: as :func:`prepare`.
    """
    main = configuration.main
    services = make_services(configuration, WallClock(), registry(settings=configuration.main))
    if errors := faults(configuration) + faults_at_start(configuration):
        raise ConfigErrors(errors)
    become = serving_account(main) if os.geteuid() == 0 else None
    spool_directory = path_of_spool(configuration)
    keys, warnings = _keys(configuration)
    if become is not None:
        preload()
    return Prepared(
        [{}],
        keys,
        raise_file_limit(),
        become,
        spool_directory,
        at_start(main.log_file_path, services, "log_file_path"),
        warnings,
        privileged_process(configuration, become, 1) if become is not None else [],
        _lock(spool_directory),
    )


def renew(configuration: Configuration, before: Configuration, was: Prepared) -> Prepared:
    """Prepare a changed configuration for a server that runs; ports that stay are kept open.

    What only a restart can change is as it was, with a warning.

    :raises ConfigError, ConfigErrors, OSError: as :func:`prepare`; then nothing has changed.
    """
    main = configuration.main
    if errors := faults(configuration) + faults_at_start(configuration):
        raise ConfigErrors(errors)
    services = make_services(configuration, WallClock(), registry(settings=configuration.main))
    log_file_path = at_start(main.log_file_path, services, "log_file_path")
    _make_folders(main, "log_file_path", _log_folders(log_file_path), was.account)
    keys, warnings = _keys(configuration)
    listening = listen(main, _wanted(main, services), len(was.listening), was.listening)
    for name, value in was.at_start.items():
        if _shown(main, name) != value:
            warnings.append(f"{name} has changed: that needs a restart")
    privileged = was.privileged
    if _policy(configuration, was.account) != _policy(before, was.account):
        if was.account is not None and os.geteuid() == 0:
            privileged = privileged_process(configuration, was.account, len(was.listening))
        else:
            warnings.append("users of local deliveries have changed: that needs a restart")
    return replace(
        was,
        listening=listening,
        keys=keys,
        log_file_path=log_file_path,
        warnings=warnings,
        privileged=privileged,
    )


def _shown(main: MainOptions, name: str) -> object:
    value = getattr(main, name)
    return getattr(value, "source", value)


def _policy(configuration: Configuration, own: Account | None) -> object:
    """What the process that delivers as other users may do; None: there is none."""
    main = configuration.main
    if own is None or main.deliver_drop_privilege:
        return None
    found = policy_for(configuration.routers, configuration.transports, never_users(main), own.uid)
    return None if found is None else found.packed()


def _keys(configuration: Configuration) -> tuple[KeyStore, list[str]]:
    """Read certificates and keys while we may; return a warning for each that cannot be read."""
    keys, main = KeyStore(), configuration.main
    unread = keys.preload_templates(main.tls_certificate, main.tls_privatekey)
    for transport in configuration.transports.values():
        named = (getattr(transport, name, None) for name in ("tls_certificate", "tls_privatekey"))
        unread += keys.preload_templates(*named)
    return keys, [f"TLS is not available: {error.filename}: {error.strerror}" for error in unread]


def _lock(spool_directory: str) -> int:
    """Take the spool directory for this server, however many processes it has, until it ends.

    :raises SpoolInUse: another server has it; :class:`SpoolError`: it cannot be written to.
    """
    if os.statvfs(spool_directory).f_flag & os.ST_RDONLY:
        raise SpoolError(f"the spool {spool_directory} is on a read-only file system")
    folder = os.open(spool_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(folder)
        raise SpoolInUse(spool_directory) from error
    return folder


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


def _make_folders(main: MainOptions, option: str, paths: list[str], owner: Account | None) -> None:
    """Make the folders of an option that are missing.

    :raises ConfigError: one cannot be made.
    """
    for path in dict.fromkeys(paths):
        try:
            make_folder(path, 0o750, owner if os.geteuid() == 0 else None)
        except OSError as error:
            problem = f"{option}: cannot make {path}: {error.strerror}"
            raise ConfigError(problem, main.places.get(option)) from error


def _log_folders(log_file_path: str) -> list[str]:
    """The folders of the log files; a template's ``%D`` may only be in the file's name."""
    items = [item.strip(" ") for item in log_file_path.split(":")]
    return [os.path.dirname(item) for item in items if item.startswith("/")]


def _wanted(main: MainOptions, services: Services) -> list[Listener]:
    """Where to listen, in order."""

    def text(name: str) -> str | None:
        value = getattr(main, name)
        if value is None or isinstance(value, str):
            return value
        return at_start(value, services, name)

    addresses = listen_on(
        text("local_interfaces"),
        text("daemon_smtp_ports"),
        text("tls_on_connect_ports"),
        text("lmtp_ports"),
        ipv6=not main.disable_ipv6 and socket.has_ipv6,
    )
    return addresses + local_sockets(text("lmtp_sockets"))


def listen(
    main: MainOptions, wanted: list[Listener], serving: int, kept: list[Sockets] | None = None
) -> list[Sockets]:
    """Return the sockets of each serving process; those among ``kept`` are taken from there.

    :raises ConfigError: there is none.
    :raises OSError: the text names address and port; nothing is open that was not before.
    """
    given = main.local_interfaces is not None and "local_interfaces" in main.values
    sockets: list[Sockets] = [{} for _ in range(serving)]
    try:
        for listener in wanted:
            there = _same_place(listener, kept)
            try:
                found = there or _bound(listener, main, serving)
            except OSError as error:
                if listener.ipv6 and not given:
                    continue  # a machine without IPv6, and nobody asked for it by name
                raise OSError(
                    error.errno, f"cannot listen on {listener}: {error.strerror}"
                ) from error
            for mine, each in zip(sockets, found, strict=True):
                mine[listener] = each
        if not sockets[0]:
            raise ConfigError("there is no address to listen on")
    except BaseException:
        close_missing(sockets, kept or [])
        raise
    return sockets


def close_missing(before: list[Sockets], now: list[Sockets]) -> None:
    """Close the sockets that are not used any more, and remove those of the file system."""
    used = {each for sockets in now for each in sockets.values()}
    for sockets in before:
        for listener, each in sockets.items():
            if each not in used:
                each.close()
                remove(listener)


def remove(listener: Listener) -> None:
    """Remove the path of a Unix socket that is not served any more, as far as we may."""
    if listener.local:
        with suppress(OSError):
            os.unlink(listener.address)


def _same_place(listener: Listener, kept: list[Sockets] | None) -> list[socket.socket] | None:
    """Return the sockets that listen there already, whatever is spoken on them."""
    for other in kept[0] if kept else ():
        if (other.address, other.port) == (listener.address, listener.port):
            return [mine[other] for mine in kept or ()]
    return None


def _bound(listener: Listener, main: MainOptions, serving: int) -> list[socket.socket]:
    """Bind sockets of one address and port, or path.

    Several of our own may share it, but nobody else's.
    """
    # Exim's default of 20 is for a process that forks at once: beyond it the kernel forgets
    # clients that think they are connected, and they wait for a greeting in vain.
    backlog = main.values.get("smtp_connect_backlog", BACKLOG)
    if listener.local:
        return [_local(listener.address, main)] * serving
    if serving == 1:
        return [bind(listener, backlog=backlog)]
    _alone(listener)
    made: list[socket.socket] = []
    try:
        while len(made) < serving:
            made.append(bind(listener, backlog=backlog, reuse_port=True))
    except BaseException:
        for each in made:
            each.close()
        raise
    return made


def _local(path: str, main: MainOptions) -> socket.socket:
    """Bind a Unix socket; all processes accept on the same one."""
    group = main.lmtp_socket_group
    gid = None if group is None else group.gid
    make = partial(bind_unix, path, mode=main.lmtp_socket_mode, group=gid)
    return _patiently(partial(make, backlog=main.smtp_connect_backlog))


def _alone(listener: Listener) -> None:
    """See that nobody listens there.

    :raises OSError: somebody does.
    """
    _patiently(partial(bind, listener, backlog=1)).close()


def _patiently(make: Callable[[], socket.socket]) -> socket.socket:
    """Bind; the processes of a server that was killed have a moment to go.

    :raises OSError: somebody listens there, or it cannot be.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return make()
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise
            time.sleep(0.1)

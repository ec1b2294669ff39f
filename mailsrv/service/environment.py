"""What all strings of a configuration share: :class:`~mailsrv.expansion.scope.Services`.

Used by the server and by the commands that expand strings.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import sysconfig
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from mailsrv.config.main import MainOptions
from mailsrv.config.model import Configuration
from mailsrv.config.options import OptionSet
from mailsrv.dns.system import name_servers
from mailsrv.errors import ConfigError, TemporaryFailure
from mailsrv.expansion.lists import NamedLists, split_list
from mailsrv.expansion.regex import compile_regex
from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.template import Template
from mailsrv.interfaces import IClock, IResolver
from mailsrv.logs import selectors
from mailsrv.logs.files import destinations
from mailsrv.logs.log import LogSettings
from mailsrv.logs.syslog import facility
from mailsrv.lookup import registry
from mailsrv.mail.msgid import WORKERS
from mailsrv.net.listen import listen_on, local_sockets, local_test, ports
from mailsrv.spool.files import space


class WallClock:
    """The time of day, for strings that are expanded where nothing waits: at start, in commands."""

    def seconds(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> None:
        """Refuse.

        :raises TypeError: always.
        """
        raise TypeError("nothing waits here")


def settings(main: OptionSet) -> dict[str, str]:
    """Return main options as strings, by name, for the variables and lists that read them.

    A template is given as its source: of those that are read here, none may
    refer to a message.
    """
    found: dict[str, str] = {}
    for name, declared in type(main).options().items():
        value = main.values.get(name, declared.default)
        if isinstance(value, Template):
            found[name] = value.source
        elif isinstance(value, bool):
            found[name] = "true" if value else "false"
        elif isinstance(value, str | int | float):
            found[name] = str(value)
    found["qualify_domain"] = found.get("qualify_domain") or found.get("primary_hostname", "")
    found["qualify_recipient"] = found.get("qualify_recipient") or found["qualify_domain"]
    for name, owner, own in (
        ("exim_uid", main.values.get("exim_user"), os.geteuid()),
        ("exim_gid", main.values.get("exim_group"), os.getegid()),
    ):
        number = getattr(owner, name[-3:], None)
        found[name] = str(own if number is None else number)
    found.setdefault("exim_path", _program())
    found["compile_number"] = "1"
    made = time.gmtime(os.stat(__file__).st_mtime)
    found["compile_date"] = time.strftime("%d-%b-%Y %H:%M:%S", made)
    with contextlib.suppress(FileNotFoundError):  # it was removed: nobody knows its name
        found["initial_cwd"] = os.getcwd()
    return found


def _program() -> str:
    """Return the path of the program ``mailsrv``: that of this Python, or what was called."""
    beside = os.path.join(sysconfig.get_path("scripts"), "mailsrv")
    return beside if os.path.exists(beside) else os.path.abspath(sys.argv[0])


def _room(configuration: Configuration) -> Callable[[str], tuple[int, int]]:
    """Return what tells how much the disks of spool and log have left."""

    @cache
    def folder(disk: str) -> str:
        if disk == "spool":
            return spool_directory(configuration)
        taken = log_settings(configuration)
        path, _ = destinations(taken.log_file_path, taken.spool_directory)
        return os.path.dirname(path or "/")

    def room(disk: str) -> tuple[int, int]:
        try:
            found = space(folder(disk))
        except (ConfigError, OSError):
            return -1, -1
        return found.kilobytes, found.inodes

    return room


def named_lists(configuration: Configuration) -> NamedLists:
    """Return the named lists of a configuration as the list engine takes them."""
    texts: dict[str, Mapping[str, Template]] = {
        kind: {name: each.template for name, each in lists.items()}
        for kind, lists in configuration.named_lists.items()
    }
    return NamedLists(
        domains=texts.get("domain", {}),
        hosts=texts.get("host", {}),
        addresses=texts.get("address", {}),
        local_parts=texts.get("localpart", {}),
    )


def set_environment(main: MainOptions) -> None:
    """Leave in the environment what keep_environment names, add add_environment and the time zone.

    :raises ConfigError: an item of add_environment is no ``name=value``.
    """
    kept = _kept(main.keep_environment or "")
    for name in list(os.environ):
        if not any(pattern(name) for pattern in kept) and name != "TZ":
            del os.environ[name]
    for item in split_list(main.add_environment or ""):
        name, equals, value = item.partition("=")
        if not name or not equals:
            where = main.places.get("add_environment")
            raise ConfigError(f"add_environment: {item!r} is not name=value", where)
        os.environ[name] = value
    if main.timezone is not None:
        os.environ.pop("TZ", None)
        if main.timezone:
            os.environ["TZ"] = main.timezone
    time.tzset()


def _kept(patterns: str) -> list[Callable[[str], object]]:
    """Return a test for each item: a regex, ``*`` and an ending, or a name."""
    found: list[Callable[[str], object]] = []
    for item in split_list(patterns):
        if item.startswith("^"):
            found.append(compile_regex(item).search)
        elif item.startswith("*"):
            found.append(re.compile(re.escape(item[1:]) + r"\Z").search)
        else:
            found.append(item.__eq__)
    return found


def at_start(template: Template | None, services: Services, name: str) -> str:
    """Expand an option that is used at start, when there is no message yet.

    :raises ConfigError: it cannot be expanded, or its expansion would have to wait.
    """
    if template is None:
        return ""
    try:
        return template.value(Scope(services))
    except (TemporaryFailure, TypeError) as error:
        raise ConfigError(f"{name} cannot be expanded at start: {error}", template.where) from error


def spool_directory(configuration: Configuration) -> str:
    """Return the spool directory of a configuration.

    :raises ConfigError: its expansion fails, or it is no absolute path.
    """
    services = make_services(configuration, WallClock(), lambda name: None)
    template = configuration.main.spool_directory
    path = at_start(template, services, "spool_directory")
    if not path.startswith("/"):
        raise ConfigError(f'spool_directory: "{path}" is not an absolute path', template.where)
    return path


def log_settings(configuration: Configuration) -> LogSettings:
    """Return what the logs want to know of a configuration.

    Files that root makes belong to the server's user.

    :raises ConfigError: a path cannot be expanded.
    """
    main = configuration.main
    services = make_services(configuration, WallClock(), lambda name: None)
    taken = {
        name: getattr(main, name)
        for name in LogSettings.__dataclass_fields__
        if getattr(main, name, None) is not None
    }
    for name in ("spool_directory", "log_file_path"):
        taken[name] = at_start(getattr(main, name), services, name)
    user, group = main.exim_user, main.exim_group
    if user is not None and user.uid is not None:
        gid = -1 if group is None or group.gid is None else group.gid
        taken["owner"] = (user.uid, gid)
    return LogSettings(**taken)


def faults(configuration: Configuration) -> list[ConfigError]:
    """Return what is refused although the file could be read, with the lines to blame.

    These are values whose meaning other folders know.
    """
    main = configuration.main
    services = make_services(configuration, WallClock(), registry(settings=configuration.main))
    checks: dict[str, Callable[[], object]] = {
        "dns_servers": lambda: name_servers(main.dns_servers.source) if main.dns_servers else (),
        "log_selector": lambda: selectors.parse(main.log_selector or ""),
        "syslog_facility": lambda: facility(main.syslog_facility or ""),
        "log_file_path": lambda: (
            "log_file_path" in main.places
            and destinations(at_start(main.log_file_path, services, "log_file_path"), "/")
        ),
        "keep_environment": lambda: _kept(main.keep_environment or ""),
        "spool_directory": lambda: _is_set(main.spool_directory, services, "spool_directory"),
    }
    found = _found(main, checks)
    if not 0 < main.workers <= WORKERS:
        problem = f"workers must be between 1 and {WORKERS}"
        found.append(ConfigError(problem, main.places.get("workers")))
    found += _names_used_twice(configuration.authenticators)
    return found + _routers_that_pass_nowhere(configuration)


def _is_set(template: Template, services: Services, name: str) -> None:
    if not at_start(template, services, name):
        raise ConfigError(f"{name} is empty", template.where)


def faults_at_start(configuration: Configuration) -> list[ConfigError]:
    """Return what a daemon's start refuses besides, and what is not there.

    Exim, too, finds these only then.
    """
    main = configuration.main
    checks: dict[str, Callable[[], object]] = {
        "daemon_smtp_ports": lambda: ports(main.daemon_smtp_ports or ""),
        "tls_on_connect_ports": lambda: ports(main.tls_on_connect_ports or ""),
        "local_interfaces": lambda: listen_on(main.local_interfaces, None, None),
        "lmtp_ports": lambda: (
            main.lmtp_ports and listen_on(main.local_interfaces, "25", None, main.lmtp_ports)
        ),
        "lmtp_sockets": lambda: local_sockets(main.lmtp_sockets),
        "extra_local_interfaces": lambda: local_test(main.extra_local_interfaces),
        "spool_directory": lambda: spool_directory(configuration),
        "python_startup": lambda: _readable(main.python_startup),
    }
    return _found(main, checks) + _other_users(configuration)


def _readable(python_startup: str | None) -> None:
    if python_startup:
        # Here, so that a check of most configurations stays quick.
        from mailsrv.service.functions import read

        read(python_startup)


def _found(main: MainOptions, checks: Mapping[str, Callable[[], object]]) -> list[ConfigError]:
    """Return the errors of checks by option."""
    found = []
    for name, check in checks.items():
        try:
            check()
        except (ConfigError, TemporaryFailure) as error:
            where, hint = main.places.get(name), ""
            problem = str(error)
            if isinstance(error, ConfigError):
                where, problem, hint = error.where or where, error.problem, error.hint
            found.append(ConfigError(problem, where, hint))
    return found


def _names_used_twice(authenticators: Sequence[Any]) -> Iterator[ConfigError]:
    """Yield a fault for each further authenticator of one public name and side (chapter 33)."""
    for side in ("server", "client"):
        first: dict[str, Any] = {}
        for each in authenticators:
            if not getattr(each, f"is_{side}")():
                continue
            name = each.mechanism
            if name in first:
                both = f"{first[name].name} and {each.name}"
                problem = f"two {side} authenticators ({both}) have the same public name ({name})"
                yield ConfigError(problem, each.where, whole=True)
            first.setdefault(name, each)


def _routers_that_pass_nowhere(configuration: Configuration) -> list[ConfigError]:
    names = ("pass_router", "redirect_router")
    if all(each.values.get(name) is None for each in configuration.routers for name in names):
        return []
    # Here, so that a check of most configurations stays quick.
    from mailsrv.routing.route import check
    from mailsrv.routing.router import Router

    return check([each for each in configuration.routers if isinstance(each, Router)])


def _other_users(configuration: Configuration) -> list[ConfigError]:
    """Deliveries as other system users, which only a server that root starts can do."""
    if configuration.main.deliver_drop_privilege or os.geteuid() == 0:
        return []
    from mailsrv.transport.users import problems

    return problems(configuration.routers, configuration.transports, os.geteuid())


def make_services(
    configuration: Configuration,
    clock: IClock,
    lookup: Callable[[str], Any],
    *,
    resolver: IResolver | None = None,
    acl: Callable[..., Awaitable[Any]] | None = None,
    **more: Any,
) -> Services:
    """Return the services for a configuration's strings."""
    return Services(
        clock=clock,
        settings=settings(configuration.main),
        lookup=lookup,
        resolver=resolver,
        lists=named_lists(configuration),
        acl=acl,
        pid=os.getpid(),
        room=_room(configuration),
        **more,
    )

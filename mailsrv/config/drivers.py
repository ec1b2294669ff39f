"""The sections of driver instances: routers, transports, authenticators (chapter 6.23)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mailsrv.config.known import driver_options
from mailsrv.config.lines import BLANKS, Line
from mailsrv.config.macros import LONGEST_NAME, Macros
from mailsrv.config.model import Configuration
from mailsrv.config.options import OptionSet
from mailsrv.config.registry import PACKAGES, driver_class
from mailsrv.config.settings import set_options, unquote
from mailsrv.errors import ConfigError, Position
from mailsrv.expansion.template import Template

_NAME: Final = re.compile(r"([A-Za-z]\w*)[ \t]*:[ \t]*(.*)", re.ASCII | re.DOTALL)
_MACRO: Final = re.compile(r"[A-Z]\w*[ \t]*=", re.ASCII)
_DRIVER: Final = re.compile(r"(?:hide[ \t]+)?driver[ \t]*=[ \t]*(.*)", re.ASCII | re.DOTALL)
_OPTION: Final = re.compile(r"(?:hide[ \t]+)?(?:not?_)?(\w+)", re.ASCII)
# Options of routers that name a transport.
TRANSPORT_OPTIONS: Final = (
    "transport",
    "file_transport",
    "pipe_transport",
    "directory_transport",
    "reply_transport",
)


class DriverSection:
    """Gathers the lines of each instance, then makes the instance from them."""

    def __init__(self, kind: str, macros: Macros, errors: list[ConfigError]) -> None:
        self.kind = kind
        self.instances: list[OptionSet] = []
        self._macros = macros
        self._errors = errors
        self._name = ""
        self._where = Position("", 0)
        self._lines: list[Line] = []
        self._names: dict[str, Position] = {}

    def take(self, line: Line) -> None:
        """Take the name of the next instance, a macro definition between two, or an option."""
        if _MACRO.match(line.text):
            self.finish()
            self._macros.define(line.text, line.where)
        elif found := _NAME.fullmatch(line.text):
            self.finish()
            name, rest = found.groups()
            self._name, self._where = name, line.where
            if rest.strip(BLANKS):
                raise ConfigError(f"extra characters follow driver name {name}", line.where)
            if len(name) > LONGEST_NAME:
                raise ConfigError(f"the name is longer than {LONGEST_NAME} characters", line.where)
            if name in self._names:
                raise ConfigError(
                    f'there are two {self.kind}s called "{name}"',
                    line.where,
                    f"the first is in {self._names[name]}",
                )
            self._names[name] = line.where
        elif self._name:
            self._lines.append(line)
        else:
            raise ConfigError(f"{self.kind} name missing", line.where, "a name and a colon")

    def finish(self) -> None:
        """Make the instance whose lines are gathered."""
        if self._name:
            try:
                self._make()
            except ConfigError as error:
                self._errors.append(error)
        self._name, self._lines = "", []

    def _make(self) -> None:
        named = [
            (found[1], line) for line in self._lines if (found := _DRIVER.fullmatch(line.text))
        ]
        if not named:
            raise ConfigError(f'no driver defined for {self.kind} "{self._name}"', self._where)
        if len(named) > 1:
            raise ConfigError('"driver" option set for the second time', named[1][1].where)
        text, line = named[0]
        driver = unquote(text, line.where)
        instance = driver_class(self.kind, driver, line.where)(self._name, self._where)
        instance.driver = driver
        known = driver_options(self.kind, driver)
        begun = False
        for line in self._lines:
            if _DRIVER.fullmatch(line.text):
                begun = True
                continue
            try:
                if not begun:
                    _need_no_driver(instance, line)
                set_options(instance, line, known)
            except ConfigError as error:
                self._errors.append(error)
        if instance.name not in (each.name for each in self.instances):
            self.instances.append(instance)


def _need_no_driver(instance: OptionSet, line: Line) -> None:
    """Refuse a private option that stands before ``driver``.

    :raises ConfigError: it is one.
    """
    found = _OPTION.match(line.text)
    declared = type(instance).options().get(found[1]) if found else None
    if declared is None or declared.ours or declared.name in driver_options(instance.kind, ""):
        return
    problem = f'"driver" must be specified before any private options such as {declared.name}'
    raise ConfigError(problem, line.where)


def check_instances(configuration: Configuration) -> list[ConfigError]:
    """Let each instance check its options, and look for transports and routers that are missing.

    A transport that is not defined is found by Exim when an address reaches the
    router: it is a late fault.
    """
    errors: list[ConfigError] = []
    for kind in PACKAGES:
        for instance in configuration.instances(kind):
            try:
                instance.check()
            except ConfigError as error:
                where = error.where or instance.where
                named = instance.name in error.problem
                problem = error.problem if named else f"{kind} {instance.name}: {error.problem}"
                errors.append(ConfigError(problem, where, error.hint, whole=error.whole))
            else:
                configuration.warnings += _without_effect(instance)
                late = list(instance.late())
                instance.unusable = late[0].problem if late else ""
                configuration.late += late
                configuration.warnings += (
                    f"{instance.where}: {kind} {instance.name}: {note}" for note in instance.notes()
                )
    for router in configuration.routers:
        for option in TRANSPORT_OPTIONS:
            value = router.values.get(option)
            name = value.constant if isinstance(value, Template) else value
            if isinstance(name, str) and name and name not in configuration.transports:
                problem = f'router {router.name}: transport "{name}" is not defined'
                configuration.late.append(ConfigError(problem, router.places[option]))
    return errors


def _without_effect(instance: OptionSet) -> Iterator[str]:
    """Yield a line for each option that is set and changes nothing."""
    declared = type(instance).options()
    for name, where in instance.places.items():
        if name in declared and declared[name].no_effect:
            yield f"{where}: {name} has no effect here: {declared[name].no_effect}"

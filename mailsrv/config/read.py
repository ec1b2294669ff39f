"""Reads a configuration file whole and tells all its faults in one run (chapters 6 and 14).

What each section means is known to others: drivers through
:mod:`mailsrv.config.registry`; ``acl``, ``retry`` and ``rewrite`` through the
function ``parse_section(lines) -> (object, errors)`` of their own modules.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Any, Final

from mailsrv.config.drivers import DriverSection, check_instances
from mailsrv.config.known import main_options
from mailsrv.config.lines import BLANKS, Files, Line, LineReader
from mailsrv.config.macros import Macros
from mailsrv.config.main import MainOptions
from mailsrv.config.model import LIST_KINDS, Configuration, NamedList
from mailsrv.config.packages import absent
from mailsrv.config.references import check_references
from mailsrv.config.settings import set_options, unquote
from mailsrv.config.types import unexpandable
from mailsrv.errors import ConfigError, ConfigErrors, Position
from mailsrv.expansion.template import compile_string

_BEGIN: Final = re.compile(r"begin (.*)", re.IGNORECASE | re.DOTALL)
_NAMED_LIST: Final = re.compile(
    r"(hide[ \t]+)?(domain|host|address|localpart)list(_cache)?[ \t]+(\w*)[ \t]*(=?)[ \t]*(.*)",
    re.ASCII | re.DOTALL,
)
_MACRO: Final = re.compile(r"[A-Z]\w*[ \t]*=", re.ASCII)
# Options of the main section whose values Exim looks at when it has read the section, in this
# order (seen with 4.96), and those that wait until all is read.
_AT_THE_END: Final = (
    *("spool_directory", "log_file_path", "syslog_facility", "pid_file_path", "uucp_from_pattern"),
    *("smtp_ratelimit_mail", "smtp_ratelimit_rcpt", "errors_reply_to", "localhost_number"),
    *("openssl_options", "keep_environment", "log_selector"),
)
_AT_LAST: Final = frozenset(("smtp_active_hostname",))
_DRIVERS: Final = {
    "routers": "router",
    "transports": "transport",
    "authenticators": "authenticator",
}
_PARSERS: Final = {
    "acls": "mailsrv.acl.parse",
    "retrys": "mailsrv.queue.rules",
    "rewrites": "mailsrv.expansion.rewrite",
}


def read(
    path: str,
    macros: Mapping[str, str] | None = None,
    files: Files | None = None,
    more: Callable[[Configuration], list[ConfigError]] | None = None,
) -> Configuration:
    """Read the configuration at ``path``; ``macros`` are those of the command line.

    ``files`` has the texts; by default they are the disk's.  ``more`` knows faults of
    values that others use; it is asked where the file is refused anyway, to tell all.

    :raises ConfigErrors: all faults, in the order in which Exim would find them.
    """
    octets = os.fsencode(os.path.abspath(path)).decode("latin-1")
    return _Reading(octets, Macros(macros), files).run(more)


def in_order(errors: list[ConfigError], configuration: Configuration) -> list[ConfigError]:
    """Return errors in the order in which Exim finds them.

    It reads from top to bottom, and looks at some values when it has read the main
    section, or all; errors without a line come last.  A fault in a line that is no
    logical line (a directive) stays near the line before it.
    """
    order: dict[Position, float] = {}
    ends: dict[Position, float] = {}  # of each line's section
    number = len(configuration.lines)
    end = float(number)
    for line in reversed(configuration.lines):
        number -= 1
        order[line.where], ends[line.where] = number, end
        if _BEGIN.fullmatch(line.text):
            end = number - 0.5
    for line in takewhile(lambda line: not _BEGIN.fullmatch(line.text), configuration.lines):
        name = re.sub(r"\A(?:hide[ \t]+)?(\w*).*", r"\1", line.text, flags=re.DOTALL)
        if name in _AT_THE_END:
            order[line.where] = ends[line.where] + _AT_THE_END.index(name) / 100
        elif name in _AT_LAST:
            order[line.where] = float("inf")

    def place(error: ConfigError) -> tuple[float, int]:
        where = error.where
        if where is None:
            return float("inf"), 1
        if where in order:
            return ends[where] if error.whole else order[where], 0
        before = [
            at for each, at in order.items() if each.file == where.file and each.line < where.line
        ]
        return max(before, default=-1), 1

    return sorted(errors, key=place)


class _Main:
    """The lines before the first ``begin``."""

    def __init__(self, configuration: Configuration, macros: Macros) -> None:
        self._configuration = configuration
        self._macros = macros

    def take(self, line: Line) -> None:
        """Take a macro definition, a named list or an option."""
        if "A" <= line.text[0] <= "Z":
            self._macros.define(line.text, line.where)
        elif found := _NAMED_LIST.fullmatch(line.text):
            self._named_list(found, line.where)
        else:
            main = self._configuration.main
            for name in set_options(main, line, main_options()):
                why = type(main).options()[name].no_effect
                if why:
                    self._configuration.warnings.append(
                        f"{line.where}: {name} has no effect here: {why}"
                    )

    def _named_list(self, found: re.Match[str], where: Position) -> None:
        hide, kind, cached, name, equals, rest = found.groups()
        if not name or not equals:
            raise ConfigError(f"missing '=' after \"{name}\"", where)
        lists = self._configuration.named_lists[kind]
        if name in lists:
            raise ConfigError(
                f'duplicate name "{name}" for a named {kind} list',
                where,
                f"first in {lists[name].where}",
            )
        try:
            text = unquote(rest.rstrip(BLANKS), where)
        except ConfigError as error:
            raise ConfigError(f"{error.problem} for {name}", where) from None
        template = compile_string(text, where)
        lists[name] = NamedList(name, template, where, bool(cached), bool(hide))

    def finish(self) -> None:
        """Nothing is left to do."""


class _Parsed:
    """A section with a syntax of its own: collects its lines for the parser."""

    def __init__(self, section: str, macros: Macros) -> None:
        self.lines: list[Line] = []
        self._macros = macros if section == "acls" else None
        self._needs_name = section == "acls"

    def take(self, line: Line) -> None:
        """Keep a line; between ACLs macros can be defined, which ends the ACL before."""
        if self._macros is not None and _MACRO.match(line.text):
            self._macros.define(line.text, line.where)
            self._needs_name = True
            return
        if self._needs_name and not re.match(r"[A-Za-z]\w*[ \t]*:", line.text, re.ASCII):
            raise ConfigError("missing or malformed ACL name", line.where, "a name and a colon")
        self._needs_name = False
        self.lines.append(line)

    def finish(self) -> None:
        """Parsing is done when all is read, with that of absent sections."""


class _Reading:
    """One reading of a file."""

    def __init__(self, path: str, macros: Macros, files: Files | None) -> None:
        self.errors: list[ConfigError] = []
        self.macros = macros
        self.reader = LineReader(path, macros, self.errors, files)
        self.configuration = Configuration(path, MainOptions(), {kind: {} for kind in LIST_KINDS})
        self.parsed = {section: _Parsed(section, macros) for section in _PARSERS}
        self.drivers: dict[str, DriverSection] = {}
        self.begun: dict[str, Position] = {}

    def run(self, more: Callable[[Configuration], list[ConfigError]] | None) -> Configuration:
        """Read all, then check what needs the whole file."""
        section: _Main | _Parsed | DriverSection | None = _Main(self.configuration, self.macros)
        for line in self.reader:
            self.configuration.lines.append(line)
            try:
                begin = _BEGIN.fullmatch(line.text)
                if begin is not None:
                    if section is not None:
                        section.finish()
                    section = None
                    section = self._begin(begin[1].strip(BLANKS), line.where)
                elif section is not None:
                    section.take(line)
            except ConfigError as error:
                self.errors.append(error)
        if section is not None:
            section.finish()
        self._conclude()
        if self.errors:
            self.errors += more(self.configuration) if more is not None else []
            raise ConfigErrors(in_order(self.errors, self.configuration))
        return self.configuration

    def _begin(self, name: str, where: Position) -> _Parsed | DriverSection | None:
        """Start a section; the names are singular or plural, in any case."""
        section = name.lower() if name.lower().endswith("s") else f"{name.lower()}s"
        if section == "local_scans":
            raise ConfigError('section "local_scan" is known to Exim, not to mailsrv', where)
        if section not in _PARSERS and section not in _DRIVERS:
            known = ", ".join(sorted([*_DRIVERS, "acl", "retry", "rewrite"]))
            raise ConfigError(f'"{name}" is not a known configuration section name', where, known)
        if section in self.begun:
            raise ConfigError(
                f'"{name}" section is repeated in the configuration file',
                where,
                f"first in {self.begun[section]}",
            )
        self.begun[section] = where
        if section in _PARSERS:
            return self.parsed[section]
        self.drivers[section] = DriverSection(_DRIVERS[section], self.macros, self.errors)
        return self.drivers[section]

    def _conclude(self) -> None:
        configuration = self.configuration
        for section, drivers in self.drivers.items():
            if section == "transports":
                configuration.transports = {each.name: each for each in drivers.instances}
            else:
                setattr(configuration, section, drivers.instances)
        configuration.main.complete()
        try:
            configuration.main.check()
        except ConfigError as error:
            self.errors.append(error)
        configuration.acls = self._parse("acls")
        configuration.retry = self._parse("retrys")
        configuration.rewrite = self._parse("rewrites")
        configuration.macros = dict(self.macros.values)
        self.errors += check_instances(configuration)
        configuration.late += check_references(configuration, self.parsed["acls"].lines)
        configuration.late += configuration.main.late()
        configuration.late += _bad_values(configuration)
        configuration.late += configuration.acls.late()
        configuration.warnings += configuration.acls.notes()
        configuration.warnings += absent(configuration.lines)

    def _parse(self, section: str) -> Any:
        result, errors = importlib.import_module(_PARSERS[section]).parse_section(
            tuple(self.parsed[section].lines)
        )
        self.errors += errors
        return result


def _bad_values(configuration: Configuration) -> list[ConfigError]:
    """Return strings that cannot be expanded, and constants that are no such value.

    As in Exim, they fail when they are reached.
    """
    found = []
    sets = [configuration.main]
    for kind in _DRIVERS.values():
        sets += configuration.instances(kind)  # type: ignore[arg-type]
    for options in sets:
        declared = type(options).options()
        for name, value in options.values.items():
            fault = declared[name].type.late(value) if name in declared else None
            if fault is not None:
                where = fault.where or options.places.get(name)
                found.append(ConfigError(f"{name}: {fault.problem}", where, fault.hint))
    for kind, lists in configuration.named_lists.items():
        for each in lists.values():
            fault = unexpandable(each.template)
            if fault is not None:
                found.append(ConfigError(f"{kind}list {each.name}: {fault.problem}", fault.where))
    return found

"""In which phases the ACLs of a configuration run: by main options, and as parts of others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mailsrv.acl.item import Item
from mailsrv.acl.model import Acl
from mailsrv.acl.modifiers import Modifier
from mailsrv.acl.parse import parse_text
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError, Position
from mailsrv.expansion.template import Template
from mailsrv.interfaces import AclPhase

_CALL = re.compile(r"\bacl[ \t]*\{")
_WORD = re.compile(r"[A-Za-z0-9_-]+")


def find_acl(configuration: Configuration, template: Template) -> Acl | None:
    """Return the ACL that a constant string means, by name or as inline text; None: unknown.

    :raises ConfigError: it is neither.
    """
    return find_text(configuration, template.constant or "", template.where)


def find_text(configuration: Configuration, text: str, where: Position | None) -> Acl | None:
    """The same for a string that is expanded already; it may be the path of a file, too."""
    text = text.strip(" \t\n")
    acls: dict[str, Acl] = configuration.acls.acls
    if not text:
        return None
    if text.startswith("/"):
        return parse_text(_file(text, where), "", Position(text, 1))
    name = text.split()[0]
    if text in acls or name in acls:
        return acls.get(text) or acls[name]
    return parse_text(text, "", where)


def _file(path: str, where: Position | None) -> str:
    try:
        return Path(path).read_text("latin-1")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", where) from error


def is_always_met(item: Item) -> bool:
    """Tell whether an item is no condition: it takes effect, and the next one follows."""
    return isinstance(item, Modifier)


def phases(configuration: Configuration) -> dict[str, set[AclPhase]]:
    """Return the phases of each named ACL."""
    found: dict[str, set[AclPhase]] = {name: set() for name in configuration.acls.acls}
    for phase, acl in roots(configuration):
        _spread(configuration, acl, phase, found)
    return found


def roots(configuration: Configuration) -> Iterator[tuple[AclPhase, Acl]]:
    """Yield the ACLs that main options name, with their phases."""
    for phase in AclPhase:
        option = getattr(configuration.main, phase.option, None)
        if isinstance(option, Template):
            for acl in _meant(configuration, option):
                yield phase, acl


def _meant(configuration: Configuration, template: Template) -> list[Acl]:
    """Return the ACL that a string means; of one that is expanded, all whose names are in it."""
    acls: dict[str, Acl] = configuration.acls.acls
    if template.constant is None:
        return [
            acls[name] for name in dict.fromkeys(_WORD.findall(template.source)) if name in acls
        ]
    try:
        acl = find_acl(configuration, template)
    except ConfigError:
        return []
    return [] if acl is None else [acl]


def _spread(
    configuration: Configuration, acl: Acl, phase: AclPhase, found: dict[str, set[AclPhase]]
) -> None:
    if acl.name:
        if phase in found.get(acl.name, ()):
            return
        found.setdefault(acl.name, set()).add(phase)
    for statement in acl.statements:
        for clause in statement.clauses:
            calls = clause.item.name == "acl" or _CALL.search(clause.item.argument.source)
            for inner in _meant(configuration, clause.item.argument) if calls else ():
                _spread(configuration, inner, phase, found)

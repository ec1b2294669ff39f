"""In which phases the ACLs of a configuration run: by main options, and as parts of others."""

from __future__ import annotations

from collections.abc import Iterator

from mailsrv.acl.model import Acl
from mailsrv.acl.parse import parse_text
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError
from mailsrv.expansion.template import Template
from mailsrv.interfaces import AclPhase

_PUNCTUATION = frozenset(" =\n\t")


def find_acl(configuration: Configuration, template: Template) -> Acl | None:
    """Return the ACL that a constant string means, by name or as inline text; None: unknown.

    :raises ConfigError: it is neither.
    """
    text = (template.constant or "").strip(" \t\n")
    acls: dict[str, Acl] = configuration.acls.acls
    if not text or text.startswith("/"):
        return None
    name = text.split()[0]
    if text in acls or name in acls:
        return acls.get(text) or acls[name]
    return parse_text(text, "", template.where)


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
            try:
                acl = find_acl(configuration, option)
            except ConfigError:
                continue
            if acl is not None:
                yield phase, acl


def _spread(
    configuration: Configuration, acl: Acl, phase: AclPhase, found: dict[str, set[AclPhase]]
) -> None:
    if acl.name:
        if phase in found.get(acl.name, ()):
            return
        found.setdefault(acl.name, set()).add(phase)
    for statement in acl.statements:
        for clause in statement.clauses:
            if clause.item.name == "acl":
                try:
                    inner = find_acl(configuration, clause.item.argument)
                except ConfigError:
                    continue
                if inner is not None:
                    _spread(configuration, inner, phase, found)

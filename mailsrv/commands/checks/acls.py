"""ACLs that are not there, and conditions in phases that cannot have them."""

from __future__ import annotations

from collections.abc import Iterator

from mailsrv.acl.conditions import ratelimit
from mailsrv.acl.conditions.ratelimit import Ratelimit
from mailsrv.acl.conditions.verify import Verify
from mailsrv.acl.controls import Control
from mailsrv.acl.item import Item
from mailsrv.acl.model import PHASE_NAMES, Acl
from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.checks.usage import find_acl, phases, roots
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError
from mailsrv.expansion.template import Template
from mailsrv.interfaces import AclPhase


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield undefined ACLs, and items that end their ACL with an error."""
    for phase in AclPhase:
        option = getattr(configuration.main, phase.option, None)
        if isinstance(option, Template):
            yield from _undefined(configuration, option, phase.option)
    for item in configuration.acls.items():
        if item.name == "acl":
            yield from _undefined(configuration, item.argument, "acl")
    where_used = phases(configuration)
    acls: list[tuple[Acl, set[AclPhase]]] = [
        (acl, where_used[name]) for name, acl in configuration.acls.acls.items()
    ]
    acls += [(acl, {phase}) for phase, acl in roots(configuration) if not acl.name]
    for acl, used in acls:
        for statement in acl.statements:
            for clause in statement.clauses:
                wrong = [PHASE_NAMES[phase] for phase in used if phase not in _phases(clause.item)]
                if wrong:
                    what = f"{clause.item.name} = {clause.item.argument.source}".rstrip(" =")
                    yield Finding(
                        clause.item.where or statement.where,
                        f'"{what}" cannot be used in the {" or ".join(sorted(wrong))} ACL, '
                        "and ends it with a temporary error",
                        "move it to an ACL that can have it (specification 44)",
                    )
                if isinstance(clause.item, Ratelimit):
                    yield from _rates(clause.item, used)


def _phases(item: Item) -> frozenset[AclPhase]:
    return item.allowed() if isinstance(item, Verify | Control) else item.phases


def _rates(item: Ratelimit, used: set[AclPhase]) -> Iterator[Finding]:
    """What a phase cannot count."""
    try:
        request = ratelimit.parse_request(item.argument.constant or "")
    except ValueError:
        return  # told of by another check
    for phase in sorted(used, key=PHASE_NAMES.__getitem__):
        try:
            ratelimit.kind_and_mode(request, phase)
        except ValueError as error:
            mend = "specification 44.41 says which ACLs can; readonly asks for what others counted"
            yield Finding(item.where, f"ratelimit: {error}", mend)
            return


def _undefined(configuration: Configuration, template: Template, option: str) -> Iterator[Finding]:
    if template.constant is None:
        return
    try:
        find_acl(configuration, template)
    except ConfigError as error:
        text = template.constant.strip()
        problem = f'{option}: there is no ACL called "{text}"'
        if " " in text or "=" in text or text.startswith("/"):
            problem = f"{option}: {error.problem}"
        yield Finding(template.where, problem, 'define it below "begin acl"')

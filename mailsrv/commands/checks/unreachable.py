"""Routers and ACL statements that nothing can reach."""

from __future__ import annotations

from collections.abc import Iterator

from mailsrv.acl.model import Verb
from mailsrv.commands.checks.finding import Finding
from mailsrv.config.model import Configuration
from mailsrv.config.options import OptionSet

_ENDS = (Verb.ACCEPT, Verb.DENY, Verb.DEFER, Verb.DISCARD, Verb.DROP)
# Modifiers that are always met: a statement of these alone always decides.
_NO_CONDITION = frozenset(
    (
        *("add_header", "continue", "control", "delay", "endpass", "log_message", "logwrite"),
        *("log_reject_target", "message", "remove_header", "set", "udpsend"),
    )
)
# Preconditions of routers (specification 3.12).
_PRECONDITIONS = (
    *("address_test", "check_local_user", "condition", "domains", "local_part_prefix"),
    *("local_part_suffix", "local_parts", "require_files", "senders", "verify_only"),
    *("verify_recipient", "verify_sender", "expn"),
)


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield what follows something that always decides."""
    yield from _routers(configuration)
    for acl in configuration.acls.acls.values():
        for index, statement in enumerate(acl.statements[:-1]):
            decides = statement.verb in _ENDS and all(
                clause.item.name in _NO_CONDITION for clause in statement.clauses
            )
            if decides:
                after = acl.statements[index + 1]
                yield Finding(
                    after.where,
                    f"this statement is never reached: {statement.verb.value} at "
                    f"{statement.where} has no condition",
                    "move it up, or give the other one a condition",
                )
                break


def _routers(configuration: Configuration) -> Iterator[Finding]:
    """An accept router without preconditions takes every address."""
    routers = configuration.routers
    passed_to = {getattr(each, "pass_router", None) for each in routers}
    passed_to |= {each.values.get("redirect_router") for each in routers}
    for index, router in enumerate(routers[:-1]):
        if router.driver != "accept" or _conditional(router):
            continue
        if router.values.get("unseen", False) is not False:
            continue
        for after in routers[index + 1 :]:
            if after.name not in passed_to:
                yield Finding(
                    after.where,
                    f"router {after.name} is never reached: {router.name} "
                    f"({router.where}) accepts every address",
                    f"give {router.name} a condition, such as domains, or move it to the end",
                )
        return


def _conditional(router: OptionSet) -> bool:
    return any(
        router.values.get(name) not in (None, True)
        or (name in ("check_local_user", "verify_only") and router.values.get(name))
        for name in _PRECONDITIONS
    )

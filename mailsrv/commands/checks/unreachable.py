"""Routers and ACL statements that nothing can reach."""

from __future__ import annotations

from collections.abc import Iterator

from mailsrv.acl.model import Acl, Clause, Statement, Verb
from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.checks.outside import Outside, Told
from mailsrv.commands.checks.usage import is_always_met
from mailsrv.commands.checks.variables import used
from mailsrv.config.model import Configuration
from mailsrv.config.options import OptionSet
from mailsrv.expansion.separated import split_list
from mailsrv.expansion.template import Template

_ENDS = (Verb.ACCEPT, Verb.DENY, Verb.DEFER, Verb.DISCARD, Verb.DROP)
# Conditions that come to the same each time in an ACL, if their strings do.
_STEADY = frozenset(
    ("authenticated", "condition", "domains", "encrypted", "hosts", "local_parts", "recipients",
     "sender_domains", "senders")
)  # fmt: skip
_STEADY_VARIABLES = ("authenticated_id", "domain", "interface_", "local_part", "sender_host_",
                     "sender_address", "sender_helo_name", "tls_in_")  # fmt: skip
_LISTS = _STEADY - {"authenticated", "condition", "encrypted"}
# Preconditions of routers (specification 3.12).
_PRECONDITIONS = (
    *("address_test", "check_local_user", "condition", "domains", "local_part_prefix"),
    *("local_part_suffix", "local_parts", "require_files", "senders", "verify_only"),
    *("verify_recipient", "verify_sender", "expn"),
)
_PASSES = ("pass", "decline")
_Conditions = frozenset[tuple[str, bool, str]]


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield what follows something that always decides."""
    yield from _routers(configuration)
    outside = Outside(configuration)
    for acl in configuration.acls.acls.values():
        yield from _statements(acl, outside)


# --- statements ------------------------------------------------------------------------


def _statements(acl: Acl, outside: Outside) -> Iterator[Finding]:
    """A statement that decides leaves to later ones what does not meet its conditions."""
    decided: list[tuple[Statement, _Conditions]] = []
    for statement in acl.statements:
        conditions = _conditions(statement, outside)
        for earlier, its in decided:
            if not its:
                yield _finding(
                    statement, f"this statement is never reached: {_called(earlier)} always decides"
                )
                return
            if its <= conditions and statement.verb is not Verb.REQUIRE:
                yield _finding(
                    statement,
                    f"this statement is never met: {_called(earlier)} decides before",
                )
                break
        if statement.verb is Verb.REQUIRE and _never(statement, outside):
            decided.append((statement, frozenset()))
        elif statement.verb in _ENDS and _decides(statement, outside):
            decided.append((statement, conditions))


def _called(statement: Statement) -> str:
    return f"{statement.verb.value} at {statement.where}"


def _finding(statement: Statement, problem: str) -> Finding:
    mend = "move it up, or give the other one a condition"
    return Finding(statement.where, problem, mend)


def _before_endpass(statement: Statement) -> Iterator[Clause]:
    """The conditions; after ``endpass`` one that fails decides, too."""
    for clause in statement.clauses:
        if clause.item.name == "endpass":
            return
        if not is_always_met(clause.item):
            yield clause


def _conditions(statement: Statement, outside: Outside) -> _Conditions:
    return frozenset(
        (clause.item.name, clause.negated, clause.item.argument.source.strip())
        for clause in _before_endpass(statement)
        if _truth(clause, outside) is not True
    )


def _decides(statement: Statement, outside: Outside) -> bool:
    """Tell whether what meets its conditions now would have met them at any other time."""
    clauses = list(_before_endpass(statement))
    return all(
        _truth(clause, outside) is True or (_truth(clause, outside) is None and _is_steady(clause))
        for clause in clauses
    )


def _never(statement: Statement, outside: Outside) -> bool:
    return any(_truth(clause, outside) is False for clause in _before_endpass(statement))


def _is_steady(clause: Clause) -> bool:
    return clause.item.name in _STEADY and all(
        name.startswith(_STEADY_VARIABLES) and not name.endswith("_data")
        for name in used(clause.item.argument.source)
    )


def _truth(clause: Clause, outside: Outside) -> bool | None:
    """Tell whether a condition is a constant."""
    item, told = clause.item, None
    source = item.argument.source.strip()
    if item.name in _LISTS and source == "*":
        told = True
    elif item.name == "condition" and not used(source) and "{lookup" not in source:
        constant = {Told.TRUE: True, Told.FALSE: False}
        told = constant.get(outside.condition(item.argument)) if _is_pure(source) else None
    return None if told is None else told is not clause.negated


def _is_pure(source: str) -> bool:
    """Tell whether a string without variables comes to the same always."""
    return not any(word in source for word in ("{run", "{read", "{python", "{acl", "{exists",
                                               "{stat", "{env", "rand", "{queue_"))  # fmt: skip


# --- routers ---------------------------------------------------------------------------


def _routers(configuration: Configuration) -> Iterator[Finding]:
    """A router that takes every address with its preconditions leaves none to later ones."""
    routers = configuration.routers
    named = {getattr(each, "pass_router", None) for each in routers}
    named |= {each.values.get("redirect_router") for each in routers}
    found: set[str] = set()
    for index, router in enumerate(routers):
        if not _takes_all(router):
            continue
        its = _preconditions(router)
        for after in routers[index + 1 :]:
            if after.name in named:
                break  # it, and what follows, is reached by another way
            if after.name in found or not its <= _preconditions(after):
                continue
            found.add(after.name)
            whose = "every address" if not its else "every address with these preconditions"
            yield Finding(
                after.where,
                f"router {after.name} is never reached: {router.name} ({router.where}) takes "
                f"{whose}",
                f"give {router.name} a condition, such as domains, or move it to the end",
            )


def _preconditions(router: OptionSet) -> frozenset[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for name in _PRECONDITIONS:
        value = router.values.get(name)
        if value is None or value == type(router).options()[name].default:
            continue
        if name.startswith("local_part_") and router.values.get(f"{name}_optional"):
            continue
        source = value.source.strip() if isinstance(value, Template) else str(value)
        always = "*" if name != "condition" else "true"
        if source.lower() == always or (name == "condition" and source.lower() in ("yes", "1")):
            continue
        found.add((name, source))
    return frozenset(found)


def _takes_all(router: OptionSet) -> bool:
    """Tell whether a router decides for each address that meets its preconditions."""
    values = router.values
    if values.get("unseen", False) is not False or values.get("pass_on_timeout"):
        return False
    data = values.get("address_data")
    if isinstance(data, Template) and "fail" in data.source:
        return False  # it can decline so
    if router.driver == "accept":
        return True
    if router.driver == "redirect":
        text = getattr(values.get("data"), "constant", None) or ""
        return text.strip().lower().startswith((":fail:", ":defer:", ":blackhole:"))
    if values.get("self", values.get("self_")) == "pass":
        return False
    if router.driver == "dnslookup":
        return values.get("more") is False
    return router.driver == "manualroute" and _routes_all(router)


def _routes_all(router: OptionSet) -> bool:
    values = router.values
    rules = values.get("route_list")
    if rules is None or values.get("host_find_failed") in _PASSES:
        return False
    if values.get("host_all_ignored") in _PASSES:
        return False
    source = rules.source if isinstance(rules, Template) else str(rules)
    first = next((rule.split() for rule in split_list(source, ";") if rule.split()), [""])
    return first[0] == "*" and "$" not in source

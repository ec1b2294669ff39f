"""Routers and ACL statements that nothing can reach."""

from __future__ import annotations

from collections.abc import Iterator

from mailsrv.acl.model import Acl, Clause, Statement, Verb
from mailsrv.commands.checks.covers import complement, covers, is_everything
from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.checks.outside import Outside, Told
from mailsrv.commands.checks.usage import is_always_met
from mailsrv.commands.checks.variables import used
from mailsrv.config.model import Configuration
from mailsrv.config.options import OptionSet
from mailsrv.config.references import LIST_CONDITIONS
from mailsrv.expansion.conditions import boolean_lax
from mailsrv.expansion.separated import split_list
from mailsrv.expansion.template import Template, compile_string

_ENDS = (Verb.ACCEPT, Verb.DENY, Verb.DEFER, Verb.DISCARD, Verb.DROP)
# Conditions that come to the same each time in an ACL, if their strings do.
_STEADY = frozenset(
    ("authenticated", "condition", "domains", "encrypted", "hosts", "local_parts", "recipients",
     "sender_domains", "senders")
)  # fmt: skip
_STEADY_VARIABLES = ("authenticated_id", "domain", "interface_", "local_part", "sender_host_",
                     "sender_address", "sender_helo_name", "tls_in_")  # fmt: skip
# Preconditions of routers (specification 3.12).
_PRECONDITIONS = (
    *("address_test", "check_local_user", "condition", "domains", "local_part_prefix"),
    *("local_part_suffix", "local_parts", "require_files", "senders", "verify_only"),
    *("verify_recipient", "verify_sender", "expn"),
)
_LISTS = {"domains": "domain", "local_parts": "localpart", "senders": "address"}
_Needs = dict[str, str]
_PASSES = ("pass", "decline")
_Condition = tuple[str, bool, str]
_Conditions = frozenset[_Condition]


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield what follows something that always decides."""
    yield from _routers(configuration)
    yield from _retry(configuration)
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
            if statement.verb is not Verb.REQUIRE and all(
                any(_implies(outside.configuration, own, each) for own in conditions)
                for each in its
            ):
                yield _finding(
                    statement,
                    f"this statement is never met: {_called(earlier)} decides before",
                )
                break
        if statement.verb is Verb.REQUIRE and _never(statement, outside):
            decided.append((statement, frozenset()))
        elif statement.verb in _ENDS and _decides(statement, outside):
            decided.append((statement, conditions))


def _implies(configuration: Configuration, own: _Condition, each: _Condition) -> bool:
    """Tell whether what meets the first condition meets the second one."""
    if own[:2] != each[:2] or own[0] not in LIST_CONDITIONS:
        return own == each
    kind, (wide, narrow) = LIST_CONDITIONS[own[0]], (each[2], own[2])
    if own[1]:  # negated
        wide, narrow = narrow, wide
    return covers(configuration, kind, wide, narrow)


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
    kind = LIST_CONDITIONS.get(item.name)
    if kind is not None and is_everything(kind, source):
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
    takers: list[OptionSet] = []
    for index, router in enumerate(routers):
        if not _takes_all(router):
            continue
        its = _preconditions(configuration, router)
        rest = any(_leaves_none(configuration, each, router) for each in takers)
        takers.append(router)
        for after in routers[index + 1 :]:
            if after.name in named:
                break  # it, and what follows, is reached by another way
            later = _preconditions(configuration, after)
            if after.name in found or not (rest or _is_within(configuration, later, its)):
                continue
            found.add(after.name)
            whose = "every address" if rest or not its else "every address with these preconditions"
            if rest:
                whose += " that those before it leave"
            yield Finding(
                after.where,
                f"router {after.name} is never reached: {router.name} ({router.where}) takes "
                f"{whose}",
                f"give {router.name} a condition, such as domains, or move it to the end",
            )


def _is_within(configuration: Configuration, later: _Needs, its: _Needs) -> bool:
    """Tell whether all that meets the preconditions of one router meets those of another."""
    return all(
        name in later
        and (
            source == later[name]
            or (name in _LISTS and covers(configuration, _LISTS[name], source, later[name]))
        )
        for name, source in its.items()
    )


def _leaves_none(configuration: Configuration, one: OptionSet, other: OptionSet) -> bool:
    """Tell whether two routers take all domains between them."""
    first, second = _preconditions(configuration, one), _preconditions(configuration, other)
    if set(first) != {"domains"} or set(second) != {"domains"}:
        return False
    return complement(configuration, "domain", first["domains"], second["domains"])


def _preconditions(configuration: Configuration, router: OptionSet) -> _Needs:
    """Return the options by which a router leaves addresses to others, and their texts."""
    found: _Needs = {}
    for name in _PRECONDITIONS:
        value = router.values.get(name)
        if value is None or value == type(router).options()[name].default:
            continue
        if name.startswith("local_part_") and router.values.get(f"{name}_optional"):
            continue
        source = value.source.strip() if isinstance(value, Template) else str(value)
        if name in _LISTS and is_everything(_LISTS[name], source):
            continue
        if name == "condition" and _is_always(configuration, source):
            continue
        found[name] = source
    return found


def _is_always(configuration: Configuration, source: str) -> bool:
    if used(source) or "{lookup" in source or not _is_pure(source):
        return False
    text = Outside(configuration).said(compile_string(source))
    return text is not None and boolean_lax(text)


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


# --- retry rules -----------------------------------------------------------------------


def _retry(configuration: Configuration) -> Iterator[Finding]:
    """The first rule that fits is used."""
    rules = getattr(configuration.retry, "rules", ())
    for index, rule in enumerate(rules):
        for earlier in rules[:index]:
            if (
                earlier.pattern in ("*", rule.pattern)
                and earlier.error in ("*", rule.error)
                and earlier.senders in (None, rule.senders)
            ):
                problem = f"this retry rule is never reached: the one at {earlier.where} fits all"
                yield Finding(rule.where, problem, "move it up")
                break

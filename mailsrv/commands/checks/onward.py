"""Whether a router sends an address of a foreign domain to another host."""

from __future__ import annotations

from mailsrv.commands.checks.outside import Outside, Told
from mailsrv.config.options import OptionSet
from mailsrv.expansion.conditions import boolean_lax
from mailsrv.expansion.separated import split_list
from mailsrv.expansion.template import Template, compile_string

_REFUSALS = (":fail:", ":defer:", ":blackhole:")
_PRECONDITIONS = ("check_local_user", "local_part_prefix", "local_part_suffix", "local_parts",
                  "require_files", "senders")  # fmt: skip


def sends_on(outside: Outside) -> bool:
    """Tell whether the routers do; the first that certainly takes the address ends the search."""
    for router in outside.configuration.routers:
        if getattr(router, "verify_only", False) or not _applies(outside, router):
            continue
        if _sends(outside, router):
            return True
        if _keeps(outside, router):
            return False
    return False


def _applies(outside: Outside, router: OptionSet) -> bool:
    domains = getattr(router, "domains", None)
    if domains is not None and outside.domains(domains) is Told.FALSE:
        return False
    condition = getattr(router, "condition", None)
    if not isinstance(condition, Template):
        return True
    text = outside.said(condition, forced="")
    return text is None or boolean_lax(text)


def _sends(outside: Outside, router: OptionSet) -> bool:
    if router.driver == "accept":
        name = getattr(router.values.get("transport"), "constant", None)
        transport = outside.configuration.transports.get(name) if name else None
        return transport is not None and transport.driver == "smtp"
    if router.driver == "redirect":
        return False
    if router.driver == "manualroute":
        rules, data = router.values.get("route_list"), router.values.get("route_data")
        if rules is not None:
            return _rules_take(outside, rules)
        return not isinstance(data, Template) or outside.said(data, forced="") != ""
    return True


def _keeps(outside: Outside, router: OptionSet) -> bool:
    """Tell whether every such address ends here."""
    if any(router.values.get(name) for name in _PRECONDITIONS) or router.values.get("unseen"):
        return False
    if router.driver == "accept":
        return True
    data = router.values.get("data")
    if router.driver != "redirect" or not isinstance(data, Template):
        return False
    return (outside.said(data) or "").strip().lower().startswith(_REFUSALS)


def _rules_take(outside: Outside, rules: object) -> bool:
    source = rules.source if isinstance(rules, Template) else str(rules)
    patterns = [rule.split()[0] for rule in split_list(source, ";") if rule.split()]
    return any(outside.domains(compile_string(pattern)) is not Told.FALSE for pattern in patterns)

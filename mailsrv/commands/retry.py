"""``mailsrv -brt``: print the retry rule for an address and an error (specification 5.2, 32)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal

from mailsrv.commands.invocation import Invocation
from mailsrv.commands.terminal import say
from mailsrv.config.model import Configuration
from mailsrv.config.types import parse_time, show_time
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.lists import match_address
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import compile_string
from mailsrv.expansion.tree import drive
from mailsrv.lookup import registry
from mailsrv.queue.rules import Parameters, Rule, error_name
from mailsrv.service.environment import WallClock, make_services, set_environment

_NO_AT = """\
Warning: "{}" contains no '@' and no '.' characters. It is being \

treated as a one-component domain, not as a local part.
"""
_NAMED = ("quota", "refused", "timeout", "auth_failed")  # Exim prints all others as *


def run(invocation: Invocation, configuration: Configuration) -> int:
    """Print the rule; returns 1 if the arguments are not understood or a pattern fails."""
    words = list(invocation.arguments)
    if not words:
        say("-brt needs a domain or address argument")
        return 1
    subjects = [words.pop(0)]
    if "@" not in subjects[0] and "." not in subjects[0]:
        say(_NO_AT.format(subjects[0]))
    if words and "." in words[0]:
        subjects.append(words.pop(0))
    try:
        error = _asked(words[0]) if words else "*"
    except ValueError as fault:
        say(str(fault))
        return 1
    rules = configuration.retry.matching(_matcher(configuration))
    try:
        rule = drive(rules.find(subjects, error, invocation.sender))
    except TemporaryFailure as failure:
        say(f"mailsrv: {failure.reason}", error=True)
        return 1
    say("No retry information found" if rule is None else f"Retry rule: {_shown(rule)}")
    return 0


def _asked(text: str) -> str:
    """Return an error as a failure would name it: quota with the seconds that nobody read."""
    error = error_name(text)
    return f"quota_{parse_time(error[6:])}" if error.startswith("quota_") else error


def _matcher(configuration: Configuration) -> Callable[[str, str], Awaitable[bool]]:
    set_environment(configuration.main)
    scope = Scope(make_services(configuration, WallClock(), registry(settings=configuration.main)))

    async def matches(pattern: str, address: str) -> bool:
        return await match_address(compile_string(pattern), address, scope) is not None

    return matches


def _shown(rule: Rule) -> str:
    error = rule.error if rule.error.startswith(_NAMED) else "*"
    return f"{rule.pattern}  {error}  " + "".join(map(_parameters, rule.parameters))


def _parameters(each: Parameters) -> str:
    """Return a set as Exim shows it: H without its factor."""
    text = f"{each.letter},{show_time(int(each.cutoff))},{show_time(int(each.interval))}"
    if each.letter == "G":
        text += f",{Decimal(str(each.factor))}"
    return text + "; "

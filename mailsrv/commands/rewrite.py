"""``mailsrv -brw ADDRESS``: what the rewriting rules make of an address (31.3)."""

from __future__ import annotations

from mailsrv.commands.invocation import Invocation
from mailsrv.commands.quietlog import QuietLog
from mailsrv.commands.terminal import say
from mailsrv.config.model import Configuration
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.mailboxes import Malformed, read_one, replaced
from mailsrv.expansion.rewrite import RECIPIENT, SENDER, Rewriter
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.tree import drive
from mailsrv.lookup import registry
from mailsrv.service.environment import WallClock, make_services, set_environment

_ROWS = (
    ("sender", "s"),
    ("from", "f"),
    ("to", "t"),
    ("cc", "c"),
    ("bcc", "b"),
    ("reply-to", "r"),
    ("env-from", SENDER),
    ("env-to", RECIPIENT),
)


def run(invocation: Invocation, configuration: Configuration | None) -> int:
    """Print a line for each place where the address could stand."""
    assert configuration is not None, "the table says that a configuration is needed"
    if len(invocation.arguments) != 1:
        say("mailsrv: -brw needs one address", error=True)
        return 1
    set_environment(configuration.main)
    services = make_services(configuration, WallClock(), registry(), log=QuietLog())
    try:
        _print(invocation.arguments[0], Rewriter(configuration.rewrite), Scope(services))
    except TemporaryFailure as error:
        say(f"mailsrv: {error.reason}", error=True)
        return 1
    return 0


def _print(text: str, rewriter: Rewriter, scope: Scope) -> None:
    """Print what an address becomes, as given at SMTP time and as read from there on."""
    at_smtp = drive(rewriter.smtp(text, "sender", scope))
    changed = at_smtp != text
    if changed:
        say(f"    SMTP: {at_smtp[1:-1]}")
    if "@" not in text:
        text = f"{text}@{scope.services.settings['qualify_recipient']}"
    try:
        here = read_one(text)
    except Malformed as problem:
        if not changed:
            why = str(problem)
            say(f"Syntax error in {text}\n{why[:1].upper()}{why[1:]}")
        return
    for label, place in _ROWS:
        if place in (SENDER, RECIPIENT):
            new = drive(rewriter.address(here.address, place, scope))
        else:
            plain = replaced(text, [(here.first, here.last, here.address)])
            new = drive(rewriter.field(plain, place, scope))
        say(f"{label:>8}: {new}")

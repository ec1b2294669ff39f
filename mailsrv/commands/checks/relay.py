"""An open relay: strangers go through the ACLs with a message to strangers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.checks.onward import sends_on
from mailsrv.commands.checks.outside import Outside, State
from mailsrv.commands.checks.strangers import STRANGERS, Stranger, strangers
from mailsrv.commands.checks.usage import find_text
from mailsrv.commands.checks.walk import Walk
from mailsrv.config.model import Configuration
from mailsrv.errors import ConfigError, Position
from mailsrv.expansion.errors import ForcedFailure
from mailsrv.expansion.template import Template
from mailsrv.interfaces import AclPhase
from mailsrv.net.listen import listen_on

# The ACLs that such a message meets; all must let it pass.
_ON_THE_WAY = (
    *(AclPhase.CONNECT, AclPhase.HELO, AclPhase.MAIL, AclPhase.RCPT, AclPhase.PREDATA),
    AclPhase.DATA,
)


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield the statement that accepts mail from anywhere to anywhere."""
    if configuration.main.acl_smtp_rcpt is None or _loopback_alone(configuration):
        return  # it denies
    for stranger in strangers(configuration):
        if not sends_on(Outside(configuration, stranger)):
            continue  # what no router sends on is no relay
        way = _way(configuration, stranger)
        if way is not None:
            yield _finding(configuration, stranger, way)
            return


def _way(configuration: Configuration, stranger: Stranger) -> list[Position] | None:
    """Return the lines of the RCPT ACL that let a stranger's message pass; None if none do."""
    states = [State()]
    steps: list[Position] = []
    for phase in _ON_THE_WAY:
        option = getattr(configuration.main, phase.option, None)
        if not isinstance(option, Template):
            continue
        walk = Walk(Outside(configuration, stranger, phase))
        reached: list[State] = []
        for state in states:
            reached += _after(walk, option, replace(state, steps=()))
        states = list(dict.fromkeys(reached))
        if not states:
            return None
        if phase is AclPhase.RCPT:
            steps = [step for step in states[0].steps if isinstance(step, Position)]
    return steps


def _after(walk: Walk, option: Template, state: State) -> list[State]:
    """Return the states in which an ACL that the option can name accepts."""
    outside = walk.outside
    found: list[State] = []
    texts: dict[str, None] = {}
    for values in outside.choices(option, state):
        try:
            texts[outside.text(option, outside.scope(state, values)) or ""] = None
        except ForcedFailure:
            found.append(state)  # as if the option were not set
    for text in texts:
        try:
            acl = find_text(outside.configuration, text, option.where)
        except ConfigError:
            continue
        if acl is not None:
            found += walk.run(acl, state).accepted
        elif text == "" and outside.phase is not AclPhase.RCPT:
            found.append(state)
    return found


def _finding(configuration: Configuration, stranger: Stranger, steps: list[Position]) -> Finding:
    one_file = len({step.file for step in steps}) < 2
    lines = ", ".join(str(step.line if one_file else step) for step in steps)
    kind = ""
    if stranger.name:
        kind = f", with a host name such as {stranger.name}"
    elif ":" in stranger.address:
        kind = ", by IPv6"
    if stranger.domain != STRANGERS[0].domain:
        kind = f" such as {stranger.domain}"
    return Finding(
        steps[-1] if steps else getattr(configuration.main.acl_smtp_rcpt, "where", None),
        "open relay: an unauthenticated outside host reaches this accept for a foreign domain"
        + kind
        + (f" by lines {lines}" if lines else ""),
        "accept only with domains, hosts or authenticated, or put before it: "
        "require domains = +local_domains",
    )


def _loopback_alone(configuration: Configuration) -> bool:
    """Tell whether nobody from outside can connect."""
    try:
        listeners = listen_on(configuration.main.local_interfaces, "25", "")
    except ConfigError:
        return False
    return all(ip_address(each.address).is_loopback for each in listeners)
